// The set for CPUs with AVX512-BF16: what it adds to that of vec_vnni.h. Needs vec_avx512.h and vec_table.h
// before it.
#pragma once

#include "kernels/isa/vec_bf16_attention.h"
#include "kernels/isa/vec_bf16_pairs.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

uint64_t probe_bf16(uint64_t rounds) {
  const I half = splat_i(0x3f003f00u), one = splat_i(0x3f803f80u);
  return register_chains(rounds, 4, zero(), [=](F sum) { return dot_bf16(sum, half, one); });
}

template <Format Fmt>
void gemv_rounded(Dtype D, const void* panel_a, const void* panel_b, const float* x, uint64_t cols,
                  float* y_a, float* y_b) {
  if (D == Dtype::bf16) return gemv_pairs<Fmt, ChainPairs>(panel_a, panel_b, x, cols, y_a, y_b);
  gemv_dequantized<Fmt>(D, panel_a, panel_b, x, cols, y_a, y_b);
}

constexpr Kernels bf16_table(std::string_view name) {
  Kernels kernels = vnni_table(name);
  const auto expand_of = [&](Format format) -> Kernels::ExpandPairs& {
    return kernels.expand_pairs[static_cast<uint32_t>(format)];
  };
  const auto gemv_of = [&](Format format) -> auto& {
    return kernels.dequantized[static_cast<uint32_t>(format)].gemv;
  };
  gemv_of(Format::nf4) = gemv_rounded<Format::nf4>;
  gemv_of(Format::nf4_nested) = gemv_rounded<Format::nf4_nested>;
  gemv_of(Format::fp4) = gemv_rounded<Format::fp4>;
  gemv_of(Format::fp4_nested) = gemv_rounded<Format::fp4_nested>;
  expand_of(Format::bf16) = expand_pairs;
  expand_of(Format::nf4) = expand_four_bit_pairs<Format::nf4>;
  expand_of(Format::nf4_nested) = expand_four_bit_pairs<Format::nf4_nested>;
  expand_of(Format::fp4) = expand_four_bit_pairs<Format::fp4>;
  expand_of(Format::fp4_nested) = expand_four_bit_pairs<Format::fp4_nested>;
  kernels.pack_pairs = pack_pairs;
  kernels.tile_pairs = tile_pairs;
  kernels.few_pairs = few_pairs;
  kernels.attend_block = attend_block_pairs;
  kernels.probe_bf16 = probe_bf16;
  return kernels;
}

// Whether the instruction rounds as said above: at 2^24 a sum of floats counts by twos, ties go to the even.
bool bf16_sums_are_chains() {
  struct Case {
    uint16_t upper, lower;  // of one factor, as bf16; the other factor is 1
    float sum;              // of 2^24 and both
  };
  constexpr float kStart = 16777216.0f;
  constexpr uint16_t kOne = 0x3f80, kTwo = 0x4000, kThree = 0x4040;
  constexpr Case kCases[] = {
      {kOne, kOne, kStart},         // in one rounding: + 2
      {kOne, kTwo, kStart + 2.0f},  // the lower half first: + 4
      {kTwo, kOne, kStart + 4.0f},  // the lower half first: + 2
      {kThree, 0, kStart + 4.0f},   // rounded towards zero: + 2
  };
  for (const Case& at : kCases) {
    float sums[kWidth];
    const I factor = splat_i(uint32_t{at.upper} << 16 | at.lower);
    store(sums, dot_bf16(splat(kStart), factor, splat_i(0x3f803f80u)));
    for (const float sum : sums)
      if (sum != at.sum) return false;
  }
  return true;
}

}  // namespace
}  // namespace rhapsode::kernels
