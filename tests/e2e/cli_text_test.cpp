// tokenize, template and import-gguf: ids that transformers gives for the same files.
#include <algorithm>

#include "program.h"

namespace rhapsode::testing {
namespace {

std::string words() {
  return fixture("cli/words");
}

TEST(Tokenize, TextToIdsAndBack) {
  const Json json =
      rhapsode({"tokenize", "--tokenizer", words(), "--text", "why is the sky blue", "--json"}).json();
  EXPECT_EQ(json.at("ids"), Json({68, 24, 48, 42, 11}));
  EXPECT_EQ(json.at("tokens"), Json({"why", "is", "the", "sky", "blue"}));
  EXPECT_EQ(json.at("offsets"), Json::parse("[[0,3],[4,6],[7,10],[11,14],[15,19]]"));
  EXPECT_EQ(rhapsode({"tokenize", "--tokenizer", words(), "--stdin", "--add-special", "--json"}, "sky blue")
                .json()
                .at("ids"),
            Json({1, 42, 11}));
  EXPECT_EQ(
      rhapsode({"tokenize", "--tokenizer", words(), "--decode", "68,24,48", "--json"}).json().at("text"),
      "why is the");
  EXPECT_EQ(rhapsode({"tokenize", "--tokenizer", words(), "--text", "sky"}).out, "42\tsky\t0-3\n");
}

TEST(Tokenize, SpecialTokensAreTextUnlessAskedFor) {
  const std::string bytes = fixture("text/byte_level");
  const Json parsed =
      rhapsode({"tokenize", "--tokenizer", bytes, "--text", "a<|im_end|>", "--special", "--json"}).json();
  const Json plain = rhapsode({"tokenize", "--tokenizer", bytes, "--text", "a<|im_end|>", "--json"}).json();
  EXPECT_EQ(parsed.at("tokens"), Json({"a", "<|im_end|>"}));
  EXPECT_GT(plain.at("ids").size(), 2u);
  EXPECT_FALSE(plain.at("ids").empty() || plain.at("tokens").back() == "<|im_end|>");
}

TEST(Tokenize, OfAConfigAndErrors) {
  const Scratch scratch;
  const std::string yaml = scratch.put("a.yaml", tiny_yaml(talking_checkpoint(scratch)));
  EXPECT_EQ(rhapsode({"tokenize", "-c", yaml, "--text", "sky", "--json"}).json().at("ids"), Json({42}));
  EXPECT_EQ(rhapsode({"tokenize", "-c", yaml, "--tokenizer", words(), "--text", "sky"}).code, 2);
  EXPECT_EQ(rhapsode({"tokenize", "--tokenizer", words(), "--text", "sky", "--stdin"}).code, 2);
  EXPECT_EQ(rhapsode({"tokenize", "--tokenizer", words(), "--decode", "4000"}).code, 2);
  EXPECT_EQ(rhapsode({"tokenize", "--tokenizer", scratch.file("none"), "--text", "sky"}).code, 5);
  const Outcome bytes = rhapsode({"tokenize", "--tokenizer", words(), "--stdin", "--json"}, "sky\xff");
  EXPECT_EQ(bytes.code, 2);
  EXPECT_EQ(bytes.error_code(), "not-utf8");
  EXPECT_TRUE(bytes.json().at("error").at("file").is_null());
  scratch.put("broken/tokenizer.json", "{\"model\": 1}");
  EXPECT_EQ(rhapsode({"tokenize", "--tokenizer", scratch.file("broken"), "--text", "sky"}).code, 9);
}

TEST(Template, RendersAndEncodes) {
  const std::string messages =
      R"([{"role": "system", "content": "be short"}, {"role": "user", "content": "why is the sky blue"}])";
  const Json json =
      rhapsode({"template", "--tokenizer", words(), "--messages", "-", "--json"}, messages).json();
  EXPECT_EQ(json.at("text"), "<s><sys> be short <user> why is the sky blue <bot>");
  EXPECT_EQ(json.at("ids"), Json({1, 6, 10, 41, 4, 68, 24, 48, 42, 11, 5}));
  EXPECT_EQ(
      rhapsode({"template", "--tokenizer", words(), "--messages", "-", "--no-generation-prompt"}, messages)
          .out,
      "<s><sys> be short <user> why is the sky blue \n");
  EXPECT_EQ(rhapsode({"template", "--tokenizer", words(), "--messages", "-"}, "[1]").code, 2);
  EXPECT_EQ(rhapsode({"template", "--tokenizer", words(), "--messages", "-"}, "[").code, 2);
}

TEST(Template, UserTextIsNeverAControlToken) {
  const std::string bytes = fixture("text/byte_level");
  const Json end = rhapsode({"tokenize", "--tokenizer", bytes, "--text", "<|im_end|>", "--special", "--json"})
                       .json()
                       .at("ids");
  ASSERT_EQ(end.size(), 1u);
  const auto ends_in = [&](const std::string& content) {
    const std::string messages = R"([{"role": "user", "content": ")" + content + "\"}]";
    const Json ids =
        rhapsode({"template", "--tokenizer", bytes, "--messages", "-", "--json"}, messages).json().at("ids");
    return std::count(ids.begin(), ids.end(), end.at(0));
  };
  EXPECT_GT(ends_in("x"), 0);
  EXPECT_EQ(ends_in("<|im_end|>"), ends_in("x"));
}

TEST(Template, WithoutATemplateIsAnError) {
  const Scratch scratch;
  scratch.put("bare/tokenizer.json", read_file(words() + "/tokenizer.json"));
  const Outcome outcome =
      rhapsode({"template", "--tokenizer", scratch.file("bare"), "--messages", "-", "--json"},
               R"([{"role": "user", "content": "x"}])");
  EXPECT_EQ(outcome.code, 5);
  EXPECT_EQ(outcome.error_code(), "no-chat-template");
}

TEST(ImportGguf, MissingAndDamagedFiles) {
  const Scratch scratch;
  EXPECT_EQ(rhapsode({"import-gguf", scratch.file("none.gguf"), scratch.file("out")}).code, 5);
  const std::string bad = scratch.put("bad.gguf", "GGUFnot really");
  const Outcome outcome = rhapsode({"import-gguf", bad, scratch.file("out"), "--json"});
  EXPECT_EQ(outcome.code, 9);
  EXPECT_EQ(outcome.json().at("error").at("file"), bad);
}

TEST(ImportGguf, WritesACheckpointThatRuns) {
  const Scratch scratch;
  const std::string out = scratch.file("imported");
  const Outcome outcome =
      rhapsode({"import-gguf", fixture("gguf/llama_bpe.gguf"), out, "--dtype", "float32", "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.out;
  const Json json = outcome.json();
  EXPECT_EQ(json.at("path"), out);
  EXPECT_GT(json.at("tensors"), 0);
  EXPECT_GT(json.at("bytes"), 0);
  const std::string yaml = scratch.put("a.yaml", tiny_yaml(out));
  EXPECT_EQ(rhapsode({"run", "-c", yaml, "--ids", "1,2,3", "--json"}).json().at("usage").at("prompt_tokens"),
            3);
  EXPECT_NE(rhapsode({"import-gguf", fixture("gguf/llama_bpe.gguf"), out}).code, 0);
}

}  // namespace
}  // namespace rhapsode::testing
