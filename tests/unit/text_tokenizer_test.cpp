// The tokenizer against what transformers did with the same directories (tools/golden/text_fixtures.py), and
// its refusals.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "models/paths.h"
#include "support/scratch.h"
#include "text/tokenizer.h"

namespace rhapsode::text {
namespace {

const std::string kFixtures = paths::fixtures() + "/text/";
using Ids = std::vector<uint32_t>;

class TokenizerGolden : public ::testing::TestWithParam<const char*> {
 protected:
  TokenizerGolden()
      : tokenizer_(Tokenizer::load(kFixtures + GetParam())),
        golden_(read_json_file(kFixtures + GetParam() + "/golden.json")) {}
  Tokenizer tokenizer_;
  Json golden_;
};

TEST_P(TokenizerGolden, IdsEqualTransformers) {
  EXPECT_EQ(tokenizer_.vocab_size(), golden_["size"].get<uint64_t>());
  ASSERT_GE(golden_["encode"].size(), 90U);
  for (const Json& entry : golden_["encode"]) {
    const std::string text = entry["text"];
    EXPECT_EQ(tokenizer_.encode(text, {.parse_special = true}).ids, entry["special"].get<Ids>()) << text;
    EXPECT_EQ(tokenizer_.encode(text, {}).ids, entry["plain"].get<Ids>()) << text;
    EXPECT_EQ(tokenizer_.encode(text, {.parse_special = true, .add_special = true}).ids,
              entry["added"].get<Ids>())
        << text;
  }
}

TEST_P(TokenizerGolden, TextEqualsTransformers) {
  for (const Json& entry : golden_["decode"]) {
    const Ids ids = entry["ids"];
    EXPECT_EQ(tokenizer_.decode(ids, false), entry["all"].get<std::string>());
    EXPECT_EQ(tokenizer_.decode(ids, true), entry["visible"].get<std::string>());
  }
}

TEST_P(TokenizerGolden, OffsetsAreBytesOfTheText) {
  for (const Json& entry : golden_["encode"]) {
    const std::string text = entry["text"];
    const Encoding encoding = tokenizer_.encode(text, {.parse_special = true});
    ASSERT_EQ(encoding.offsets.size(), encoding.ids.size());
    ASSERT_EQ(encoding.tokens.size(), encoding.ids.size());
    for (const auto& [begin, end] : encoding.offsets) {
      EXPECT_LE(begin, end);
      EXPECT_LE(end, text.size());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, TokenizerGolden, ::testing::Values("byte_level", "metaspace", "prepend"));

TEST(Tokenizer, NamesItsTokens) {
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "byte_level");
  EXPECT_EQ(tokenizer.named_token("bos_token"), "<s>");
  EXPECT_EQ(tokenizer.named_token("pad_token"), "<|pad|>");
  EXPECT_EQ(tokenizer.named_token("mask_token"), std::nullopt);
  const auto bos = tokenizer.named_token_id("bos_token");
  ASSERT_TRUE(bos.has_value());
  EXPECT_EQ(tokenizer.token_of(*bos), "<s>");
  EXPECT_TRUE(tokenizer.is_special(*bos));
  EXPECT_FALSE(tokenizer.is_special(*tokenizer.id_of("<think>")));
  EXPECT_EQ(tokenizer.id_of("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer.token_of(4'000'000), std::nullopt);
}

TEST(Tokenizer, UnknownIdIsUsage) {
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "byte_level");
  const Ids ids = {1, 4'000'000};
  try {
    tokenizer.decode(ids, false);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::usage);
    EXPECT_EQ(error.found, "4000000");
  }
}

TEST(Tokenizer, TextThatIsNoUtf8IsRefused) {
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "byte_level");
  EXPECT_THROW(tokenizer.encode("\xff\xfe", {}), Error);
}

TEST(Tokenizer, AMegabyteOfOneClassComesBack) {
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "byte_level");
  const std::string spaces(size_t{1} << 20, ' ');
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(spaces, {}).ids, false), spaces);
}

