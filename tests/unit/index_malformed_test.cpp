// Malformed indexes and shards that contradict them, and the odd but valid ones.
#include <gtest/gtest.h>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "support/scratch.h"

namespace rhapsode {
namespace {

using testing::error_of;
using testing::Scratch;

void expect_complete(const std::optional<Error>& error, ErrorKind kind, const std::string& name) {
  ASSERT_TRUE(error) << name;
  EXPECT_EQ(error->kind, kind) << name << "\n" << error->to_text();
  EXPECT_FALSE(error->file.empty()) << name;
  EXPECT_FALSE(error->found.empty()) << name << "\n" << error->to_text();
  EXPECT_FALSE(error->expected.empty()) << name << "\n" << error->to_text();
  EXPECT_TRUE(is_utf8(error->to_text())) << name;
}

TEST(IndexMalformed, EveryBadTextIsRefused) {
  std::vector<std::string> texts{"",
                                 "{",
                                 "[]",
                                 "1",
                                 "null",
                                 "{}",
                                 R"({"weight_map":null})",
                                 R"({"weight_map":[]})",
                                 R"({"weight_map":{}})",
                                 R"({"weight_map":"a"})",
                                 R"({"weight_map":{"a":"s"},"weight_map":{"a":"s"}})",
                                 R"({"weight_map":{"a":"s","a":"t"}})",
                                 R"({"weight_map":{"a":"s","\u0061":"t"}})",
                                 R"({"weight_map":{"a":"s"}} x)",
                                 R"({"metadata":1,"weight_map":{"a":"s"}})",
                                 R"({"metadata":[],"weight_map":{"a":"s"}})",
                                 "{\"weight_map\":{\"\xff\":\"s\"}}",
                                 "\xef\xbb\xbf{\"weight_map\":{\"a\":\"s\"}}",
                                 std::string(100'000, '[')};
  for (const char* shard :
       {"1",           "null",       "[]",          "{}",       "true",          "\"\"",      "\"/a\"",
        "\"..\"",      "\"../a\"",   "\"a/../b\"",  "\"a/..\"", "\".\"",         "\"./a\"",   "\"a//b\"",
        "\"a/\"",      "\"a\\\\b\"", "\"C:\\\\a\"", "\"c:a\"",  "\"a\\u0000b\"", "\"a\\nb\"", "\"a/./b\"",
        "\"\\u007f\"", "\"/\"",      "\"//x/y\""})
    for (const char* position :
         {"{\"weight_map\":{\"a\":%,\"b\":\"s\"}}", "{\"weight_map\":{\"a\":\"s\",\"b\":%}}"}) {
      std::string text = position;
      texts.push_back(text.replace(text.find('%'), 1, shard));
    }
  texts.push_back("{\"weight_map\":{\"a\":\"" + std::string(2000, 'x') + "\"}}");
  for (const char* total :
       {"-1", "1.5", "\"12\"", "null", "[]", "{}", "true", "1e30", "18446744073709551616", "1e400"})
    texts.push_back(std::string("{\"metadata\":{\"total_size\":") + total +
                    "},\"weight_map\":{\"a\":\"s\"}}");
  RecordProperty("cases", static_cast<int>(texts.size()));
  EXPECT_GE(texts.size(), 60u);
  for (const std::string& text : texts)
    expect_complete(error_of([&] { parse_safetensors_index(text, "index.json"); }), ErrorKind::integrity,
                    text.substr(0, 100));
}

TEST(IndexMalformed, OddTextsAreAccepted) {
  for (const char* text :
       {R"({"weight_map":{"a":"s"}})", R"({"weight_map":{"":"s"}})",
        R"({"weight_map":{"a":"sub/dir/s.safetensors"}})", R"({"metadata":{},"weight_map":{"a":"s"}})",
        R"({"metadata":{"total_size":0},"weight_map":{"a":"s"}})",
        R"({"metadata":{"total_size":1e3,"total_parameters":1.5},"weight_map":{"a":"s"},"more":[1]})",
        R"({"weight_map":{"a":"..."}})", R"({"weight_map":{"a":"..s"}})",
        R"({"weight_map":{"é":"ü 1.safetensors"}})", "\n\t {\"weight_map\":{\"a\":\"s\"}}\r\n"})
    EXPECT_FALSE(error_of([&] { parse_safetensors_index(text, "index.json"); })) << text;
}

// Two shards with one tensor each, and an index of choice.
struct Shards {
  Scratch scratch;
  Shards() {
    put("s1", {"a"});
    put("s2", {"b"});
  }
  void put(const std::string& file, const std::vector<std::string>& names) const {
    std::vector<TensorToWrite> tensors;
    for (const std::string& name : names) tensors.push_back({name, Dtype::u8, {2}});
    write_safetensors(scratch.file(file), tensors, {}, [](size_t, std::span<std::byte> out) {
      std::fill(out.begin(), out.end(), std::byte{1});
    });
  }
  std::optional<Error> open(const std::string& index) const {
    scratch.put("model.safetensors.index.json", index);
    return error_of([&] { Checkpoint::open(scratch.path().string()); });
  }
};

TEST(IndexMalformed, ShardsThatContradictItAreRefused) {
  const std::string good = R"({"metadata":{"total_size":4},"weight_map":{"a":"s1","b":"s2"}})";
  EXPECT_FALSE(Shards().open(good));
  const auto refused = [&](const Shards& shards, const std::string& index, ErrorKind kind,
                           const std::string& code) {
    const auto error = shards.open(index);
    expect_complete(error, kind, code);
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code, code);
  };
  refused({}, R"({"weight_map":{"a":"s1","b":"s3"}})", ErrorKind::not_found, "shard-missing");
  refused({}, R"({"weight_map":{"a":"s1","b":"s2","c":"s2"}})", ErrorKind::integrity, "tensor-absent");
  refused({}, R"({"weight_map":{"a":"s2","b":"s1"}})", ErrorKind::integrity, "tensor-in-wrong-shard");
  refused({}, R"({"metadata":{"total_size":5},"weight_map":{"a":"s1","b":"s2"}})", ErrorKind::integrity,
          "wrong-total-size");
  refused({}, R"({"metadata":{"total_size":0},"weight_map":{"a":"s1","b":"s2"}})", ErrorKind::integrity,
          "wrong-total-size");
  Shards two;
  two.put("s2", {"a", "b"});
  refused(two, good, ErrorKind::integrity, "tensor-in-two-shards");
  Shards extra;
  extra.put("s2", {"b", "c"});
  refused(extra, good, ErrorKind::integrity, "tensor-not-in-index");
  Shards cycle;
  std::filesystem::remove(cycle.scratch.path() / "s2");
  std::filesystem::create_symlink("s2", cycle.scratch.path() / "s2");
  refused(cycle, good, ErrorKind::integrity, "link-cycle");
  std::filesystem::remove(cycle.scratch.path() / "s2");
  std::filesystem::create_symlink("x", cycle.scratch.path() / "s2");
  std::filesystem::create_symlink("s2", cycle.scratch.path() / "x");
  refused(cycle, good, ErrorKind::integrity, "link-cycle");
  Shards directory;
  std::filesystem::remove(directory.scratch.path() / "s2");
  std::filesystem::create_directory(directory.scratch.path() / "s2");
  refused(directory, good, ErrorKind::integrity, "not-a-file");
  Shards empty;
  empty.scratch.put("s2", "");
  refused(empty, good, ErrorKind::integrity, "file-truncated");
  Shards pickle;
  pickle.scratch.put("s2", std::string("PK\x03\x04\x14\x00\x08\x08\x08\x00", 10));
  refused(pickle, good, ErrorKind::unsupported, "pickle-checkpoint");
}

TEST(IndexMalformed, AShardCutAtEveryLengthIsRefused) {
  const Shards shards;
  const std::string whole = read_file(shards.scratch.file("s2"));
  for (size_t n = 0; n < whole.size(); n += 5) {
    shards.scratch.put("s2", whole.substr(0, n));
    const auto error = shards.open(R"({"weight_map":{"a":"s1","b":"s2"}})");
    expect_complete(error, ErrorKind::integrity, std::to_string(n));
    ASSERT_TRUE(error);
    EXPECT_TRUE(error->file.ends_with("/s2"));
  }
}

}  // namespace
}  // namespace rhapsode
