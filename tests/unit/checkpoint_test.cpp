#include "checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/json.h"
#include "support/scratch.h"

namespace rhapsode {
namespace {

using testing::error_of;
using testing::Scratch;

// A shard with one f32 tensor [n] a name, filled with its number.
void put_shard(const Scratch& scratch, const std::string& file, const std::vector<std::string>& names,
               uint64_t n = 2) {
  std::vector<TensorToWrite> tensors;
  for (const std::string& name : names) tensors.push_back({name, Dtype::f32, {n}});
  write_safetensors(scratch.file(file), tensors, {}, [&](size_t i, std::span<std::byte> out) {
    for (size_t k = 0; k < out.size() / 4; ++k) {
      const float value = static_cast<float>(i);
      std::memcpy(out.data() + 4 * k, &value, 4);
    }
  });
}

Checkpoint open(const Scratch& scratch) {
  return Checkpoint::open(scratch.path().string());
}

TEST(Checkpoint, OpensOneFile) {
  const Scratch scratch;
  put_shard(scratch, "model.safetensors", {"a", "b"});
  const Checkpoint checkpoint = open(scratch);
  ASSERT_NE(checkpoint.find("b"), nullptr);
  EXPECT_EQ(checkpoint.find("c"), nullptr);
  EXPECT_EQ(checkpoint.total_bytes(), 16u);
  float value = -1;
  checkpoint.read(*checkpoint.find("b"), 4, std::as_writable_bytes(std::span(&value, 1)));
  EXPECT_EQ(value, 1.0f);
  std::array<std::byte, 5> five;
  EXPECT_TRUE(error_of([&] { checkpoint.read(*checkpoint.find("b"), 4, five); }));
  EXPECT_TRUE(error_of([&] { checkpoint.read(*checkpoint.find("b"), UINT64_MAX, five); }));
}

TEST(Checkpoint, OpensShardsInSubfoldersAndThroughLinks) {
  const Scratch scratch;
  std::filesystem::create_directories(scratch.path() / "sub");
  put_shard(scratch, "sub/one.safetensors", {"a"});
  put_shard(scratch, "blob", {"b"});
  std::filesystem::create_symlink("blob", scratch.path() / "two.safetensors");
  scratch.put(
      "model.safetensors.index.json",
      R"({"metadata":{"total_size":16.0},"weight_map":{"a":"sub/one.safetensors","b":"two.safetensors"}})");
  const Checkpoint checkpoint = open(scratch);
  EXPECT_EQ(checkpoint.shards().size(), 2u);
  EXPECT_EQ(checkpoint.tensors().size(), 2u);
  EXPECT_NE(checkpoint.find("a")->shard, checkpoint.find("b")->shard);
}

TEST(Checkpoint, AForeignTypeHarmsOnlyWhoAsksForIt) {
  const Scratch scratch;
  const std::string header =
      R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})";
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(header.size());
  scratch.put("model.safetensors", bytes + header + "xy");
  const Checkpoint checkpoint = open(scratch);
  EXPECT_NE(checkpoint.find("b"), nullptr);
  EXPECT_EQ(checkpoint.foreign_tensors().count("a"), 1u);
  const auto error = error_of([&] { checkpoint.find("a"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind, ErrorKind::unsupported);
  EXPECT_EQ(error->found, "F4");
}

TEST(Checkpoint, SaysWhatLiesThereInstead) {
  struct Case {
    const char* name;
    std::string bytes;
    ErrorKind kind;
    const char* code;
  };
  const std::string pickle(
      "\x80\x02}q\x00X\x03\x00\x00\x00"
      "abc",
      13);
  const std::string zip("PK\x03\x04\x00\x00\x08\x08\x00\x00", 10);
  for (const Case& c :
       {Case{"pytorch_model.bin", zip, ErrorKind::unsupported, "pickle-checkpoint"},
        Case{"model.pt", pickle, ErrorKind::unsupported, "pickle-checkpoint"},
        Case{"pytorch_model.bin", "PK", ErrorKind::unsupported, "pickle-checkpoint"},
        Case{"pytorch_model.bin.index.json", "{}", ErrorKind::unsupported, "pickle-checkpoint"},
        Case{"model.safetensors", zip, ErrorKind::unsupported, "pickle-checkpoint"},
        Case{"model.safetensors", pickle, ErrorKind::unsupported, "pickle-checkpoint"},
        Case{"model.gguf", "GGUF\x03", ErrorKind::unsupported, "gguf-checkpoint"},
        Case{"model.safetensors", "GGUF\x03", ErrorKind::unsupported, "gguf-checkpoint"},
        Case{"model.safetensors", "version https://git-lfs.github.com/spec/v1\noid", ErrorKind::integrity,
             "lfs-pointer"},
        Case{"other.safetensors", "x", ErrorKind::not_found, "no-weights"},
        Case{"config.json", "{}", ErrorKind::not_found, "no-weights"}}) {
    const Scratch scratch;
    scratch.put(c.name, c.bytes);
    const auto error = error_of([&] { open(scratch); });
    ASSERT_TRUE(error) << c.name;
    EXPECT_EQ(error->kind, c.kind) << c.name;
    EXPECT_EQ(error->code, c.code) << c.name;
    EXPECT_FALSE(error->file.empty());
  }
  EXPECT_EQ(error_of([] { Checkpoint::open("/no/such/directory"); })->kind, ErrorKind::not_found);
}

TEST(Checkpoint, AFileThatShrinksWhileOpenIsAnError) {
  const Scratch scratch;
  put_shard(scratch, "model.safetensors", {"a"}, 4096);
  const Checkpoint checkpoint = open(scratch);
  std::filesystem::resize_file(scratch.path() / "model.safetensors", 4096);
  std::vector<std::byte> out(4 * 4096);
  const auto error = error_of([&] { checkpoint.read(*checkpoint.find("a"), 0, out); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, "file-truncated");
}

}  // namespace
}  // namespace rhapsode
