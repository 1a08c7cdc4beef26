// Integer products with AVX512-VNNI, as reference_quantized.cpp and reference_ternary.cpp have them: a dword
// lane is an output row, its sum an exact integer, so the bits are those of every other set. Bytes are
// multiplied unsigned by signed: one side is moved by 128, and 128 times the sum of the other comes off.
// Needs vec_avx512.h and vec_table.h before it.
#pragma once

#include "kernels/isa/vec_vnni_ternary.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

inline I dot_words(I sum, I a, I b) {  // two products to each dword
  return _mm512_dpwssd_epi32(sum, a, b);
}
inline I moved_by_128(I signed_bytes) {
  return _mm512_xor_si512(signed_bytes, splat_i(0x80808080u));
}

// Here it is the activations that are moved: a panel knows the sums of its codes.
template <uint32_t Panels>
inline void gemv_int8_dots(const uint8_t* const* panels, const int8_t* x, float scale, uint64_t cols,
                           float* const* y) {
  I sums[Panels][kPanelVectors];
  at_each<Panels * kPanelVectors>([&](auto at) {
    sums[decltype(at)::value / kPanelVectors][decltype(at)::value % kPanelVectors] = splat_i(0);
  });
  for (uint64_t k = 0; k < cols; k += 4) {
    const I quad = moved_by_128(splat_dword(x + k));
    at_each<Panels * kPanelVectors>([&](auto at) {
      constexpr uint32_t p = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
      const uint8_t* w = panels[p] + quant::kInt8HeaderBytes + k * kPanelRows + v * kWidth * 4;
      prefetch_streamed(w);
      sums[p][v] = dot_bytes(sums[p][v], quad, load_dwords(w));
    });
  }
  at_each<Panels * kPanelVectors>([&](auto at) {
    constexpr uint32_t p = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
    const float* scb = reinterpret_cast<const float*>(panels[p]) + v * kWidth;
    const I excess = shift_left<7>(load_dwords(panels[p] + (kPanelRows + v * kWidth) * 4));
    store(y[p] + v * kWidth, int8_result(sub_i(sums[p][v], excess), splat(scale), load(scb)));
  });
}

void gemv_int8_vnni(const void* panel_a, const void* panel_b, const void* codes, const float* scales,
                    uint64_t cols, float* y_a, float* y_b) {
  const uint8_t* panels[2] = {static_cast<const uint8_t*>(panel_a), static_cast<const uint8_t*>(panel_b)};
  float* y[2] = {y_a, y_b};
  const auto* x = static_cast<const int8_t*>(codes);
  if (panel_b != nullptr) {
    gemv_int8_dots<2>(panels, x, *scales, cols, y);
  } else {
    gemv_int8_dots<1>(panels, x, *scales, cols, y);
  }
}

// Tiles of int8 codes that expand_codes and the packed tokens hold as words: two pairs of columns become the
// four bytes of a dword, tokens once a run of columns, weights at each step.
constexpr uint64_t kQuadRun = 64;  // steps of four columns; their tokens take 4 KiB

inline I narrow_pairs(I first, I second) {
  constexpr uint8_t kQuads[16] = {0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15};
  return shuffle_bytes(_mm512_packs_epi16(first, second), splat_table(kQuads));
}

struct TokenQuads {
  alignas(64) int8_t codes[kQuadRun][kWidth * 4];  // [step][token][4]

  // Returns excess and 128 times the sum of each token's codes.
  I fill(const int16_t* a, uint64_t steps, I excess) {
    constexpr auto kTokens = static_cast<Mask>((1u << kGemmTokens) - 1u);
    for (uint64_t step = 0; step < steps; ++step, a += kGemmTokens * 4) {
      const I quads = narrow_pairs(_mm512_maskz_loadu_epi32(kTokens, a),
                                   _mm512_maskz_loadu_epi32(kTokens, a + kGemmTokens * 2));
      excess = dot_bytes(excess, splat_i(0x80808080u), quads);
      store_dwords(codes[step], quads);
    }
    return excess;
  }
};

