// Matrix products on vectors: a lane is an output row, each lane one fma chain. Needs a vec_<isa>.h before
// it.
#pragma once

#include <type_traits>
#include <utility>

#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

constexpr uint32_t kPanelVectors = kPanelRows / kWidth;
static_assert(kGemmTokens % 4 == 0 || kGemmTokens % 4 == 2);

// f(0), f(1), … with constants as arguments (decltype(at)::value). A compiler keeps an array of sums in
// registers only where all its indices are constants early on, so loops around such sums are written so.
template <class Body, uint32_t... At>
inline void at_each_of(std::integer_sequence<uint32_t, At...>, Body body) {
  (body(std::integral_constant<uint32_t, At>()), ...);
}
template <uint32_t Count, class Body>
inline void at_each(Body body) {
  at_each_of(std::make_integer_sequence<uint32_t, Count>(), body);
}

// Vector v of panel column k (f32, f16), or of the column pair k, k + 1 (bf16: both at once).
struct Pair {
  F even;
  F odd;
};
template <Format Fmt>
inline Pair load_pair(const uint8_t* panel, uint64_t k, uint32_t v) {
  if constexpr (Fmt == Format::bf16) {
    const I pair = load_dwords(panel + k * kPanelRows * 2 + v * kWidth * 4);
    return {from_bits(shift_left<16>(pair)), from_bits(and_i(pair, splat_i(0xffff0000u)))};
  } else if constexpr (Fmt == Format::f16) {
    const uint8_t* p = panel + (k * kPanelRows + v * kWidth) * 2;
    return {load_f16(p), load_f16(p + kPanelRows * 2)};
  } else {
    const float* p = reinterpret_cast<const float*>(panel) + k * kPanelRows + v * kWidth;
    return {load(p), load(p + kPanelRows)};
  }
}

template <Format Fmt>
constexpr uint64_t kPairBytes = kPanelRows * 2 * (Fmt == Format::f32 ? 4 : 2);

template <Format Fmt, uint32_t Panels>
inline void gemv_panels(const uint8_t* const* panels, const float* x, uint64_t cols, float* const* y) {
  F sums[Panels][kPanelVectors];
  for (auto& panel : sums)
    for (F& sum : panel) sum = zero();
  for (uint64_t k = 0; k < cols; k += 2) {
    const F x0 = splat_from(x + k), x1 = splat_from(x + k + 1);
    for (uint32_t p = 0; p < Panels; ++p) {
      for (uint64_t line = 0; line < kPairBytes<Fmt>; line += 64)
        prefetch_streamed(panels[p] + k / 2 * kPairBytes<Fmt> + line);
      for (uint32_t v = 0; v < kPanelVectors; ++v) {
        const Pair w = load_pair<Fmt>(panels[p], k, v);
        sums[p][v] = fma(w.odd, x1, fma(w.even, x0, sums[p][v]));
      }
    }
  }
  for (uint32_t p = 0; p < Panels; ++p)
    for (uint32_t v = 0; v < kPanelVectors; ++v) store(y[p] + v * kWidth, sums[p][v]);
}

template <Format Fmt>
void gemv(const void* panel_a, const void* panel_b, const float* x, uint64_t cols, float* y_a, float* y_b) {
  const uint8_t* panels[2] = {static_cast<const uint8_t*>(panel_a), static_cast<const uint8_t*>(panel_b)};
  float* y[2] = {y_a, y_b};
  if (panel_b != nullptr) {
    gemv_panels<Fmt, 2>(panels, x, cols, y);
  } else {
    gemv_panels<Fmt, 1>(panels, x, cols, y);
  }
}

template <Format Fmt>
void expand(const void* panel, uint64_t, uint64_t k_begin, uint64_t k_count, float* out) {
  const uint8_t* p = static_cast<const uint8_t*>(panel);
  for (uint64_t k = 0; k < k_count; k += 2) {
    for (uint32_t v = 0; v < kPanelVectors; ++v) {
      const Pair w = load_pair<Fmt>(p, k_begin + k, v);
      store(out + k * kPanelRows + v * kWidth, w.even);
      if (k + 1 < k_count) store(out + (k + 1) * kPanelRows + v * kWidth, w.odd);
    }
  }
}

// One product of a register tile: c[r][0..32) (+)= sum over k of a[r][k] * b[k][0..32), with a[r][k] at
// a + r * row_step + k * k_step.
struct Tile {
  const float* b;  // [k_count][32]
  const float* a;
  uint64_t k_count;
  float* c;
  uint64_t c_stride;
  bool first;
};

