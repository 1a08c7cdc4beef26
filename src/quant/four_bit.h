// The 4-bit codes of bitsandbytes as plain data: codebooks, their fixed-point images, and the 8-bit map of
// nested scales. Constants only, so that kernels may include it under any instruction set.
#pragma once

#include <bit>
#include <cstdint>

namespace rhapsode::quant {

constexpr uint32_t kBlockCols = 64;      // elements that share one absmax
constexpr uint32_t kNestedBlocks = 256;  // absmax values that share one nested absmax

// One codebook. values[c] is what code c means, times the block's absmax. bounds are the midpoints of the
// sorted values: the code of y is order[number of bounds strictly below y].
// fixed[c] = values[c] * fixed_max rounded: with activations of at most act_max a block's 64 products sum up
// in 32 bits: fixed_max * act_max * 64 < 2^31.
// bytes[c] = values[c] * byte_max rounded, plus kByteZero: 7 bits, so that two products with int8 activations
// of at most 127 add up in 16 bits. byte_max is where the rounded values lie closest to values, on average.
// bf16[c] = values[c] * bf16_max rounded to bf16, as its bits; bf16_max is chosen alike: with it they err 2.6
// times less than values rounded to bf16 after any other factor, such as an absmax.
struct FourBitCode {
  const char* name;
  float values[16];
  float bounds[15];
  uint8_t order[16];
  bool ascending;  // order is 0 to 15
  int16_t fixed[16];
  int32_t fixed_max;
  int32_t act_max;
  uint8_t bytes[16];
  int32_t byte_max;
  uint16_t bf16[16];
  float bf16_max;
};

constexpr int32_t kByteZero = 64;
constexpr int32_t kByteActMax = 127;

namespace four_bit {

constexpr float real(uint32_t bits) {
  return std::bit_cast<float>(bits);
}
constexpr int16_t rounded(float x) {
  return static_cast<int16_t>(x < 0 ? x - 0.5f : x + 0.5f);
}
constexpr uint16_t rounded_to_bf16(float x) {  // to nearest, ties to even
  const auto bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
constexpr FourBitCode with_fixed(FourBitCode code) {
  for (int i = 0; i < 16; ++i) {
    code.fixed[i] = rounded(code.values[i] * static_cast<float>(code.fixed_max));
    const int byte = rounded(code.values[i] * static_cast<float>(code.byte_max)) + kByteZero;
    code.bytes[i] = static_cast<uint8_t>(byte);
    code.bf16[i] = rounded_to_bf16(code.values[i] * code.bf16_max);
  }
  return code;
}

}  // namespace four_bit

inline constexpr FourBitCode kNf4 = four_bit::with_fixed(
    {"nf4",
     {four_bit::real(0xbf800000), four_bit::real(0xbf3239b1), four_bit::real(0xbf066b30),
      four_bit::real(0xbeca32a0), four_bit::real(0xbe91a24d), four_bit::real(0xbe3d353f),
      four_bit::real(0xbdba7871), four_bit::real(0x00000000), four_bit::real(0x3da2faff),
      four_bit::real(0x3e24cae3), four_bit::real(0x3e7c04dd), four_bit::real(0x3ead033a),
      four_bit::real(0x3ee1a4b8), four_bit::real(0x3f1007ab), four_bit::real(0x3f3913b3),
      four_bit::real(0x3f800000)},
     {four_bit::real(0xbf591cd8), four_bit::real(0xbf1c5270), four_bit::real(0xbeeb8480),
      four_bit::real(0xbeadea76), four_bit::real(0xbe703cec), four_bit::real(0xbe0d38bc),
      four_bit::real(0xbd3a7871), four_bit::real(0x3d22faff), four_bit::real(0x3df64862),
      four_bit::real(0x3e5067e0), four_bit::real(0x3e9582d4), four_bit::real(0x3ec753f9),
      four_bit::real(0x3f006d04), four_bit::real(0x3f248daf), four_bit::real(0x3f5c89da)},
     {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
     true,
     {},
     4095,
     8191,
     {},
     53,
     {},
     1.437f});

// Magnitudes are multiples of 1/192, so the fixed-point codes and those of bf16 are exact.
inline constexpr FourBitCode kFp4 = four_bit::with_fixed(
    {"fp4",
     {four_bit::real(0x00000000), four_bit::real(0x3baaaaab), four_bit::real(0x3f2aaaab),
      four_bit::real(0x3f800000), four_bit::real(0x3eaaaaab), four_bit::real(0x3f000000),
      four_bit::real(0x3e2aaaab), four_bit::real(0x3e800000), four_bit::real(0x00000000),
      four_bit::real(0xbbaaaaab), four_bit::real(0xbf2aaaab), four_bit::real(0xbf800000),
      four_bit::real(0xbeaaaaab), four_bit::real(0xbf000000), four_bit::real(0xbe2aaaab),
      four_bit::real(0xbe800000)},
     {four_bit::real(0xbf555556), four_bit::real(0xbf155556), four_bit::real(0xbed55556),
      four_bit::real(0xbe955556), four_bit::real(0xbe555556), four_bit::real(0xbdb00000),
      four_bit::real(0xbb2aaaab), four_bit::real(0x00000000), four_bit::real(0x3b2aaaab),
      four_bit::real(0x3db00000), four_bit::real(0x3e555556), four_bit::real(0x3e955556),
      four_bit::real(0x3ed55556), four_bit::real(0x3f155556), four_bit::real(0x3f555556)},
     {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3},
     false,
     {},
     192,
     32767,
     {},
     60,
     {},
     192.0f});

// The dynamic 8-bit map of nested scales: +-10^(i-6) * (0.1 + 0.9 * (k + 0.5) / 2^i) for i = 0..6, k = 0..2^i
// - 1, and 0 and 1, ascending; computed in double and rounded once.
struct NestedMap {
  float values[256];
  float bounds[255];  // midpoints
};

namespace four_bit {

constexpr NestedMap make_nested_map() {
  NestedMap map{};
  constexpr double kScale[7] = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0};
  int at = 0;
  for (int i = 0; i < 7; ++i)
    for (int k = 0; k < (1 << i); ++k, ++at) {
      const double magnitude = kScale[i] * (0.1 + 0.9 * (k + 0.5) / (1 << i));
      map.values[128 + at] = static_cast<float>(magnitude);
      map.values[126 - at] = static_cast<float>(-magnitude);
    }
  map.values[127] = 0.0f;
  map.values[255] = 1.0f;
  for (int i = 0; i < 255; ++i) map.bounds[i] = (map.values[i] + map.values[i + 1]) / 2;
  return map;
}

}  // namespace four_bit

inline constexpr NestedMap kNestedMap = four_bit::make_nested_map();

}  // namespace rhapsode::quant