// Adds `steps` steps of four columns to the sums of `Rows` tokens.
template <uint32_t Rows>
inline void sum_quads(I (&sums)[Rows][kPanelVectors], const int16_t* b, const TokenQuads& tokens,
                      uint64_t steps) {
  for (uint64_t step = 0; step < steps; ++step, b += kPanelRows * 4) {
    I w[kPanelVectors];
    for (uint32_t v = 0; v < kPanelVectors; ++v) {
      const auto* pair = reinterpret_cast<const uint8_t*>(b + v * kWidth * 2);
      w[v] = moved_by_128(narrow_pairs(load_dwords(pair), load_dwords(pair + kPanelRows * 4)));
    }
    at_each<Rows>([&](auto r) {
      const I x = splat_dword(tokens.codes[step] + decltype(r)::value * 4);
      at_each<kPanelVectors>([&](auto v) {
        I& sum = sums[decltype(r)::value][decltype(v)::value];
        sum = dot_bytes(sum, w[decltype(v)::value], x);
      });
    });
  }
}

struct ByteTile {
  const int16_t* b;
  const int16_t* a;
  uint64_t pairs;
  float* c;
  uint64_t c_stride;
  bool first;

  template <uint32_t Rows>
  void run() const {
    I sums[Rows][kPanelVectors];
    at_each<Rows * kPanelVectors>([&](auto at) {
      constexpr uint32_t r = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
      sums[r][v] = first ? splat_i(0) : bits(load(c + r * c_stride + v * kWidth));
    });
    TokenQuads tokens;
    I excess = splat_i(0);
    for (uint64_t at = 0; at < pairs / 2; at += kQuadRun) {
      const uint64_t steps = pairs / 2 - at < kQuadRun ? pairs / 2 - at : kQuadRun;
      excess = tokens.fill(a + at * kGemmTokens * 4, steps, excess);
      sum_quads<Rows>(sums, b + at * kPanelRows * 4, tokens, steps);
    }
    alignas(64) uint32_t of_token[kWidth];
    store_dwords(of_token, excess);
    at_each<Rows * kPanelVectors>([&](auto at) {
      constexpr uint32_t r = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
      store(c + r * c_stride + v * kWidth, from_bits(sub_i(sums[r][v], splat_i(of_token[r]))));
    });
  }
};

// Words of int8 codes only, as expand_codes of int8 and quantize_int8 make them; pairs come in twos, since
// their columns are a multiple of four.
void tile_int16_vnni(const int16_t* b, const int16_t* a, uint32_t tokens, uint64_t pairs, float* c,
                     uint64_t c_stride, bool first) {
  run_rows<kGemmTokens>(tokens, ByteTile{b, a, pairs, c, c_stride, first});
}

// The fixed-point values of a 4-bit code as words, twice: a look-up heeds five bits of each word, the fifth
// of which is the next column's.
inline I word_table(const quant::FourBitCode& code) {
  int16_t words[32];
  for (uint32_t i = 0; i < 32; ++i) words[i] = code.fixed[i % 16];
  return _mm512_loadu_si512(words);
}

// A block's activations in the order in which shifted dwords of codes look weights up: of each eight columns
// 0 and 2, 4 and 6, 1 and 3, 5 and 7.
inline void order_block(const int16_t* x, int16_t* ordered) {
  constexpr uint8_t kOrder[16] = {0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15};
  for (uint32_t k = 0; k < kBlockCols; k += 32)
    store_dwords(ordered + k,
                 shuffle_bytes(load_dwords(reinterpret_cast<const uint8_t*>(x + k)), splat_table(kOrder)));
  // Pairs are broadcast from memory: out of the register each would cost two shuffles more.
  asm volatile("" : : "r"(ordered) : "memory");
}

// The exact sums of one block for the rows of vector v.
inline I block_dots(I table, const uint8_t* codes, const int16_t* x, uint32_t v) {
  I sums[4] = {splat_i(0), splat_i(0), splat_i(0), splat_i(0)};
  for (uint32_t j = 0; j < kBlockCols / 8; ++j, x += 8) {
    const I dwords = load_dwords(code_dwords(codes, v, j));
    const auto add = [&](I& sum, I index, const int16_t* pair) {
      sum = dot_words(sum, _mm512_permutexvar_epi16(index, table), splat_dword(pair));
    };
    add(sums[0], dwords, x);
    add(sums[1], _mm512_srli_epi16(dwords, 4), x + 2);
    add(sums[2], _mm512_srli_epi16(dwords, 8), x + 4);
    add(sums[3], _mm512_srli_epi16(dwords, 12), x + 6);
  }
  return add_i(add_i(sums[0], sums[1]), add_i(sums[2], sums[3]));
}

