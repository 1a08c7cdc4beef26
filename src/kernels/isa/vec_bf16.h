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

void expand_pairs(const void* panel, uint64_t, uint64_t k_begin, uint64_t k_count, uint32_t* out) {
  const uint8_t* from = static_cast<const uint8_t*>(panel) + k_begin / 2 * kPairBytes<Format::bf16>;
  for (uint64_t at = 0; at < k_count / 2 * kPanelRows; at += kWidth)
    store_dwords(out + at, weight_pairs(from + at * 4));
}

// As numerics hf-exact has them: dequantized, and rounded to bf16.
template <Format Fmt>
void expand_four_bit_pairs(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count,
                           uint32_t* out) {
  alignas(64) float block[kBlockCols * kPanelRows];
  const auto rounded = [&](uint64_t at) { return bits(round_in(Dtype::bf16, load(block + at))); };
  for (uint64_t k = 0; k < k_count; k += kBlockCols, out += kBlockCols / 2 * kPanelRows) {
    expand_four_bit<Fmt>(panel, cols, k_begin + k, kBlockCols, block);
    for (uint64_t pair = 0; pair < kBlockCols / 2; ++pair)
      for (uint64_t row = 0; row < kPanelRows; row += kWidth) {
        const uint64_t at = 2 * pair * kPanelRows + row;
        store_dwords(out + pair * kPanelRows + row,
                     or_i(rounded(at), shift_right<16>(rounded(at + kPanelRows))));
      }
  }
}

// Pairs of weights in the order in which they are multiplied.
struct OrderedPairs {
  static I load(const uint8_t* w) { return load_dwords(w); }
};
// Pairs as a panel has them, read for the first time. To turn them around takes a multiplier's turn: tiles
// that share a panel run 1.13 times as fast without.
struct StoredPairs {
  static I load(const uint8_t* w) {
    prefetch_unpacked(w);
    return weight_pairs(w);
  }
};

template <class Weights>
struct PairTile {
  const uint8_t* b;
  const uint32_t* a;
  uint64_t pairs;
  float* c;
  uint64_t c_stride;
  bool first;

  template <uint32_t Rows>
  void run() const {
    F sums[Rows][kPanelVectors];
    at_each<Rows * kPanelVectors>([&](auto at) {
      constexpr uint32_t r = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
      sums[r][v] = first ? zero() : load(c + r * c_stride + v * kWidth);
    });
    const uint8_t* w = b;
    const uint32_t* x = a;
    for (uint64_t pair = 0; pair < pairs; ++pair, w += kPairBytes<Format::bf16>, x += kGemmTokens) {
      I weights[kPanelVectors];
      at_each<kPanelVectors>(
          [&](auto v) { weights[decltype(v)::value] = Weights::load(w + decltype(v)::value * kWidth * 4); });
      at_each<Rows>([&](auto r) {
        const I both = splat_i(x[decltype(r)::value]);
        at_each<kPanelVectors>([&](auto v) {
          F& sum = sums[decltype(r)::value][decltype(v)::value];
          sum = dot_bf16(sum, weights[decltype(v)::value], both);
        });
      });
    }
    at_each<Rows * kPanelVectors>([&](auto at) {
      constexpr uint32_t r = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
      store(c + r * c_stride + v * kWidth, sums[r][v]);
    });
  }
};

void tile_pairs(const uint32_t* b, const uint32_t* a, uint32_t tokens, uint64_t pairs, float* c,
                uint64_t c_stride, bool first) {
  run_rows<kGemmTokens>(
      tokens, PairTile<OrderedPairs>{reinterpret_cast<const uint8_t*>(b), a, pairs, c, c_stride, first});
}

void few_pairs(const void* panel, const uint32_t* a, uint32_t tokens, uint64_t pairs, float* c,
               uint64_t c_stride) {
  run_rows<kGemmTokens>(
      tokens, PairTile<StoredPairs>{static_cast<const uint8_t*>(panel), a, pairs, c, c_stride, true});
}

// A piece of K, rows of tokens, as pairs of dims: out[dims / 2][kPieceColumns].
inline void pair_dims(const uint8_t* k, uint64_t stride, uint32_t dims, uint32_t* out) {
  for (uint32_t d = 0; d < dims; d += 2, k += 2 * stride, out += kPieceColumns)
    for (uint32_t token = 0; token < kPieceColumns; token += kWidth)
      store_dwords(out + token,
                   or_i(shift_left<16>(load_u16(k + token * 2)), load_u16(k + stride + token * 2)));
}

// dot_scores of bf16 by pairs of dims, where the rows are many enough to share what is put in order.
void dot_pair_scores(const AttendBlock& block, Visible all) {
  if (block.queries <= kDirectRows || block.head_dim % 2 != 0) return dot_scores<Dtype::bf16>(block, all);
  constexpr uint64_t kStride = kBlockTokens * 2;
  constexpr uint32_t kPieces = kBlockTokens / kPieceColumns;
  alignas(64) uint32_t keys[kPieces][kPieceRows / 2 * kPieceColumns], rows[kPieceRows / 2 * kGemmTokens];
  const uint32_t first = all.begin / kPieceColumns, end = (all.end + kPieceColumns - 1) / kPieceColumns;
  for (uint32_t d = 0; d < block.head_dim; d += kPieceRows) {
    const uint32_t dims = block.head_dim - d < kPieceRows ? block.head_dim - d : kPieceRows;
    for (uint32_t piece = first; piece < end; ++piece)
      pair_dims(static_cast<const uint8_t*>(block.k) + d * kStride + piece * kPieceColumns * 2, kStride, dims,
                keys[piece]);
    for (uint32_t query = 0; query < block.queries; query += kGemmTokens) {
      const uint32_t count = block.queries - query < kGemmTokens ? block.queries - query : kGemmTokens;
      pack_pairs(block.q + query * block.q_stride, block.q_stride, count, d, dims, rows);
      for (uint32_t piece = first; piece < end; ++piece)
        tile_pairs(keys[piece], rows, count, dims / 2,
                   block.scores + uint64_t{query} * kBlockTokens + piece * kPieceColumns, kBlockTokens,
                   d == 0);
    }
  }
}

void attend_block_pairs(const AttendBlock& block) {
  if (block.kv_dtype != Dtype::bf16) return attend_block(block);
  attend_cached<Dtype::bf16>(block, dot_pair_scores);
}

uint64_t probe_bf16(uint64_t rounds) {
  const I half = splat_i(0x3f003f00u), one = splat_i(0x3f803f80u);
  return register_chains(rounds, 4, zero(), [=](F sum) { return dot_bf16(sum, half, one); });
}

constexpr Kernels bf16_table() {
  Kernels kernels = vnni_table("avx512-bf16");
  const auto expand_of = [&](Format format) -> Kernels::ExpandPairs& {
    return kernels.expand_pairs[static_cast<uint32_t>(format)];
  };
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
