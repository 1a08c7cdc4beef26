// Ternary products with AVX512-VNNI, as vec_ternary.h has them: sums of bytes are one instruction. Needs
// vec_avx512.h and vec_table.h before it.
#pragma once

#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

// Of few tokens each of the four planes has sums of its own, so that no product waits for another. Those of
// plane j are 4^j times too large, since its codes are multiplied where they lie: at most 2^15 columns of 128
// times 128, which 32 bits hold.
template <uint32_t Tokens>
constexpr uint32_t kPlaneSums = Tokens <= 2 ? 4 : 1;
template <uint32_t Tokens>
using TernarySums = I[kPlaneSums<Tokens>][Tokens][kPanelVectors];

template <uint32_t Tokens, uint32_t J>
inline I plane_codes(I packed) {
  if constexpr (kPlaneSums<Tokens> == 1) return plane<J>(packed);
  return and_i(packed, splat_i(0x03030303u << 2 * J));
}

// Adds the 16 columns of a ternary block to the sums of `Tokens` tokens; codes 0 to 2 are unsigned already.
template <uint32_t Tokens>
inline void add_ternary_block(const uint8_t* block, const int8_t* codes, uint64_t stride,
                              TernarySums<Tokens>& sums) {
  I packed[kPanelVectors];
  at_each<kPanelVectors>(
      [&](auto v) { packed[decltype(v)::value] = load_dwords(block + decltype(v)::value * kWidth * 4); });
  at_each<4>([&](auto at) {
    constexpr uint32_t j = decltype(at)::value;
    I values[kPanelVectors];
    at_each<kPanelVectors>(
        [&](auto v) { values[decltype(v)::value] = plane_codes<Tokens, j>(packed[decltype(v)::value]); });
    at_each<Tokens>([&](auto t) {
      const I x = splat_dword(codes + decltype(t)::value * stride + 4 * j);
      at_each<kPanelVectors>([&](auto v) {
        I& sum = sums[j % kPlaneSums<Tokens>][decltype(t)::value][decltype(v)::value];
        sum = dot_bytes(sum, values[decltype(v)::value], x);
      });
    });
  });
}

// The sum of a token and vector over all planes.
template <uint32_t Tokens>
inline I sum_of_planes(const TernarySums<Tokens>& sums, uint32_t t, uint32_t v) {
  I sum = sums[0][t][v];
  if constexpr (kPlaneSums<Tokens> == 4) {
    sum = add_i(sum, shift_right_signed<2>(sums[1][t][v]));
    sum = add_i(sum, shift_right_signed<4>(sums[2][t][v]));
    sum = add_i(sum, shift_right_signed<6>(sums[3][t][v]));
  }
  return sum;
}

// The codes' offset of 1 is taken off as the sum of the activations.
struct TernaryDots {
  const uint8_t* panel;
  const int8_t* codes;
  uint64_t stride;
  const int32_t* code_sums;
  uint64_t cols;
  float* y;
  uint64_t y_stride;

  template <uint32_t Tokens>
  void run() const {
    TernarySums<Tokens> sums;
    at_each<kPlaneSums<Tokens> * Tokens * kPanelVectors>([&](auto at) {
      constexpr uint32_t i = decltype(at)::value, v = i % kPanelVectors, t = i / kPanelVectors % Tokens;
      sums[i / kPanelVectors / Tokens][t][v] = splat_i(0);
    });
    const uint8_t* block = panel;
    for (uint64_t k = 0; k < cols; k += kTernaryCols, block += kBlockBytes16) {
      for (uint32_t v = 0; v < kPanelVectors; ++v) prefetch_unpacked(block + v * kWidth * 4);
      add_ternary_block<Tokens>(block, codes + k, stride, sums);
    }
    at_each<Tokens * kPanelVectors>([&](auto at) {
      constexpr uint32_t t = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
      const I offset = splat_i(static_cast<uint32_t>(code_sums[t]));
      store(y + t * y_stride + v * kWidth, to_float(sub_i(sum_of_planes<Tokens>(sums, t, v), offset)));
    });
  }
};

void dot_ternary_vnni(const void* panel, const int8_t* codes, uint64_t codes_stride, const int32_t* code_sums,
                      uint32_t tokens, uint64_t cols, float* y, uint64_t y_stride) {
  run_rows<kTernaryTokens>(tokens, TernaryDots{static_cast<const uint8_t*>(panel), codes, codes_stride,
                                               code_sums, cols, y, y_stride});
}

// One token: two panels side by side are two streams of memory requests (5.1 -> 4.4 ns a line on an Intel
// Xeon).
template <uint32_t Panels>
inline void gemv_ternary_dots(const uint8_t* const* panels, const int8_t* codes, int32_t code_sum,
                              uint64_t cols, float* const* y) {
  TernarySums<1> sums[Panels];
  at_each<Panels * 4 * kPanelVectors>([&](auto at) {
    constexpr uint32_t i = decltype(at)::value;
    sums[i / kPanelVectors / 4][i / kPanelVectors % 4][0][i % kPanelVectors] = splat_i(0);
  });
  uint64_t at_block = 0;
#pragma GCC unroll 1
  for (uint64_t k = 0; k < cols; k += kTernaryCols, at_block += kBlockBytes16)
    at_each<Panels>([&](auto p) {
      const uint8_t* block = panels[decltype(p)::value] + at_block;
      for (uint32_t v = 0; v < kPanelVectors; ++v) prefetch_unpacked(block + v * kWidth * 4);
      add_ternary_block<1>(block, codes + k, 0, sums[decltype(p)::value]);
    });
  const I offset = splat_i(static_cast<uint32_t>(code_sum));
  at_each<Panels * kPanelVectors>([&](auto at) {
    constexpr uint32_t p = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
    store(y[p] + v * kWidth, to_float(sub_i(sum_of_planes<1>(sums[p], 0, v), offset)));
  });
}

void gemv_ternary_vnni(const void* panel_a, const void* panel_b, const void* codes, const float* scales,
                       uint64_t cols, float* y_a, float* y_b) {
  with_panels(panel_a, panel_b, y_a, y_b, [&](auto count, const uint8_t* const* panels, float* const* y) {
    gemv_ternary_dots<decltype(count)::value>(panels, static_cast<const int8_t*>(codes),
                                              static_cast<int32_t>(*scales), cols, y);
  });
}

}  // namespace
}  // namespace rhapsode::kernels