template <uint32_t Rows, class Steps>
inline void tile_rows(const Tile& tile, Steps steps) {
  constexpr uint32_t kVectors = tile_vectors(Rows);
  for (uint32_t column = 0; column < kPanelRows; column += kVectors * kWidth) {
    F sums[Rows][kVectors];
    for (uint32_t r = 0; r < Rows; ++r)
      for (uint32_t v = 0; v < kVectors; ++v)
        sums[r][v] = tile.first ? zero() : load(tile.c + r * tile.c_stride + column + v * kWidth);
    const float* b = tile.b + column;
    for (uint64_t k = 0; k < tile.k_count; ++k, b += kPanelRows) {
      F w[kVectors];
      for (uint32_t v = 0; v < kVectors; ++v) w[v] = load(b + v * kWidth);
      for (uint32_t r = 0; r < Rows; ++r) {
        const F x = splat_from(tile.a + steps.at(r, k));
        for (uint32_t v = 0; v < kVectors; ++v) sums[r][v] = fma(x, w[v], sums[r][v]);
      }
    }
    for (uint32_t r = 0; r < Rows; ++r)
      for (uint32_t v = 0; v < kVectors; ++v)
        store(tile.c + r * tile.c_stride + column + v * kWidth, sums[r][v]);
  }
}

template <uint32_t Rows, class Steps>
inline void tile_of(uint32_t rows, const Tile& tile, Steps steps) {
  if (rows == Rows) return tile_rows<Rows>(tile, steps);
  if constexpr (Rows > 1) tile_of<Rows - 1>(rows, tile, steps);
}

struct PackedSteps {
  uint64_t at(uint32_t r, uint64_t k) const { return k * kGemmTokens + r; }
};

void gemm_tile(const float* b, const float* a, uint32_t tokens, uint64_t k_count, float* c, uint64_t c_stride,
               bool first) {
  tile_of<kGemmTokens>(tokens, Tile{b, a, k_count, c, c_stride, first}, PackedSteps{});
}

// Four columns of `Rows` (4 or 2) rows, transposed: column i to a + i * kGemmTokens.
template <uint32_t Rows>
inline void transpose_four(const float* const* rows, uint64_t k, float* a) {
  const __m128 r0 = _mm_loadu_ps(rows[0] + k), r1 = _mm_loadu_ps(rows[1] + k);
  const __m128 low = _mm_unpacklo_ps(r0, r1), high = _mm_unpackhi_ps(r0, r1);
  if constexpr (Rows == 2) {
    const auto put = [](float* to, __m128 two) { _mm_storel_pi(reinterpret_cast<__m64*>(to), two); };
    put(a, low);
    put(a + kGemmTokens, _mm_movehl_ps(low, low));
    put(a + 2 * kGemmTokens, high);
    put(a + 3 * kGemmTokens, _mm_movehl_ps(high, high));
  } else {
    const __m128 r2 = _mm_loadu_ps(rows[2] + k), r3 = _mm_loadu_ps(rows[3] + k);
    const __m128 low2 = _mm_unpacklo_ps(r2, r3), high2 = _mm_unpackhi_ps(r2, r3);
    _mm_storeu_ps(a, _mm_movelh_ps(low, low2));
    _mm_storeu_ps(a + kGemmTokens, _mm_movehl_ps(low2, low));
    _mm_storeu_ps(a + 2 * kGemmTokens, _mm_movelh_ps(high, high2));
    _mm_storeu_ps(a + 3 * kGemmTokens, _mm_movehl_ps(high2, high));
  }
}

void pack_tokens(const float* x, uint64_t x_stride, uint32_t tokens, uint64_t k_begin, uint64_t k_count,
                 float* a) {
  const float* rows[kGemmTokens];
  for (uint32_t t = 0; t < kGemmTokens; ++t) rows[t] = x + (t < tokens ? t : 0) * x_stride + k_begin;
  uint64_t k = 0;
  for (; tokens == kGemmTokens && k + 4 <= k_count; k += 4) {
    float* at = a + k * kGemmTokens;
    uint32_t t = 0;
    for (; t + 4 <= kGemmTokens; t += 4) transpose_four<4>(rows + t, k, at + t);
    if constexpr (kGemmTokens % 4 != 0) transpose_four<2>(rows + t, k, at + t);
  }
  for (; k < k_count; ++k)
    for (uint32_t t = 0; t < kGemmTokens; ++t) a[k * kGemmTokens + t] = t < tokens ? rows[t][k] : 0.0f;
}

}  // namespace
}  // namespace rhapsode::kernels
