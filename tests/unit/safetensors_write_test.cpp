#include <gtest/gtest.h>

#include <cstring>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "models/paths.h"
#include "support/scratch.h"

namespace rhapsode {
namespace {

using testing::error_of;
using testing::Scratch;

TEST(SafetensorsWrite, EqualsTheReferenceWriterByteForByte) {
  const Scratch scratch;
  const std::string reference = read_file(paths::fixtures() + "/safetensors/reference.safetensors");
  std::vector<TensorInfo> infos =
      parse_safetensors_header(std::as_bytes(std::span(reference)), reference.size(), "reference");
  std::vector<TensorToWrite> tensors;
  for (const TensorInfo& info : infos) tensors.push_back({info.name, info.dtype, info.shape});
  const std::string file = scratch.file("model.safetensors");
  write_safetensors(file, tensors, {{"format", "pt"}}, [&](size_t i, std::span<std::byte> out) {
    ASSERT_EQ(out.size(), infos[i].length_bytes);
    if (!out.empty()) std::memcpy(out.data(), reference.data() + infos[i].offset_bytes, out.size());
  });
  EXPECT_EQ(read_file(file), reference);
}

TEST(SafetensorsWrite, LeavesNothingBehindWhenFillingFails) {
  const Scratch scratch;
  const std::string file = scratch.put("model.safetensors", "old");
  EXPECT_TRUE(error_of([&] {
    write_safetensors(file, {{"a", Dtype::f32, {2}}}, {},
                      [](size_t, std::span<std::byte>) { throw Error(ErrorKind::runtime, "x", "x"); });
  }));
  EXPECT_EQ(read_file(file), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(scratch.path()), {}), 1);
}

TEST(SafetensorsWrite, RefusesWhatTheFormatCannotHold) {
  const Scratch scratch;
  const auto write = [&](const std::vector<TensorToWrite>& tensors) {
    return error_of(
        [&] { write_safetensors(scratch.file("x"), tensors, {}, [](size_t, std::span<std::byte>) {}); });
  };
  EXPECT_TRUE(write({{"a", Dtype::f32, {1}}, {"a", Dtype::f32, {1}}}));
  EXPECT_TRUE(write({{"\xff", Dtype::f32, {1}}}));
  EXPECT_TRUE(write({{"__metadata__", Dtype::f32, {1}}}));
  EXPECT_TRUE(write({{"a", Dtype::f32, std::vector<uint64_t>(65, 1)}}));
  EXPECT_TRUE(write({{"a", Dtype::f32, {uint64_t{1} << 62}}}));
  EXPECT_TRUE(write({{"a", Dtype::u8, {UINT64_MAX}}, {"b", Dtype::u8, {1}}}));
}

}  // namespace
}  // namespace rhapsode