template <Format Fmt, uint32_t Panels>
inline void gemv_fixed_dots(const uint8_t* const* panels, const int16_t* x, const float* scales,
                            uint64_t cols, float* const* y) {
  const I table = word_table(quant::four_bit_code(Fmt));
  const uint64_t groups = quant::is_nested(Fmt) ? quant::nested_groups(cols) : 0;
  F sums[Panels][kPanelVectors];
  for (auto& panel : sums)
    for (F& sum : panel) sum = zero();
  for (uint64_t block = 0; block < cols / kBlockCols; ++block) {
    alignas(64) int16_t ordered[kBlockCols];
    order_block(x + block * kBlockCols, ordered);
    const F scale = splat_from(scales + block);
    for (uint32_t p = 0; p < Panels; ++p) {
      const uint8_t* at = first_block<Fmt>(panels[p], cols) + block * kBlockStride<Fmt>;
      for (uint64_t line = 0; line < kBlockStride<Fmt>; line += 64) prefetch_unpacked(at + line);
      for (uint32_t v = 0; v < kPanelVectors; ++v) {
        const I sum = block_dots(table, at + kScaleBytes<Fmt>, ordered, v);
        const F absmax = block_absmax<Fmt>(panels[p], groups, at, block, v);
        sums[p][v] = fma(to_float(sum), absmax * scale, sums[p][v]);
      }
    }
  }
  for (uint32_t p = 0; p < Panels; ++p)
    for (uint32_t v = 0; v < kPanelVectors; ++v) store(y[p] + v * kWidth, sums[p][v]);
}

template <Format Fmt>
void gemv_fixed_vnni(const void* panel_a, const void* panel_b, const void* codes, const float* scales,
                     uint64_t cols, float* y_a, float* y_b) {
  const uint8_t* panels[2] = {static_cast<const uint8_t*>(panel_a), static_cast<const uint8_t*>(panel_b)};
  float* y[2] = {y_a, y_b};
  const auto* x = static_cast<const int16_t*>(codes);
  if (panel_b != nullptr) {
    gemv_fixed_dots<Fmt, 2>(panels, x, scales, cols, y);
  } else {
    gemv_fixed_dots<Fmt, 1>(panels, x, scales, cols, y);
  }
}

uint64_t probe_int16_vnni(uint64_t rounds) {
  return integer_chains(rounds, 4, [](I sum, I a, I b) { return dot_words(sum, a, b); });
}
uint64_t probe_int8_vnni(uint64_t rounds) {
  return integer_chains(rounds, 8, [](I sum, I a, I b) { return dot_bytes(sum, a, b); });
}

constexpr Kernels vnni_table(std::string_view name) {
  Kernels kernels = table(name);
  const auto gemv_of = [&](Format format) -> Kernels::GemvQuantized& {
    return kernels.gemv_quantized[static_cast<uint32_t>(format)];
  };
  gemv_of(Format::int8) = gemv_int8_vnni;
  gemv_of(Format::nf4) = gemv_fixed_vnni<Format::nf4>;
  gemv_of(Format::nf4_nested) = gemv_fixed_vnni<Format::nf4_nested>;
  gemv_of(Format::fp4) = gemv_fixed_vnni<Format::fp4>;
  gemv_of(Format::fp4_nested) = gemv_fixed_vnni<Format::fp4_nested>;
  kernels.tile_int16 = tile_int16_vnni;
  kernels.dot_ternary = dot_ternary_vnni;
  kernels.tile_trits = tile_trits_vnni;
  kernels.probe_int16 = probe_int16_vnni;
  kernels.probe_int8 = probe_int8_vnni;
  return kernels;
}

}  // namespace
}  // namespace rhapsode::kernels
