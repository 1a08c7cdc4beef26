// Dequantized 4-bit weights, and their products with one token. Needs a vec_<isa>.h before it.
#pragma once

#include "kernels/isa/vec_four_bit.h"
#include "kernels/isa/vec_math.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

inline F not_rounded(F x) {
  return x;
}
// Rounds to bf16, ties to even: to the last place of the bf16 numbers about x is where a sum with 2^16 times
// x's power of two ends. Of 0 and of what is from 2^-126 to 2^111.
inline F round_usual_bf16(F x) {
  const F power = from_bits(and_i(bits(x), splat_i(0xff800000u)));
  return fma(power, splat(-65536.0f), fma(power, splat(65536.0f), x));
}
// Whether all products of these and a code's value (0, or 0.005 to 1) are such numbers: all are from 2^-100
// to below 2^100. Positive floats are in the order of their bits; a sign, or that of a difference, tells.
inline bool are_usual(const F* absmax, uint32_t count) {
  const I least = splat_i((127 - 100) << 23), most = splat_i(((127 + 100) << 23) - 1);
  I signs = splat_i(0);
  for (uint32_t i = 0; i < count; ++i) {
    const I at = bits(absmax[i]);
    signs = or_i(or_i(signs, at), or_i(sub_i(at, least), sub_i(most, at)));
  }
  return lane_bits(less(to_float(signs), zero())) == 0;
}

// Of a block of 64 columns, one token: sums[panel][vector] continued. A function of its own, since it is the
// same for all formats.
template <uint32_t Panels>
using AddBlock = void (*)(const Table16& table, const uint8_t* const (&codes)[Panels],
                          const F (&absmax)[Panels][kPanelVectors], const float* x,
                          F (&sums)[Panels][kPanelVectors]);

template <uint32_t Panels, F (*Round)(F)>
[[gnu::noinline]] void add_block(const Table16& table, const uint8_t* const (&codes)[Panels],
                                 const F (&absmax)[Panels][kPanelVectors], const float* x,
                                 F (&sums)[Panels][kPanelVectors]) {
#pragma GCC unroll 1
  for (uint32_t v = 0; v < kPanelVectors; ++v) {
    F scale[Panels], sum[Panels];
    at_each<Panels>([&](auto p) { scale[p] = absmax[p][v], sum[p] = sums[p][v]; });
#pragma GCC unroll 1
    for (uint32_t j = 0; j < kBlockCols / 8; ++j) {
      I dwords[Panels];
      at_each<Panels>([&](auto p) {
        const uint8_t* line = code_dwords(codes[p], v, j);
        prefetch_unpacked(line);
        dwords[p] = load_dwords(line);
      });
      at_each<2>([&](auto half) {
        F values[Panels][4];
        at_each<Panels>([&](auto p) { four_values<decltype(half)::value>(table, dwords[p], values[p]); });
        at_each<4>([&](auto i) {
          const F token = splat_from(x + 8 * j + 4 * half + i);
          at_each<Panels>([&](auto p) { sum[p] = fma(Round(values[p][i] * scale[p]), token, sum[p]); });
        });
      });
    }
    at_each<Panels>([&](auto p) { sums[p][v] = sum[p]; });
  }
}

template <uint32_t Panels>
inline AddBlock<Panels> block_of(Dtype D, bool usual) {
  if (D == Dtype::f16) return add_block<Panels, round_f16>;
  if (D == Dtype::bf16) return usual ? add_block<Panels, round_usual_bf16> : add_block<Panels, round_bf16>;
  return add_block<Panels, not_rounded>;
}

template <Format Fmt, uint32_t Panels>
inline void gemv_of_values(Dtype D, const uint8_t* const* panels, const float* x, uint64_t cols,
                           float* const* y) {
  const Table16 table = table16(quant::four_bit_code(Fmt).values);
  const AddBlock<Panels> add_usual = block_of<Panels>(D, true), add_any = block_of<Panels>(D, false);
  BlockScales<Fmt> of[2] = {{panels[0], cols}, {panels[Panels - 1], cols}};
  F sums[Panels][kPanelVectors];
  for (auto& panel : sums)
    for (F& sum : panel) sum = zero();
  for (uint64_t index = 0; index < cols / kBlockCols; ++index, x += kBlockCols) {
    const uint8_t* codes[Panels];
    F absmax[Panels][kPanelVectors];
    for (uint32_t p = 0; p < Panels; ++p) {
      of[p].template look_ahead<kPanelRows>(index, 0);
      for (uint32_t v = 0; v < kPanelVectors; ++v) absmax[p][v] = of[p].absmax(index, v);
      codes[p] = of[p].block + kScaleBytes<Fmt>;
      of[p].advance();
    }
    (are_usual(absmax[0], Panels * kPanelVectors) ? add_usual : add_any)(table, codes, absmax, x, sums);
  }
  for (uint32_t p = 0; p < Panels; ++p)
    for (uint32_t v = 0; v < kPanelVectors; ++v) store(y[p] + v * kWidth, sums[p][v]);
}

template <Format Fmt>
void gemv_dequantized(Dtype D, const void* panel_a, const void* panel_b, const float* x, uint64_t cols,
                      float* y_a, float* y_b) {
  with_panels(panel_a, panel_b, y_a, y_b, [&](auto count, const uint8_t* const* panels, float* const* y) {
    gemv_of_values<Fmt, decltype(count)::value>(D, panels, x, cols, y);
  });
}

// Of a block: out[64][32].
template <F (*Round)(F)>
[[gnu::noinline]] void expand_block(const Table16& table, const uint8_t* codes,
                                    const F (&absmax)[kPanelVectors], float* out) {
#pragma GCC unroll 1
  for (uint32_t v = 0; v < kPanelVectors; ++v, out += kWidth) {
    const F scale = absmax[v];
#pragma GCC unroll 1
    for (uint32_t j = 0; j < kBlockCols / 8; ++j) {
      const I dwords = load_dwords(code_dwords(codes, v, j));
      at_each<2>([&](auto half) {
        F values[4];
        four_values<decltype(half)::value>(table, dwords, values);
        at_each<4>(
            [&](auto i) { store(out + (8 * j + 4 * half + i) * kPanelRows, Round(values[i] * scale)); });
      });
    }
  }
}

template <Format Fmt>
void expand_dequantized(Dtype D, const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count,
                        float* out) {
  const Table16 table = table16(quant::four_bit_code(Fmt).values);
  for_blocks<Fmt>(panel, cols, k_begin, k_count,
                  [&](uint64_t k, const uint8_t* codes, const F(&absmax)[kPanelVectors]) {
                    float* to = out + k * kPanelRows;
                    if (D == Dtype::f32) return expand_block<not_rounded>(table, codes, absmax, to);
                    if (D == Dtype::f16) return expand_block<round_f16>(table, codes, absmax, to);
                    if (are_usual(absmax, kPanelVectors))
                      return expand_block<round_usual_bf16>(table, codes, absmax, to);
                    expand_block<round_bf16>(table, codes, absmax, to);
                  });
}

template <Format Fmt>
constexpr Dequantized dequantized = {gemv_dequantized<Fmt>, expand_dequantized<Fmt>};

}  // namespace
}  // namespace rhapsode::kernels
