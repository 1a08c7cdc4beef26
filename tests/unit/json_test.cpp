#include "base/json.h"

#include <gtest/gtest.h>

#include "support/scratch.h"

namespace rhapsode {
namespace {

using testing::error_of;
using testing::Scratch;

std::optional<Error> parse_error(std::string_view text) {
  return error_of([&] { parse_json(text, "x.json"); });
}

TEST(Json, ReadsWhatJsonIs) {
  const Json tree = parse_json(
      R"( {"a": [1, -2, 0.5, true, null, "é\u00e9\ud83d\ude00"], "": {"b": {}}, "n": 18446744073709551615} )",
      "x");
  EXPECT_EQ(tree["a"], Json::parse(R"([1,-2,0.5,true,null,"éé😀"])"));
  EXPECT_EQ(tree[""]["b"], Json::object());
  EXPECT_EQ(tree["n"].get<uint64_t>(), UINT64_MAX);
  EXPECT_EQ(parse_json("3", "x"), 3);
  EXPECT_EQ(parse_json("[[],[[]],{}]", "x").dump(), "[[],[[]],{}]");
}

TEST(Json, NamesThePlaceOfAnError) {
  const auto error = parse_error("{\n  \"a\": 1,\n  \"b\" 2}");
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, "bad-json");
  EXPECT_EQ(error->file, "x.json");
  EXPECT_EQ(error->line, 3u);
  EXPECT_EQ(error->column, 7u);
  EXPECT_EQ(error->kind, ErrorKind::integrity);
  EXPECT_FALSE(error->found.empty());
  EXPECT_FALSE(error->expected.empty());
}

TEST(Json, RefusesDuplicateKeysHoweverSpelled) {
  for (const char* text :
       {R"({"a":1,"a":2})", R"({"a":1,"\u0061":2})", R"({"":1,"":2})", R"([{"x":{"é":1,"\u00e9":1}}])"}) {
    const auto error = parse_error(text);
    ASSERT_TRUE(error) << text;
    EXPECT_EQ(error->code, "duplicate-key") << text;
    EXPECT_FALSE(error->found.empty()) << text;
  }
  const auto error = parse_error("{\"a\":1,\n\"\\u0061\":2}");
  EXPECT_EQ(error->line, 2u);
  EXPECT_EQ(error->column, 1u);
  EXPECT_EQ(error->path, "/a");
}

TEST(Json, RefusesDuplicateKeysOfLargeObjects) {
  std::string text = "{";
  for (int i = 0; i < 100; ++i) text += "\"k" + std::to_string(i) + "\":0,";
  EXPECT_FALSE(parse_error(text + "\"k100\":0}"));
  for (const char* key : {"k0", "k15", "k16", "k99"}) {
    const auto error = parse_error(text + "\"" + key + "\":0}");
    ASSERT_TRUE(error) << key;
    EXPECT_EQ(error->code, "duplicate-key");
  }
}

TEST(Json, LimitsDepth) {
  EXPECT_FALSE(parse_error(std::string(64, '[') + std::string(64, ']')));
  EXPECT_TRUE(parse_error(std::string(65, '[') + std::string(65, ']')));
  EXPECT_TRUE(parse_error(std::string(1'000'000, '[')));
  std::string objects;
  for (int i = 0; i < 65; ++i) objects += "{\"a\":";
  const auto error = parse_error(objects);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->message, "the text is nested too deeply");
}

TEST(Json, RefusesWhatJsonIsNot) {
  const std::string nul("{\"a\0\":1}", 8), nul_behind("{}\0x", 4), nul_padding("{}\0\0", 4),
      only_nul(1, '\0');
  for (const std::string& text : {std::string(""),
                                  std::string(" "),
                                  std::string("{"),
                                  std::string("{\"a\":1,}"),
                                  std::string("[1,]"),
                                  std::string("NaN"),
                                  std::string("[Infinity]"),
                                  std::string("1e400"),
                                  std::string("[-1e999]"),
                                  std::string("01"),
                                  std::string("+1"),
                                  std::string("1."),
                                  std::string("{} {}"),
                                  std::string("{}x"),
                                  std::string("// c\n{}"),
                                  std::string("'a'"),
                                  std::string("\"\\x\""),
                                  std::string("\"\\ud800\""),
                                  std::string("\"\xff\""),
                                  std::string("\"\xc0\x80\""),
                                  std::string("\"\xed\xa0\x80\""),
                                  std::string("\xef\xbb\xbf{}"),
                                  std::string("{\"a\":1,\"b\"}"),
                                  std::string("{1:2}"),
                                  nul,
                                  std::string("\"a\nb\""),
                                  std::string("tru"),
                                  std::string("\"open"),
                                  nul_behind,
                                  nul_padding,
                                  only_nul}) {
    const auto error = parse_error(text);
    ASSERT_TRUE(error) << text;
    EXPECT_EQ(error->code, "bad-json") << text;
    EXPECT_GT(error->line, 0u) << text;
    EXPECT_FALSE(error->found.empty()) << text;
    EXPECT_FALSE(error->expected.empty()) << text;
    EXPECT_TRUE(is_utf8(error->to_text())) << text;
  }
}

TEST(Json, LimitsLength) {
  const auto error = error_of([] { parse_json("[1,2,3]", "x", ErrorKind::config, {.max_bytes = 6}); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind, ErrorKind::config);
}

TEST(Json, ExcerptsAreShortAndPrintable) {
  EXPECT_EQ(excerpt("plain é"), "plain é");
  EXPECT_EQ(excerpt(std::string_view("a\0\n\x1b\xff\x7f", 6)), "a\\x00\\x0a\\x1b\\xff\\x7f");
  EXPECT_EQ(excerpt("\xc2\x9b"
                    "31m"),
            "\\xc2\\x9b31m");
  const std::string shortened = excerpt(std::string(100'000, 'x'));
  EXPECT_LT(shortened.size(), 160u);
  EXPECT_NE(shortened.find("99880 bytes"), std::string::npos) << shortened;
  std::string accents;
  for (int i = 0; i < 500; ++i) accents += "é";
  EXPECT_TRUE(is_utf8(excerpt(accents, 101)));
  EXPECT_EQ(excerpt(accents, 101).find("\\x"), std::string::npos);
}

TEST(Json, Utf8IsChecked) {
  EXPECT_TRUE(is_utf8("aé€😀"));
  for (const char* bad : {"\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3"})
    EXPECT_FALSE(is_utf8(bad));
}

TEST(Files, AreReadWholeAndWrittenAtOnce) {
  const Scratch scratch;
  const std::string file = scratch.file("a.json");
  write_file_atomically(file, "{\"a\": 1}");
  EXPECT_EQ(read_json_file(file)["a"], 1);
  write_file_atomically(file, std::string_view("\0\xff", 2));
  EXPECT_EQ(read_file(file), std::string("\0\xff", 2));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(scratch.path()), {}),
            1);  // nothing temporary stays
  EXPECT_EQ(error_of([&] { read_file(scratch.file("none")); })->kind, ErrorKind::not_found);
  EXPECT_TRUE(error_of([&] { read_file(scratch.path().string()); }));
  EXPECT_EQ(error_of([&] { read_file(file, 1); })->code, "file-too-large");
  EXPECT_TRUE(error_of([&] { write_file_atomically(scratch.file("no/dir"), "x"); }));
}

}  // namespace
}  // namespace rhapsode
