// A GGUF file as it is: metadata, tensor table, block types and the values of a tensor as float32. Bounded
// and checked like a safetensors header: nothing in the file is believed, no tensor memory before all of it
// is validated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"

namespace rhapsode::gguf {

// Numbers of the element types, as the format defines them.
enum class BlockType : uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  iq4_nl = 20,
  iq4_xs = 23,
  bf16 = 30,
  tq1_0 = 34,
  tq2_0 = 35,
};

struct BlockTraits {
  uint32_t number;
  std::string_view name;
  uint32_t elements;  // in one block
  uint32_t bytes;     // of one block
};
// nullptr for a number that no version of the format known to us defines.
const BlockTraits* block_traits(uint32_t number);
// False for types whose size is known and whose values we cannot compute.
bool can_dequantize(uint32_t number);
// Blocks of one type to float32, equal to the format's reference in every bit. `blocks` holds whole blocks
// and `out` as many values; only types of can_dequantize.
void dequantize(uint32_t number, std::span<const std::byte> blocks, std::span<float> out);

// One metadata value. Integers of all widths are int64 where they fit, else uint64. Arrays of arrays are
// checked and skipped: no key that we read holds one.
struct Nested {};
using Value = std::variant<int64_t, uint64_t, double, bool, std::string, std::vector<int64_t>,
                           std::vector<double>, std::vector<std::string>, Nested>;

struct TensorEntry {
  std::string name;
  uint32_t type = 0;
  std::vector<uint64_t> shape;  // row-major: the file's order reversed
  uint64_t offset_bytes = 0;    // from the start of the file
  uint64_t length_bytes = 0;
};

struct File {
  std::string path;
  uint32_t version = 0;
  std::map<std::string, Value> metadata;
  std::vector<TensorEntry> tensors;  // in the file's order
};

// Fills `out` from an offset; never asked for bytes behind file_bytes.
using ReadAt = std::function<void(uint64_t offset_bytes, std::span<std::byte> out)>;
// The fuzz target of this format.
File parse(const ReadAt& read_at, uint64_t file_bytes, const std::string& path);

}  // namespace rhapsode::gguf
