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

// `count` pairs of a token's columns.
inline void order_pairs(const float* x, uint64_t count, uint32_t* out) {
  uint64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    F even, odd;
    apart(x + 2 * i, even, odd);
    store_dwords(out + i, or_i(and_i(bits(even), splat_i(0xffff0000u)), shift_right<16>(bits(odd))));
  }
  for (; i < count; ++i) out[i] = column_pair(x[2 * i], x[2 * i + 1]);
}

void pack_pairs(const float* x, uint64_t x_stride, uint32_t tokens, uint64_t k_begin, uint64_t k_count,
                uint32_t* a) {
  uint32_t pairs[kGemmTokens][kPairRun];
  for (uint64_t k = 0; k < k_count; k += 2 * kPairRun) {
    const uint64_t count = (k_count - k) / 2 < kPairRun ? (k_count - k) / 2 : kPairRun;
    for (uint32_t t = 0; t < tokens; ++t) order_pairs(x + t * x_stride + k_begin + k, count, pairs[t]);
    pack_tokens(reinterpret_cast<const float*>(pairs[0]), kPairRun, tokens, 0, count,
                reinterpret_cast<float*>(a + k / 2 * kGemmTokens));
  }
}

void expand_pairs(const void* panel, uint64_t, uint64_t k_begin, uint64_t k_count, uint32_t* out) {
  const uint8_t* from = static_cast<const uint8_t*>(panel) + k_begin / 2 * kPairBytes<Format::bf16>;
  for (uint64_t at = 0; at < k_count / 2 * kPanelRows; at += kWidth)
    store_dwords(out + at, weight_pairs(from + at * 4));
}

// 4-bit weights as numerics hf-exact has them: dequantized, and rounded to bf16. out[i]: columns 2i and 2i +
// 1 of the eight of a dword, for the rows of a vector; a look-up heeds four bits of a lane.
inline void pair_nibbles(const Table16& table, I dwords, F absmax, I (&out)[4]) {
  // A conversion leaves the earlier column's words behind those of the later one.
  const I together = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                                      6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const auto pair = [&](I earlier, I later) {
    return _mm512_permutexvar_epi16(
        together, bf16_words(look_up(table, earlier) * absmax, look_up(table, later) * absmax));
  };
  out[0] = pair(dwords, shift_right<8>(dwords));
  out[1] = pair(shift_right<16>(dwords), shift_right<24>(dwords));
  out[2] = pair(shift_right<4>(dwords), shift_right<12>(dwords));
  out[3] = pair(shift_right<20>(dwords), shift_right<28>(dwords));
}

template <Format Fmt>
void expand_four_bit_pairs(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count,
                           uint32_t* out) {
  const Table16 table = table16(quant::four_bit_code(Fmt).values);
  for_eights<Fmt>(panel, cols, k_begin, k_count, nullptr, [&](uint64_t k, uint32_t v, I dwords, F absmax) {
    I pairs[4];
    pair_nibbles(table, dwords, absmax, pairs);
    at_each<4>([&](auto i) {
      store_dwords(out + (k / 2 + decltype(i)::value) * kPanelRows + v * kWidth, pairs[decltype(i)::value]);
    });
  });
}

// One token times 4-bit weights. The chains of two panels take turns, since each product waits for the one
// before it.
template <Format Fmt, uint32_t Panels>
inline void gemv_pairs_of(const uint8_t* const* panels, const float* x, uint64_t cols, float* const* y) {
  const Table16 table = table16(quant::four_bit_code(Fmt).values);
  const PanelScales<Fmt> of[2] = {{panels[0], cols}, {panels[Panels - 1], cols}};
  F sums[Panels][kPanelVectors];
  for (auto& panel : sums)
    for (F& sum : panel) sum = zero();
  for (uint64_t index = 0; index < cols / kBlockCols; ++index, x += kBlockCols) {
    alignas(64) uint32_t tokens[kBlockCols / 2];
    order_pairs(x, kBlockCols / 2, tokens);
    const uint8_t* codes[Panels];
    F absmax[Panels][kPanelVectors];
    for (uint32_t p = 0; p < Panels; ++p) {
      const uint8_t* block = first_block<Fmt>(panels[p], cols) + index * kBlockStride<Fmt>;
      of[p].absmax(block, index, absmax[p]);
      codes[p] = block + kScaleBytes<Fmt>;
    }
#pragma GCC unroll 1
    for (uint32_t j = 0; j < kBlockCols / 8; ++j) {
      at_each<Panels * kPanelVectors>([&](auto at) {
        constexpr uint32_t p = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
        const uint8_t* line = code_dwords(codes[p], v, j);
        prefetch_unpacked(line);
        I pairs[4];
        pair_nibbles(table, load_dwords(line), absmax[p][v], pairs);
        at_each<4>([&](auto i) {
          sums[p][v] =
              dot_bf16(sums[p][v], pairs[decltype(i)::value], splat_i(tokens[4 * j + decltype(i)::value]));
        });
      });
    }
  }
  for (uint32_t p = 0; p < Panels; ++p)
    for (uint32_t v = 0; v < kPanelVectors; ++v) store(y[p] + v * kWidth, sums[p][v]);
}

template <Format Fmt>
void gemv_pairs(const void* panel_a, const void* panel_b, const float* x, uint64_t cols, float* y_a,
                float* y_b) {
  const uint8_t* panels[2] = {static_cast<const uint8_t*>(panel_a), static_cast<const uint8_t*>(panel_b)};
  float* y[2] = {y_a, y_b};
  if (panel_b != nullptr) {
    gemv_pairs_of<Fmt, 2>(panels, x, cols, y);
  } else {
    gemv_pairs_of<Fmt, 1>(panels, x, cols, y);
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
  const auto gemv_of = [&](Format format) -> Kernels::Gemv& {
    return kernels.gemv[static_cast<uint32_t>(format)];
  };
  gemv_of(Format::nf4) = gemv_pairs<Format::nf4>;
  gemv_of(Format::nf4_nested) = gemv_pairs<Format::nf4_nested>;
  gemv_of(Format::fp4) = gemv_pairs<Format::fp4>;
  gemv_of(Format::fp4_nested) = gemv_pairs<Format::fp4_nested>;
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