// LlamaTokenizer splits with a Metaspace of its own (ids by transformers); the families that use the file do
// not.
TEST(Tokenizer, TheLlamaClassBuildsItsOwnPipeline) {
  const rhapsode::testing::Scratch scratch;
  scratch.put("tokenizer.json", read_file(kFixtures + "prepend/tokenizer.json"));
  const auto ids = [&](const char* config, const char* model_type, const char* text) {
    scratch.put("tokenizer_config.json", config);
    scratch.put("config.json", std::string(R"({"model_type":")") + model_type + "\"}");
    return Tokenizer::load(scratch.path().string()).encode(text, {true, false}).ids;
  };
  using Ids = std::vector<uint32_t>;
  const char* modern = R"({"tokenizer_class":"LlamaTokenizerFast"})";
  const char* legacy = R"({"tokenizer_class":"LlamaTokenizer","legacy":true})";
  const char* plain = R"({"tokenizer_class":"PreTrainedTokenizerFast"})";
  EXPECT_EQ(ids(modern, "llama", "  the ship"), (Ids{331, 303, 333, 388, 293, 300}));
  EXPECT_EQ(ids(modern, "mistral", "  the ship"), (Ids{331, 340, 388, 293, 300}));
  EXPECT_EQ(ids(plain, "llama", "  the ship"), (Ids{331, 340, 388, 293, 300}));
  EXPECT_EQ(ids(modern, "llama", "the <s>ship"), (Ids{340, 1, 388, 293, 300}));
  EXPECT_EQ(ids(legacy, "llama", "the <s>ship"), (Ids{340, 1, 361, 292, 293, 300}));
}

