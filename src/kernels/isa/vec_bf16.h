// Products of bf16 weights and tokens that hold bf16 values, two columns at an instruction (AVX512-BF16).
// vdpbf16ps adds the product of the upper halves of a dword, rounds, adds that of the lower halves, rounds
// again: with the earlier column in the upper half it continues the very chains of vec_matmul.h. What it
// takes for zero, factors and sums below 2^-126, is beyond the reach of any sum that matters. Needs
// vec_avx512.h and vec_table.h before it.
#pragma once

#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

constexpr uint64_t kPairRun = 64;  // pairs of columns that are packed at a time; a tile's take 3 KiB

// Columns k and k + 1 of a token as they are multiplied: the earlier one in the upper half. Both hold bf16.
inline uint32_t column_pair(float earlier, float later) {
  return (__builtin_bit_cast(uint32_t, earlier) & 0xffff0000u) | __builtin_bit_cast(uint32_t, later) >> 16;
}

// Panels have the earlier column in the lower half.
inline I weight_pairs(const uint8_t* panel) {
  return _mm512_rol_epi32(load_dwords(panel), 16);
}

void pack_pairs(const float* x, uint64_t x_stride, uint32_t tokens, uint64_t k_begin, uint64_t k_count,
                uint32_t* a) {
  float pairs[kGemmTokens][kPairRun];  // bits of column_pair
  for (uint64_t k = 0; k < k_count; k += 2 * kPairRun) {
    const uint64_t count = (k_count - k) / 2 < kPairRun ? (k_count - k) / 2 : kPairRun;
    for (uint32_t t = 0; t < tokens; ++t) {
      const float* row = x + t * x_stride + k_begin + k;
      uint64_t i = 0;
      for (; i + kWidth <= count; i += kWidth) {
        F even, odd;
        apart(row + 2 * i, even, odd);
        const I both = or_i(and_i(bits(even), splat_i(0xffff0000u)), shift_right<16>(bits(odd)));
        store(pairs[t] + i, from_bits(both));
      }
      for (; i < count; ++i) {
        const uint32_t both = column_pair(row[2 * i], row[2 * i + 1]);
        __builtin_memcpy(pairs[t] + i, &both, sizeof both);
      }
    }
    pack_tokens(pairs[0], kPairRun, tokens, 0, count, reinterpret_cast<float*>(a + k / 2 * kGemmTokens));
  }
}

struct PairTile {
  const uint8_t* panel;  // at the first column
  const uint32_t* a;
  uint64_t pairs;
  float* c;
  uint64_t c_stride;
  bool first;
  bool from_memory;  // the panel is read for the first time

  template <uint32_t Rows>
  void run() const {
    F sums[Rows][kPanelVectors];
    at_each<Rows * kPanelVectors>([&](auto at) {
      constexpr uint32_t r = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
      sums[r][v] = first ? zero() : load(c + r * c_stride + v * kWidth);
    });
    if (from_memory) {
      add<Rows, true>(sums);
    } else {
      add<Rows, false>(sums);
    }
    at_each<Rows * kPanelVectors>([&](auto at) {
      constexpr uint32_t r = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
      store(c + r * c_stride + v * kWidth, sums[r][v]);
    });
  }

  template <uint32_t Rows, bool FromMemory>
  void add(F (&sums)[Rows][kPanelVectors]) const {
    const uint8_t* w = panel;
    const uint32_t* x = a;
    for (uint64_t pair = 0; pair < pairs; ++pair, w += kPairBytes<Format::bf16>, x += kGemmTokens) {
      I weights[kPanelVectors];
      at_each<kPanelVectors>([&](auto v) {
        if constexpr (FromMemory) prefetch_unpacked(w + decltype(v)::value * kWidth * 4);
        weights[decltype(v)::value] = weight_pairs(w + decltype(v)::value * kWidth * 4);
      });
      at_each<Rows>([&](auto r) {
        const I both = splat_i(x[decltype(r)::value]);
        at_each<kPanelVectors>([&](auto v) {
          F& sum = sums[decltype(r)::value][decltype(v)::value];
          sum = dot_bf16(sum, weights[decltype(v)::value], both);
        });
      });
    }
  }
};

void tile_pairs(const void* panel, const uint32_t* a, uint32_t tokens, uint64_t pairs, float* c,
                uint64_t c_stride, bool first, bool from_memory) {
  run_rows<kGemmTokens>(
      tokens, PairTile{static_cast<const uint8_t*>(panel), a, pairs, c, c_stride, first, from_memory});
}

uint64_t probe_bf16(uint64_t rounds) {
  constexpr uint32_t kChains = 16;  // more than the instruction's latency times its throughput
  F sums[kChains];
  I half = splat_i(0x3f003f00u), one = splat_i(0x3f803f80u);
  pin(half), pin(one);
  at_each<kChains>([&](auto at) { sums[decltype(at)::value] = zero(); });
  for (uint64_t round = 0; round < rounds; ++round)
    at_each<kChains>([&](auto at) {
      F& sum = sums[decltype(at)::value];
      sum = dot_bf16(sum, half, one);
    });
  at_each<kChains>([&](auto at) { pin(sums[decltype(at)::value]); });
  return rounds * kChains * kWidth * 4;
}

constexpr Kernels bf16_table() {
  Kernels kernels = vnni_table("avx512-bf16");
  kernels.pack_pairs = pack_pairs;
  kernels.tile_pairs = tile_pairs;
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
