// Malformed GGUF files, generated: every count and length with every extreme value, alone and in pairs;
// truncations at every length; contradictions between metadata and tensors. And the odd but valid ones.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <ctime>
#include <functional>

#include "base/json.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_model.h"
#include "models/paths.h"
#include "support/scratch.h"

namespace rhapsode::gguf {
namespace {

using rhapsode::testing::error_of;
using rhapsode::testing::Scratch;

// Builds a file field by field and remembers where the counts and lengths stand.
class Builder {
 public:
  template <typename T>
  Builder& put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Builder& count(uint64_t value) {
    counts_.push_back(bytes_.size());
    return put(value);
  }
  Builder& text(std::string_view value) {
    count(value.size());
    bytes_.append(value);
    return *this;
  }
  Builder& head(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    bytes_ += "GGUF";
    return put(version).count(tensors).count(keys);
  }
  Builder& key(std::string_view name, uint32_t type) { return text(name).put(type); }
  Builder& tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
    text(name).put(static_cast<uint32_t>(dims.size()));
    for (const uint64_t d : dims) count(d);
    put(type);
    return count(offset);
  }
  Builder& data(uint64_t bytes, uint64_t alignment = 32) {
    bytes_.append((alignment - bytes_.size() % alignment) % alignment, '\0');
    bytes_.append(bytes, 'd');
    return *this;
  }
  const std::string& bytes() const { return bytes_; }
  const std::vector<size_t>& counts() const { return counts_; }

