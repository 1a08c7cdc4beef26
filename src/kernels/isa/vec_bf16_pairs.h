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

// Which column of a pair is in the lower half.
enum class LowerHalf : uint8_t { later, earlier };

// 4-bit weights as numerics hf-exact has them: dequantized, and rounded to bf16. out[i]: columns 2i and 2i +
// 1 of the eight of a dword, for the rows of a vector; a look-up heeds four bits of a lane.
template <LowerHalf Lower>
inline void pair_nibbles(const Table16& table, I dwords, F absmax, I (&out)[4]) {
  // A conversion leaves the earlier column's words behind those of the later one.
  const I together = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                                      6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const auto pair = [&](I earlier, I later) {
    const F first = look_up(table, earlier) * absmax, second = look_up(table, later) * absmax;
    return _mm512_permutexvar_epi16(
        together, Lower == LowerHalf::later ? bf16_words(first, second) : bf16_words(second, first));
  };
  out[0] = pair(dwords, shift_right<8>(dwords));
  out[1] = pair(shift_right<16>(dwords), shift_right<24>(dwords));
  out[2] = pair(shift_right<4>(dwords), shift_right<12>(dwords));
  out[3] = pair(shift_right<20>(dwords), shift_right<28>(dwords));
}

template <Format Fmt, LowerHalf Lower = LowerHalf::later>
void expand_four_bit_pairs(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count,
                           uint32_t* out) {
  const Table16 table = table16(quant::four_bit_code(Fmt).values);
  for_eights<Fmt>(panel, cols, k_begin, k_count, nullptr, [&](uint64_t k, uint32_t v, I dwords, F absmax) {
    I pairs[4];
    pair_nibbles<Lower>(table, dwords, absmax, pairs);
    at_each<4>([&](auto i) {
      store_dwords(out + (k / 2 + decltype(i)::value) * kPanelRows + v * kWidth, pairs[decltype(i)::value]);
    });
  });
}

// How one token's products are summed: a chain. `order` brings its pairs of columns into the form that `add`
// takes, kDwords dwords a pair; begin and end stand around each kSumPairs pairs.
struct ChainPairs {
  static constexpr uint32_t kDwords = 1;
  static void order(const float* x, uint64_t pairs, uint32_t* out) { order_pairs(x, pairs, out); }

  F sum;
  void begin() {}
  void add(I weights, const uint32_t* x) { sum = dot_bf16(sum, weights, splat_i(*x)); }
  void end() {}
};
constexpr uint32_t kSumPairs = 16;

// One token times 4-bit weights. The sums of two panels take turns, since each product waits for the one
// before it.
template <Format Fmt, class Sum, uint32_t Panels>
inline void gemv_pairs_of(const uint8_t* const* panels, const float* x, uint64_t cols, float* const* y) {
  const Table16 table = table16(quant::four_bit_code(Fmt).values);
  BlockScales<Fmt> of[2] = {{panels[0], cols}, {panels[Panels - 1], cols}};
  Sum sums[Panels][kPanelVectors];
  const auto each_sum = [&](auto work) {
    at_each<Panels * kPanelVectors>([&](auto at) {
      constexpr uint32_t p = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
      work(sums[p][v], p, v);
    });
  };
  each_sum([](Sum& sum, uint32_t, uint32_t) {
    sum.sum = zero();
    sum.begin();  // for the compiler, which else takes it for unset
  });
  for (uint64_t index = 0; index < cols / kBlockCols; ++index, x += kBlockCols) {
    alignas(64) uint32_t tokens[kBlockCols / 2 * Sum::kDwords];
    Sum::order(x, kBlockCols / 2, tokens);
    const uint8_t* codes[Panels];
    F absmax[Panels][kPanelVectors];
    for (uint32_t p = 0; p < Panels; ++p) {
      for (uint32_t v = 0; v < kPanelVectors; ++v) absmax[p][v] = of[p].absmax(index, v);
      codes[p] = of[p].block + kScaleBytes<Fmt>;
      of[p].advance();
    }
#pragma GCC unroll 1
    for (uint32_t j = 0; j < kBlockCols / 8; ++j) {
      if (j % (kSumPairs / 4) == 0) each_sum([](Sum& sum, uint32_t, uint32_t) { sum.begin(); });
      each_sum([&](Sum& sum, uint32_t p, uint32_t v) {
        const uint8_t* line = code_dwords(codes[p], v, j);
        prefetch_unpacked(line);
        I pairs[4];
        pair_nibbles<LowerHalf::later>(table, load_dwords(line), absmax[p][v], pairs);
        at_each<4>([&](auto i) {
          sum.add(pairs[decltype(i)::value], tokens + (4 * j + decltype(i)::value) * Sum::kDwords);
        });
      });
      if ((j + 1) % (kSumPairs / 4) == 0) each_sum([](Sum& sum, uint32_t, uint32_t) { sum.end(); });
    }
  }
  each_sum([&](Sum& sum, uint32_t p, uint32_t v) { store(y[p] + v * kWidth, sum.sum); });
}

template <Format Fmt, class Sum>
void gemv_pairs(const void* panel_a, const void* panel_b, const float* x, uint64_t cols, float* y_a,
                float* y_b) {
  with_panels(panel_a, panel_b, y_a, y_b, [&](auto count, const uint8_t* const* panels, float* const* y) {
    gemv_pairs_of<Fmt, Sum, decltype(count)::value>(panels, x, cols, y);
  });
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
        at_each_vector<decltype(r)::value, kPanelVectors>(x + decltype(r)::value, [&](auto v, auto both) {
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

}  // namespace
}  // namespace rhapsode::kernels