// A minimal tokenizer.json, to be broken.
Json minimal() {
  return Json::parse(R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[
    {"id":3,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
    "normalizer":null,"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,
    "model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,
    "fuse_unk":false,"byte_fallback":false,"vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}})");
}

std::string integrity_of(const std::string& bytes) {
  try {
    Tokenizer::from_bytes(bytes, "broken.json");
  } catch (const Error& error) {
    EXPECT_TRUE(error.kind == ErrorKind::integrity || error.kind == ErrorKind::unsupported)
        << error.to_text();
    EXPECT_EQ(error.file, "broken.json");
    EXPECT_FALSE(error.message.empty());
    return error.to_text();
  }
  return {};
}

TEST(TokenizerRefusal, TheMinimalOneIsGood) {
  EXPECT_EQ(integrity_of(minimal().dump()), "");
  EXPECT_EQ(Tokenizer::from_bytes(minimal().dump(), "f").encode("ab a<s>", {.parse_special = true}).ids,
            (Ids{2, 0, 3}));
}

TEST(TokenizerRefusal, EveryCutOfTheFile) {
  const std::string whole = minimal().dump();
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_NE(integrity_of(whole.substr(0, size)), "") << size;
}

// A place in tokenizer.json and what stands there instead.
const std::vector<std::pair<std::string, std::string>> kSenseless = {
    {"/model/vocab/a", "-1"},
    {"/model/vocab/a", "1"},
    {"/model/vocab/a", "2147483647"},
    {"/model/vocab/a", "4294967296"},
    {"/model/vocab/a", "1e30"},
    {"/model/vocab/a", "0.5"},
    {"/model/vocab/a", "\"0\""},
    {"/model/vocab/a", "null"},
    {"/model/vocab", "{}"},
    {"/model/vocab", "[]"},
    {"/model/vocab", "null"},
    {"/model/vocab", "7"},
    {"/model/vocab", "[[\"a\"]]"},
    {"/model/vocab", "[[\"a\",\"b\"]]"},
    {"/model/vocab", "[[1,2]]"},
    {"/model/merges", "null"},
    {"/model/merges", "7"},
    {"/model/merges", "[[\"a\",\"zz\"]]"},
    {"/model/merges", "[[\"a\"]]"},
    {"/model/merges", "[[\"b\",\"a\"]]"},
    {"/model/merges", "[\"a\"]"},
    {"/model/merges", "[\"a b c\"]"},
    {"/model/merges", "[7]"},
    {"/model/merges", "[[1,2]]"},
    {"/model/merges", "[\"\"]"},
    {"/model/merges", "{\"a\":\"b\"}"},
    {"/model/type", "\"Magic\""},
    {"/model/type", "7"},
    {"/model/type", "null"},
    {"/model/type", "\"Unigram\""},
    {"/model/dropout", "0.5"},
    {"/model/dropout", "\"x\""},
    {"/model/dropout", "7"},
    {"/model/fuse_unk", "\"yes\""},
    {"/model/byte_fallback", "3"},
    {"/model/unk_token", "{}"},
    {"/model", "null"},
    {"/model", "[]"},
    {"/model", "{}"},
    {"/model", "\"BPE\""},
    {"/added_tokens", "7"},
    {"/added_tokens", "{\"a\":1}"},
    {"/added_tokens/0", "7"},
    {"/added_tokens/0", "{}"},
    {"/added_tokens/0/content", "\"\""},
    {"/added_tokens/0/content", "null"},
    {"/added_tokens/0/content", "[]"},
    {"/added_tokens/0/id", "-1"},
    {"/added_tokens/0/id", "0"},
    {"/added_tokens/0/id", "2147483647"},
    {"/added_tokens/0/id", "5"},
    {"/added_tokens/0/id", "1.5"},
    {"/added_tokens/0/id", "\"3\""},
    {"/added_tokens/0/special", "\"yes\""},
    {"/added_tokens/0/lstrip", "null"},
    {"/added_tokens/0/normalized", "7"},
    {"/normalizer", "7"},
    {"/normalizer", "{\"type\":\"Magic\"}"},
    {"/normalizer", "{\"type\":\"Prepend\"}"},
    {"/normalizer", "{\"type\":\"Prepend\",\"prepend\":\"\"}"},
    {"/normalizer", "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"!!\"}"},
    {"/normalizer", "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}"},
    {"/normalizer", "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////wAA\"}"},
    {"/normalizer", "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"a\"}"},
    {"/normalizer", "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"a\"}"},
    {"/normalizer", "{\"type\":\"Replace\",\"content\":\"a\"}"},
    {"/normalizer", "{\"type\":\"Sequence\"}"},
    {"/normalizer", "{\"type\":\"Sequence\",\"normalizers\":[7]}"},
    {"/normalizer", "{\"type\":\"Strip\"}"},
    {"/pre_tokenizer", "7"},
    {"/pre_tokenizer", "{\"type\":\"Magic\"}"},
    {"/pre_tokenizer", "{\"type\":\"FixedLength\",\"length\":0}"},
    {"/pre_tokenizer", "{\"type\":\"FixedLength\"}"},
    {"/pre_tokenizer", "{\"type\":\"FixedLength\",\"length\":-1}"},
    {"/pre_tokenizer",
     "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[\"},\"behavior\":\"Isolated\",\"invert\":false}"},
    {"/pre_tokenizer",
     "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?<name\"},\"behavior\":\"Isolated\",\"invert\":false}"},
    {"/pre_tokenizer",
     "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\1\"},\"behavior\":\"Isolated\",\"invert\":false}"},
    {"/pre_tokenizer",
     "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a{2,1}{9999999}\"},\"behavior\":\"Isolated\",\"invert\":"
     "false}"},
    {"/pre_tokenizer",
     "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Sideways\",\"invert\":false}"},
    {"/pre_tokenizer",
     "{\"type\":\"Split\",\"pattern\":{\"Magic\":\"a\"},\"behavior\":\"Isolated\",\"invert\":false}"},
    {"/pre_tokenizer",
     "{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},\"behavior\":\"Isolated\",\"invert\":false}"},
    {"/pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"\"}"},
    {"/pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"},
    {"/pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"often\"}"},
    {"/pre_tokenizer",
     "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\",\"add_prefix_space\":"
     "false}"},
    {"/pre_tokenizer", "{\"type\":\"Sequence\",\"pretokenizers\":7}"},
    {"/post_processor", "7"},
    {"/post_processor", "{\"type\":\"Magic\"}"},
    {"/post_processor",
     "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<x>\",\"type_id\":0}}],"
     "\"pair\":[],\"special_tokens\":{}}"},
    {"/post_processor",
     "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<x>\",\"type_id\":0}}],"
     "\"pair\":[],\"special_tokens\":{\"<x>\":{\"id\":\"<x>\",\"ids\":[99],\"tokens\":[\"<x>\"]}}}"},
    {"/post_processor", "{\"type\":\"BertProcessing\",\"sep\":[\"x\",99],\"cls\":[\"y\",0]}"},
    {"/post_processor", "{\"type\":\"BertProcessing\"}"},
    {"/post_processor",
     "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"RobertaProcessing\",\"sep\":[\"x\",9],\"cls\":["
     "\"y\",1],\"trim_offsets\":true,\"add_prefix_space\":true}]}"},
    {"/decoder", "7"},
    {"/decoder", "{\"type\":\"Magic\"}"},
    {"/decoder", "{\"type\":\"Sequence\"}"},
    {"/decoder", "{\"type\":\"Strip\"}"},
    {"/decoder", "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"*\"},\"content\":\"\"}"},
    {"/truncation", "{\"direction\":\"Right\",\"max_length\":4,\"strategy\":\"LongestFirst\",\"stride\":4}"},
    {"/truncation", "{\"direction\":\"Right\",\"max_length\":0,\"strategy\":\"LongestFirst\",\"stride\":0}"},
    {"/truncation", "7"},
    {"/padding", "7"},
    {"/padding", "{\"strategy\":\"Sideways\"}"},
    {"", "7"},
    {"", "[]"},
    {"", "null"},
    {"", "\"x\""}};

TEST(TokenizerRefusal, ValuesThatMakeNoSense) {
  EXPECT_GE(kSenseless.size(), 100U);
  for (const auto& [pointer, value] : kSenseless) {
    Json broken = minimal();
    broken[Json::json_pointer(pointer)] = Json::parse(value);
    EXPECT_NE(integrity_of(broken.dump()), "") << pointer << " = " << value;
  }
}

TEST(TokenizerRefusal, WhatGrowsBeyondBounds) {
  Json deep = minimal();
  std::string chain = "[";
  for (int i = 0; i < 100'000; ++i) chain += R"({"type":"NFC"},)";
  deep["normalizer"] = Json::parse(R"({"type":"Sequence","normalizers":)" + chain + R"({"type":"NFC"}]})");
  EXPECT_NE(integrity_of(deep.dump()).find("too many processing steps"), std::string::npos);

  std::string nested;
  for (int i = 0; i < 100'000; ++i) nested += R"({"type":"Sequence","normalizers":[)";
  EXPECT_NE(integrity_of(R"({"model":{},"normalizer":)" + nested), "");

  Json growing = minimal();
  growing["normalizer"] = Json::parse(R"({"type":"Sequence","normalizers":[]})");
  for (int i = 0; i < 20; ++i)
    growing["normalizer"]["normalizers"].push_back(
        Json::parse(R"({"type":"Replace","pattern":{"String":"a"},"content":"aaaaaaaa"})"));
  EXPECT_NE(integrity_of(growing.dump()).find("grow"), std::string::npos);

  Json long_token = minimal();
  long_token["added_tokens"][0]["content"] = std::string(1 << 20, 'x');
  EXPECT_NE(integrity_of(long_token.dump()), "");

  EXPECT_NE(integrity_of(R"({"model":{"type":"BPE"},"model":{"type":"BPE"}})").find("duplicate key"),
            std::string::npos);
  EXPECT_NE(integrity_of("{\n  \"a\": }").find("broken.json:2:"), std::string::npos);
  EXPECT_NE(integrity_of("\xff\xfe{}"), "");
}

TEST(TokenizerRefusal, ARegexThatBacktracksWithoutEndIsAnError) {
  Json evil = minimal();
  evil["pre_tokenizer"] =
      Json::parse(R"({"type":"Split","pattern":{"Regex":"(a+)+$"},"behavior":"Isolated","invert":false})");
  const Tokenizer tokenizer = Tokenizer::from_bytes(evil.dump(), "evil.json");
  try {
    tokenizer.encode(std::string(40, 'a') + "!", {});
    FAIL() << "40 letters that the pattern cannot match were matched";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::integrity);
  }
}

}  // namespace
}  // namespace rhapsode::text