 private:
  std::string bytes_;
  std::vector<size_t> counts_;
};

std::optional<Error> parse_error(const std::string& bytes) {
  return error_of([&] {
    parse(
        [&](uint64_t offset, std::span<std::byte> out) {
          ASSERT_LE(offset + out.size(), bytes.size());
          if (!out.empty()) std::memcpy(out.data(), bytes.data() + offset, out.size());
        },
        bytes.size(), "some.gguf");
  });
}

void expect_complete(const std::optional<Error>& error, const std::string& name,
                     ErrorKind kind = ErrorKind::integrity) {
  ASSERT_TRUE(error) << name;
  EXPECT_EQ(error->kind, kind) << name << "\n" << error->to_text();
  EXPECT_FALSE(error->file.empty()) << name;
  EXPECT_FALSE(error->found.empty()) << name << "\n" << error->to_text();
  EXPECT_FALSE(error->expected.empty()) << name << "\n" << error->to_text();
  EXPECT_TRUE(is_utf8(error->to_text())) << name;
}

Builder good_file() {
  Builder b;
  b.head(3, 4).key("general.architecture", 8).text("llama").key("numbers", 9).put(uint32_t{4}).count(3);
  b.put(uint32_t{1})
      .put(uint32_t{2})
      .put(uint32_t{3})
      .key("words", 9)
      .put(uint32_t{8})
      .count(2)
      .text("a")
      .text("bc");
  b.key("x", 6).put(1.5f);
  b.tensor("first", {32, 2}, 8, 0).tensor("middle", {9}, 0, 96).tensor("last", {256}, 12, 160);
  return b.data(68).data(36).data(144);
}

constexpr uint64_t kExtremes[] = {0,
                                  1,
                                  2,
                                  255,
                                  65'536,
                                  (1u << 31) - 1,
                                  1u << 31,
                                  uint64_t{1} << 32,
                                  (uint64_t{1} << 63) - 1,
                                  uint64_t{1} << 63,
                                  UINT64_MAX - 1,
                                  UINT64_MAX};

TEST(GgufMalformed, TheGoodFileIsGood) {
  EXPECT_FALSE(parse_error(good_file().bytes()));
}

TEST(GgufMalformed, EveryCountWithEveryExtremeIsRefused) {
  const Builder good = good_file();
  size_t cases = 0;
  for (const size_t place : good.counts())
    for (const uint64_t value : kExtremes) {
      std::string bytes = good.bytes();
      if (std::memcmp(bytes.data() + place, &value, 8) == 0) continue;
      std::memcpy(bytes.data() + place, &value, 8);
      expect_complete(parse_error(bytes),
                      "count at " + std::to_string(place) + " = " + std::to_string(value));
      ++cases;
    }
  EXPECT_GE(cases, 200u);
}

TEST(GgufMalformed, PairsOfExtremesNeverCrash) {
  const Builder good = good_file();
  size_t refused = 0, cases = 0;
  for (size_t i = 0; i < good.counts().size(); ++i)
    for (size_t j = 0; j < i; ++j)
      for (const uint64_t a : kExtremes)
        for (const uint64_t b : {uint64_t{0}, uint64_t{1} << 31, uint64_t{1} << 63, UINT64_MAX}) {
          std::string bytes = good.bytes();
          std::memcpy(bytes.data() + good.counts()[i], &a, 8);
          std::memcpy(bytes.data() + good.counts()[j], &b, 8);
          ++cases;
          if (parse_error(bytes)) ++refused;
        }
  EXPECT_GE(refused, cases - 10);  // a pair may restore one count and leave the file valid
}

TEST(GgufMalformed, CutAnywhereIsRefused) {
  const std::string whole = good_file().bytes();
  for (size_t n = 0; n < whole.size(); ++n)
    expect_complete(parse_error(whole.substr(0, n)), "cut at " + std::to_string(n));
  for (const size_t extra : {17, 64, 5000})
    expect_complete(parse_error(whole + std::string(extra, 'x')), "trailing");
}

TEST(GgufMalformed, BadPreamblesAreRefused) {
  std::string bytes = good_file().bytes();
  for (const char* magic : {"GGUE", "ggml", "\0\0\0\0", "FUGG"}) {
    std::memcpy(bytes.data(), magic, 4);
    expect_complete(parse_error(bytes), magic);
  }
  std::memcpy(bytes.data(), "GGUF", 4);
  for (const uint32_t version : {0u, 4u, 99u, 0xffffffffu}) {
    std::memcpy(bytes.data() + 4, &version, 4);
    expect_complete(parse_error(bytes), "version");
  }
  for (const uint32_t version : {1u, 0x02000000u, 0x03000000u}) {
    std::memcpy(bytes.data() + 4, &version, 4);
    expect_complete(parse_error(bytes), "version", ErrorKind::unsupported);
  }
}

TEST(GgufMalformed, BadMetadataIsRefused) {
  const auto one_key = [](const std::function<void(Builder&)>& value) {
    Builder b;
    b.head(0, 1);
    value(b);
    return b.bytes();
  };
  std::vector<std::string> files;
  for (const uint32_t type : {13u, 14u, 255u, 0x80000000u})
    files.push_back(one_key([&](Builder& b) { b.key("k", type).put(uint64_t{0}); }));
  for (const uint8_t value : {uint8_t{2}, uint8_t{128}, uint8_t{255}})
    files.push_back(one_key([&](Builder& b) { b.key("k", 7).put(value); }));
  files.push_back(one_key([](Builder& b) { b.key("k", 8).text("\xff"); }));
  files.push_back(one_key([](Builder& b) { b.key("\xc0\x80", 0).put(uint8_t{0}); }));
  files.push_back(one_key([](Builder& b) { b.key("", 0).put(uint8_t{0}); }));
  files.push_back(one_key([](Builder& b) { b.key(std::string(65'536, 'k'), 0).put(uint8_t{0}); }));
  for (const uint32_t type : {13u, 255u})
    files.push_back(one_key([&](Builder& b) { b.key("k", 9).put(type).put(uint64_t{1}).put(uint64_t{0}); }));
  files.push_back(
      one_key([](Builder& b) { b.key("k", 9).put(uint32_t{7}).put(uint64_t{1}).put(uint8_t{2}); }));
  files.push_back(
      one_key([](Builder& b) { b.key("k", 9).put(uint32_t{10}).put(uint64_t{1}).put(UINT64_MAX); }));
  files.push_back(one_key(
      [](Builder& b) { b.key("k", 9).put(uint32_t{0}).put(uint64_t{1} << 23).data(uint64_t{1} << 23, 1); }));
  files.push_back(one_key([](Builder& b) {
    b.key("k", 9);
    for (int i = 0; i < 5; ++i) b.put(uint32_t{9}).put(uint64_t{1});
    b.put(uint32_t{0}).put(uint64_t{0});
  }));
  Builder twice;
  files.push_back(twice.head(0, 2).key("k", 0).put(uint8_t{0}).key("k", 0).put(uint8_t{0}).bytes());
  for (const uint32_t alignment : {0u, 3u, 33u, 0xffffffffu})
    files.push_back(one_key([&](Builder& b) { b.key("general.alignment", 4).put(alignment); }));
  files.push_back(one_key([](Builder& b) { b.key("general.alignment", 8).text("32"); }));
  for (size_t i = 0; i < files.size(); ++i) {
    // The alignment is used, and checked, only where there are tensors.
    std::string bytes = files[i];
    if (bytes.find("general.alignment") != std::string::npos) {
      bytes[8] = 1;
      Builder b;
      bytes += b.tensor("t", {1}, 0, 0).bytes();
      bytes += std::string(100, 'd');
    }
    expect_complete(parse_error(bytes), "metadata " + std::to_string(i));
  }
}

TEST(GgufMalformed, BadTensorsAreRefused) {
  const auto two = [](const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset, uint64_t data,
                      const char* name = "b") {
    Builder b;
    return b.head(2, 0).tensor("a", {8}, 0, 0).tensor(name, dims, type, offset).data(data).bytes();
  };
  EXPECT_FALSE(parse_error(two({8}, 0, 32, 64)));
  std::vector<std::string> files{two({8}, 0, 32, 64, "a"),
                                 two({8}, 0, 32, 63),
                                 two({8}, 0, 31, 64),
                                 two({8}, 0, 33, 65),
                                 two({8}, 0, 64, 96),
                                 two({8}, 0, 0, 64),
                                 two({33}, 8, 32, 200),
                                 two({31}, 2, 32, 64),
                                 two({16, 2}, 2, 32, 64),
                                 two({255}, 12, 32, 300),
                                 two({8}, 0, 1u << 31, 64),
                                 two({1, 1, 1, 1, 1}, 0, 32, 64),
                                 two({8}, 0, UINT64_MAX - 31, 64),
                                 two({8}, 0, uint64_t{1} << 63, 64),
                                 two({uint64_t{1} << 62, 4}, 0, 32, 64),
                                 two({uint64_t{1} << 32, uint64_t{1} << 32}, 0, 32, 64),
                                 two({uint64_t{1} << 61}, 0, 32, 64),
                                 two({UINT64_MAX}, 1, 32, 64),
                                 two({(uint64_t{1} << 63) + 8}, 0, 32, 64),
                                 two({32, uint64_t{1} << 59}, 8, 32, 64),
                                 two({8}, 0, 32, 64, "\xff")};
  for (size_t i = 0; i < files.size(); ++i)
    expect_complete(parse_error(files[i]), "tensor " + std::to_string(i));
  for (const uint32_t type : {4u, 5u, 31u, 36u, 100u, 0xffffffffu})
    expect_complete(parse_error(two({8}, type, 32, 64)), "type", ErrorKind::unsupported);
}

TEST(GgufOddities, AreAccepted) {
  std::vector<std::string> files;
  const auto add = [&](const std::function<void(Builder&)>& build) {
    Builder b;
    build(b);
    files.push_back(b.bytes());
  };
  add([](Builder& b) { b.head(0, 0); });
  add([](Builder& b) { b.head(0, 0, 2); });
  add([](Builder& b) { b.head(0, 1).key("k", 8).text(""); });
  add([](Builder& b) { b.head(0, 1).key("k", 9).put(uint32_t{8}).count(0); });
  add([](Builder& b) { b.head(0, 1).key("k", 10).put(UINT64_MAX); });
  add([](Builder& b) {
    b.head(0, 1)
        .key("k", 9)
        .put(uint32_t{9})
        .count(2)
        .put(uint32_t{0})
        .count(1)
        .put(uint8_t{5})
        .put(uint32_t{8})
        .count(1)
        .text("x");
  });
  for (uint32_t type = 0; type <= 12; ++type)
    if (type != 8 && type != 9)
      add([&](Builder& b) {
        b.head(0, 1).key("k", type);
        for (int i = 0; i < (type == 0 || type == 1 || type == 7 ? 1
                             : type <= 3                         ? 2
                             : type >= 10                        ? 8
                                                                 : 4);
             ++i)
          b.put(uint8_t{1});
      });
  add([](Builder& b) { b.head(1, 0).tensor("t", {}, 0, 0).data(4); });
  add([](Builder& b) { b.head(1, 0).tensor("t", {8}, 0, 0).data(32); });
  add([](Builder& b) { b.head(1, 0).tensor("t", {3}, 0, 0).data(12); });  // the last tensor is not padded
  add([](Builder& b) { b.head(1, 0).tensor("t", {3}, 0, 0).data(32); });  // or it is
  add([](Builder& b) { b.head(1, 0).tensor("t", {0}, 0, 0).data(0); });
  add([](Builder& b) {
    b.head(2, 0).tensor("b", {8}, 0, 32).tensor("a", {8}, 0, 0).data(64);
  });  // in another order
  add([](Builder& b) {
    b.head(1, 1).key("general.alignment", 4).put(uint32_t{1}).tensor("t", {3}, 24, 0).data(3, 1);
  });
  add([](Builder& b) {
    b.head(1, 1).key("general.alignment", 4).put(uint32_t{4096}).tensor("t", {3}, 24, 0).data(3, 4096);
  });
  add([](Builder& b) { b.head(1, 0).tensor("t", {2, 2, 2, 2}, 24, 0).data(16); });
  add([](Builder& b) { b.head(1, 0).tensor("", {1}, 24, 0).data(1); });
  for (const uint32_t type : {16u, 18u, 29u, 22u})
    add([&](Builder& b) { b.head(1, 0).tensor("t", {256}, type, 0).data(block_traits(type)->bytes); });
  for (size_t i = 0; i < files.size(); ++i) {
    const auto error = parse_error(files[i]);
    EXPECT_FALSE(error) << i << "\n" << (error ? error->to_text() : "");
  }
}

// Files that are well formed and contradict themselves as models.
TEST(GgufMalformed, ModelsThatContradictThemselvesAreRefused) {
  const std::string path = paths::fixtures() + "/gguf/llama_smollm.gguf";
  const std::string bytes = read_file(path);
  const File good =
      parse([&](uint64_t offset,
                std::span<std::byte> out) { std::memcpy(out.data(), bytes.data() + offset, out.size()); },
            bytes.size(), path);
  EXPECT_FALSE(error_of([&] { plan_model(good), build_tokenizer(good); }));
  size_t cases = 0;
  const auto refused = [&](const std::string& key, std::optional<Value> value,
                           ErrorKind kind = ErrorKind::integrity) {
    File file = good;
    file.metadata.erase(key);
    if (value) file.metadata.emplace(key, *value);
    expect_complete(error_of([&] { plan_model(file), build_tokenizer(file); }), key, kind);
    ++cases;
  };
  for (const char* key : {"llama.embedding_length", "llama.block_count", "llama.feed_forward_length",
                          "llama.attention.head_count", "llama.context_length"}) {
    refused(key, std::nullopt);
    refused(key, std::string("4"));
    refused(key, 4.0);
    for (const int64_t value : {int64_t{0}, int64_t{-1}, int64_t{1} << 31, INT64_MAX, INT64_MIN})
      refused(key, value);
    refused(key, uint64_t{1} << 63);
  }
  for (const char* key :
       {"llama.attention.head_count", "llama.attention.head_count_kv", "llama.embedding_length",
        "llama.feed_forward_length", "llama.block_count", "llama.vocab_size", "llama.rope.dimension_count"})
    refused(key, int64_t{3});
  for (const char* key : {"llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon"})
    for (const double value : {0.0, -1.0, HUGE_VAL, std::nan("")}) refused(key, value);
  refused("llama.attention.layer_norm_rms_epsilon", std::nullopt);
  for (const char* key : {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                          "tokenizer.ggml.padding_token_id", "tokenizer.ggml.unknown_token_id"})
    for (const int64_t value : {int64_t{-1}, int64_t{100'000}, INT64_MAX}) refused(key, value);
  refused("general.architecture", std::nullopt);
  refused("general.architecture", std::string("mamba"), ErrorKind::unsupported);
  refused("general.architecture", std::string(""), ErrorKind::unsupported);
  refused("tokenizer.ggml.model", std::nullopt);
  refused("tokenizer.ggml.model", std::string("bert"), ErrorKind::unsupported);
  refused("tokenizer.ggml.tokens", std::nullopt);
  refused("tokenizer.ggml.tokens", std::vector<std::string>{});
  refused("tokenizer.ggml.merges", std::vector<std::string>{"ab"});
  refused("tokenizer.ggml.merges", std::vector<std::string>{"a b c"});
  refused("tokenizer.ggml.merges", std::vector<std::string>{"qqq zzz"});
  refused("tokenizer.ggml.merges", std::vector<std::string>{""});
  refused("tokenizer.ggml.merges", std::nullopt);  // then scores are needed
  refused("tokenizer.ggml.token_type", std::string("x"));
  refused("tokenizer.ggml.add_bos_token", int64_t{1});
  refused("tokenizer.chat_template", int64_t{1});
  for (size_t i = 0; i < good.tensors.size(); ++i) {
    if (good.tensors[i].name == "output.weight") continue;
    File missing = good, misshaped = good, foreign = good;
    missing.tensors.erase(missing.tensors.begin() + static_cast<std::ptrdiff_t>(i));
    misshaped.tensors[i].shape.back() += 1;
    foreign.tensors[i].type = 16;
    expect_complete(error_of([&] { plan_model(missing); }), "missing");
    expect_complete(error_of([&] { plan_model(misshaped); }), "misshaped");
    expect_complete(error_of([&] { plan_model(foreign); }), "foreign", ErrorKind::unsupported);
    cases += 3;
  }
  EXPECT_GE(cases, 100u);
}

// A count of layers is a promise of tensors: it must not be believed before they are counted, for some
// families' config has an entry a layer.
TEST(GgufMalformed, MoreLayersThanTensorsCostNothing) {
  for (const char* name : {"gemma2", "gemma3", "qwen2", "qwen3", "phi3", "llama_smollm"}) {
    const std::string path = paths::fixtures() + "/gguf/" + std::string(name) + ".gguf";
    const std::string bytes = read_file(path);
    File file =
        parse([&](uint64_t offset,
                  std::span<std::byte> out) { std::memcpy(out.data(), bytes.data() + offset, out.size()); },
              bytes.size(), path);
    const std::string key = std::get<std::string>(file.metadata.at("general.architecture")) + ".block_count";
    for (const int64_t layers :
         {int64_t{INT32_MAX}, int64_t{100'000}, static_cast<int64_t>(file.tensors.size()) + 1}) {
      file.metadata[key] = layers;
      const auto error = error_of([&] { plan_model(file); });
      expect_complete(error, name);
      EXPECT_EQ(error->path, key) << name;
    }
  }
}

File parsed(const std::string& path) {
  const std::string bytes = read_file(path);
  return parse([&](uint64_t offset,
                   std::span<std::byte> out) { std::memcpy(out.data(), bytes.data() + offset, out.size()); },
               bytes.size(), path);
}

TEST(GgufMalformed, ATokenTooLongToCutIsRefused) {
  File file = parsed(paths::fixtures() + "/gguf/llama_spm.gguf");
  auto& tokens = std::get<std::vector<std::string>>(file.metadata.at("tokenizer.ggml.tokens"));
  tokens.back() = std::string(1024, 'a');
  EXPECT_FALSE(error_of([&] { build_tokenizer(file); }));
  tokens.back() = std::string(8 << 20, 'a');
  expect_complete(error_of([&] { build_tokenizer(file); }), "long token");
}

// A file of some hundred kilobytes would otherwise become merges of some hundred megabytes, and so on.
TEST(GgufMalformed, MergesThatMultiplyAreRefused) {
  File file = parsed(paths::fixtures() + "/gguf/gemma2.gguf");
  auto& tokens = std::get<std::vector<std::string>>(file.metadata.at("tokenizer.ggml.tokens"));
  const auto prefixes_of = [&](char c, size_t longest) {
    for (size_t n = 1; n <= longest; ++n) tokens.emplace_back(n, c);
  };
  prefixes_of('a', 256);
  EXPECT_GE(build_tokenizer(file).tokenizer["model"]["merges"].size(), 32640u);  // 1 + 2 + … + 255 ways
  prefixes_of('b', 1024);
  const auto error = error_of([&] { build_tokenizer(file); });
  expect_complete(error, "many merges");
  EXPECT_NE(error->message.find("too many merges"), std::string::npos) << error->message;
}

// Many tensors are looked up in a time that grows with their number, not with its square.
TEST(GgufMalformed, ManyTensorsArePlannedInLinearTime) {
  const std::string path = paths::fixtures() + "/gguf/llama_smollm.gguf";
  const std::string bytes = read_file(path);
  const File good =
      parse([&](uint64_t offset,
                std::span<std::byte> out) { std::memcpy(out.data(), bytes.data() + offset, out.size()); },
            bytes.size(), path);
  const auto seconds_of = [&](int64_t layers) {
    File file = good;
    file.metadata["llama.block_count"] = layers;
    for (const TensorEntry& tensor : good.tensors)
      for (int64_t i = 2; i < layers && tensor.name.starts_with("blk.0."); ++i) {
        file.tensors.push_back(tensor);
        file.tensors.back().name = "blk." + std::to_string(i) + tensor.name.substr(5);
      }
    const std::clock_t start = std::clock();  // processor time: the machine may be busy
    EXPECT_EQ(plan_model(file).tensors.size(), static_cast<size_t>(2 + 9 * layers));
    return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  };
  const double small = seconds_of(1000);
  const double large = seconds_of(8000);
  EXPECT_LT(large, 24 * small + 0.05);  // linear: 8; quadratic: 64
}

}  // namespace
}  // namespace rhapsode::gguf
