// The numbers of bitsandbytes 0.50.2 in portable code: what a quantized matrix is, before any layout. Codes,
// scales and dequantized values equal the library's bit for bit, but for nested codes, which are exact
// nearest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "quant/four_bit.h"
#include "tensor/dtype.h"

namespace rhapsode::quant {

// A row or block with a value that is not finite has no codes: the functions return that value's magnitude
// (infinity or NaN) and leave the codes as they were.

// LLM.int8(), one row: scb = max |x|; codes = round(x * s) with s = round(round(1 / scb) * 127), all fp32. x
// holds fp16 values. An all-zero row has scb 0 and codes 0.
float int8_row(std::span<const float> x, int8_t* codes);
// code * scb / 127 in fp32, as int8_vectorwise_dequant has it.
inline float int8_value(int8_t code, float scb) {
  return static_cast<float>(code) * scb * 7.874015718698502e-3f;
}

// One block of at most 64 elements; `whole` is false for the short last block of a tensor, which divides
// where others multiply by the reciprocal. Returns the block's absmax; codes: one a byte.
float four_bit_block(const FourBitCode& code, std::span<const float> x, bool whole, uint8_t* codes);
// values[code] * absmax in fp32, rounded once to `dtype`.
inline float four_bit_value(const FourBitCode& code, uint8_t index, float absmax, Dtype dtype) {
  return round_to(dtype, code.values[index] * absmax);
}

// Double quantization of the absmax values of one tensor: absmax - offset in blocks of 256 with the 8-bit
// map.
struct NestedScales {
  float offset = 0.0f;         // mean of all absmax
  std::vector<float> absmax;   // one a nested block
  std::vector<uint8_t> codes;  // one an absmax
};
NestedScales nest_scales(std::span<const float> absmax);
// Its steps, for threads that share the blocks: the mean, and one block of at most 256 absmax values, whose
// own absmax is returned.
float nested_offset(std::span<const float> absmax);
float nest_block(std::span<const float> absmax, float offset, uint8_t* codes);
// `value`: the map's, at the code.
inline float nested_value(float value, float nested_absmax, float offset) {
  const float scaled = value * nested_absmax;
  return scaled + offset;
}

// The canonical bytes of 4-bit codes, one code a byte: element 2i of a tensor in the high half of byte i,
// 2i + 1 in the low one. `packed` begins with the byte of element `first`.
void unpack_codes(std::span<const std::byte> packed, uint64_t first, std::span<uint8_t> codes);
// The way back, from an even element on: two codes for each byte of `packed`.
void pack_codes(std::span<const uint8_t> codes, std::span<std::byte> packed);

}  // namespace rhapsode::quant
