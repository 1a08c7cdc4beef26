// 4-bit weights by 16-bit fixed point with AVX512-VNNI, as vec_four_bit.h has it: a look-up in words gives
// both factors of two columns. Needs vec_avx512.h and vec_table.h before it.
#pragma once

#include "kernels/isa/vec_four_bit.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

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

// The exact sums of one block for the rows of vector v. One load reads all lines of a stream: unrolled, each
// of eight loads would see steps of a whole block, and CPUs then ask memory for the wrong lines (half of the
// bandwidth on Zen 5).
inline I block_dots(I table, const uint8_t* codes, const int16_t* x, uint32_t v) {
  I sums[4] = {splat_i(0), splat_i(0), splat_i(0), splat_i(0)};
#pragma GCC unroll 1
  for (uint32_t j = 0; j < kBlockCols / 8; ++j, x += 8) {
    const uint8_t* line = code_dwords(codes, v, j);
    prefetch_unpacked(line);
    I dwords = load_dwords(line);
    pin(dwords);  // GCC would have each shift load it again
    const auto add = [&](I& sum, I index, const int16_t* pair) {
      sum = add_pairs16(sum, _mm512_permutexvar_epi16(index, table), pair);
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
  BlockScales<Fmt> of[2] = {{panels[0], cols}, {panels[Panels - 1], cols}};
  F sums[Panels][kPanelVectors];
  for (auto& panel : sums)
    for (F& sum : panel) sum = zero();
  for (uint64_t block = 0; block < cols / kBlockCols; ++block) {
    alignas(64) int16_t ordered[kBlockCols];
    order_block(x + block * kBlockCols, ordered);
    const F scale = splat_from(scales + block);
    for (uint32_t p = 0; p < Panels; ++p) {
      for (uint32_t v = 0; v < kPanelVectors; ++v) {
        const F absmax = of[p].absmax(block, v) * scale;
        const I sum = block_dots(table, of[p].block + kScaleBytes<Fmt>, ordered, v);
        sums[p][v] = fma(to_float(sum), absmax, sums[p][v]);
      }
      of[p].advance();
    }
  }
  for (uint32_t p = 0; p < Panels; ++p)
    for (uint32_t v = 0; v < kPanelVectors; ++v) store(y[p] + v * kWidth, sums[p][v]);
}

template <Format Fmt>
void gemv_fixed_vnni(const void* panel_a, const void* panel_b, const void* codes, const float* scales,
                     uint64_t cols, float* y_a, float* y_b) {
  const auto* x = static_cast<const int16_t*>(codes);
  with_panels(panel_a, panel_b, y_a, y_b, [&](auto count, const uint8_t* const* panels, float* const* y) {
    gemv_fixed_dots<Fmt, decltype(count)::value>(panels, x, scales, cols, y);
  });
}

}  // namespace
}  // namespace rhapsode::kernels
