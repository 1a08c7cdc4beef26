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

// A token's value, or its dword of integers, and the sums of each of `Vectors` vectors: use(the vector's
// index, the value in all lanes, or where it is, if row `Row` of a tile has it broadcast by the
// multiply-adds).
inline F splat_at(const float* value) {
  return splat_from(value);
}
inline I splat_at(const void* dword) {
  return splat_dword(dword);
}
template <uint32_t Row, uint32_t Vectors, class T, class Use>
inline void at_each_vector(const T* value, Use use) {
  if constexpr (broadcasts_itself(Row)) {
    at_each<Vectors>([&](auto v) { use(v, value); });
  } else {
    const auto in_all_lanes = splat_at(value);
    at_each<Vectors>([&](auto v) { use(v, in_all_lanes); });
  }
}

// One token's product with panel a, or with two panels at once where b is not null: run(how many as a type's
// value, the panels, their sums).
template <class Run>
inline void with_panels(const void* a, const void* b, float* y_a, float* y_b, Run run) {
  const uint8_t* panels[2] = {static_cast<const uint8_t*>(a), static_cast<const uint8_t*>(b)};
  float* y[2] = {y_a, y_b};
  if (b != nullptr) return run(std::integral_constant<uint32_t, 2>(), panels, y);
  run(std::integral_constant<uint32_t, 1>(), panels, y);
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
  with_panels(panel_a, panel_b, y_a, y_b, [&](auto count, const uint8_t* const* panels, float* const* y) {
    gemv_panels<Fmt, decltype(count)::value>(panels, x, cols, y);
  });
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

constexpr uint32_t kTileColumns = 4;  // that a loop's turn takes

// One product of a register tile: c[r][0..32) (+)= sum over k of a[r][k] * b[k][0..32), for all rows of a
// panel.
struct Tile {
  const float* b;  // [k_count][32]
  uint64_t k_count;
  float* c;
  uint64_t c_stride;
  bool first;
};

// sums[r][v] += *x(r) * w(v). The shorter side waits in registers for the longer one.
template <uint32_t Rows, class X, class W>
inline void add_outer(F (&sums)[Rows][kPanelVectors], X x, W w) {
  if constexpr (Rows < kPanelVectors) {
    F held[Rows];
    at_each<Rows>([&](auto r) { held[decltype(r)::value] = splat_from(x(decltype(r)::value)); });
    at_each<kPanelVectors>([&](auto v) {
      const F weights = w(decltype(v)::value);
      at_each<Rows>([&](auto r) {
        F& sum = sums[decltype(r)::value][decltype(v)::value];
        sum = fma_in_place(sum, held[decltype(r)::value], weights);
      });
    });
    at_each<Rows>([&](auto r) { still_used(held[decltype(r)::value]); });
  } else {
    F held[kPanelVectors];
    at_each<kPanelVectors>([&](auto v) { held[decltype(v)::value] = w(decltype(v)::value); });
    at_each<Rows>([&](auto r) {
      at_each_vector<decltype(r)::value, kPanelVectors>(x(decltype(r)::value), [&](auto v, auto value) {
        F& sum = sums[decltype(r)::value][decltype(v)::value];
        sum = fma_in_place(sum, held[decltype(v)::value], value);
      });
    });
    at_each<kPanelVectors>([&](auto v) { still_used(held[decltype(v)::value]); });
  }
}

// Where the values of a tile's tokens are found. As pack_tokens leaves them:
struct PackedTokens {
  const float* a;  // of a token, at the first of the columns to come
  const float* at(uint32_t r, uint32_t column) const { return a + column * kGemmTokens + r; }
  PackedTokens from(uint32_t row) const { return {a + row}; }
  void advance(uint64_t columns) { a += columns * kGemmTokens; }
};

// As rows, `Stride` apart.
template <uint32_t Stride>
struct EvenRows {
  const float* x;
  const float* at(uint32_t r, uint32_t column) const { return x + r * Stride + column; }
  EvenRows from(uint32_t row) const { return {x + row * Stride}; }
  void advance(uint64_t columns) { x += columns; }
};

// Rows of a tile whose tokens each take an address of their own: more would leave the registers.
constexpr uint32_t kAddressedRows = kTileRows < 6 ? kTileRows : 6;

// `Columns` columns at a time: a loop's own instructions cost where another thread shares the core. A
// function of its own, so that its sums have all registers.
template <uint32_t Rows, uint32_t Columns, class Tokens>
[[gnu::noinline]] void tile_rows(const Tile& tile, Tokens tokens) {
  float* const c = tile.c;
  const uint64_t c_stride = tile.c_stride;
  F sums[Rows][kPanelVectors];
  at_each<Rows * kPanelVectors>([&](auto at) {
    constexpr uint32_t r = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
    sums[r][v] = tile.first ? zero() : load(c + r * c_stride + v * kWidth);
  });
  const float* b = tile.b;
  for (const float* const end = b + tile.k_count * kPanelRows; b != end; b += Columns * kPanelRows) {
    at_each<Columns>([&](auto column) {
      constexpr uint32_t k = decltype(column)::value;
      add_outer<Rows>(
          sums, [&](uint32_t r) { return tokens.at(r, k); },
          [&](uint32_t v) { return load(b + k * kPanelRows + v * kWidth); });
    });
    tokens.advance(Columns);
  }
  at_each<Rows * kPanelVectors>([&](auto at) {
    constexpr uint32_t r = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
    store(c + r * c_stride + v * kWidth, sums[r][v]);
  });
}

template <uint32_t Rows, class Tokens>
inline void tile_of(uint32_t rows, Tile tile, Tokens tokens) {
  if (rows == Rows) {
    const uint64_t rest = tile.k_count % kTileColumns;
    tile.k_count -= rest;
    if (tile.k_count != 0) tile_rows<Rows, kTileColumns>(tile, tokens);
    if (rest == 0 && tile.k_count != 0) return;  // of no columns at all the sums are 0
    tokens.advance(tile.k_count);
    return tile_rows<Rows, 1>(
        {tile.b + tile.k_count * kPanelRows, rest, tile.c, tile.c_stride, tile.first && tile.k_count == 0},
        tokens);
  }
  if constexpr (Rows > 1) tile_of<Rows - 1>(rows, tile, tokens);
}

// A tile's tokens in as few passes as registers allow, of about the same length: a short one has too few sums
// to keep the multipliers busy.
template <uint32_t MostRows, class Tokens>
inline void multiply_tile(uint32_t count, Tile tile, const Tokens& tokens) {
  float* const c = tile.c;
  uint32_t passes = (count + MostRows - 1) / MostRows;
  for (uint32_t row = 0; row < count; --passes) {
    const uint32_t rows = (count - row + passes - 1) / passes;
    tile.c = c + row * tile.c_stride;
    tile_of<MostRows>(rows, tile, tokens.from(row));
    row += rows;
  }
}

void gemm_tile(const float* b, const float* a, uint32_t tokens, uint64_t k_count, float* c, uint64_t c_stride,
               bool first) {
  multiply_tile<kTileRows>(tokens, {b, k_count, c, c_stride, first}, PackedTokens{a});
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
