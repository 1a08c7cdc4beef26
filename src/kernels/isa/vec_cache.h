// Cached keys and values as the attention reads them: elements of any dtype as floats, and register tiles
// over them. Needs a vec_<isa>.h, vec_rows.h before it.
#pragma once

#include "kernels/isa/vec_rows.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

constexpr uint32_t kPieceRows = 64;     // rows of a widened piece of K (head dims) or V (tokens)
constexpr uint32_t kPieceColumns = 32;  // as wide as a register tile

// kWidth cached elements as floats.
template <Dtype D>
inline F load_cached(const uint8_t* p) {
  if constexpr (D == Dtype::i8) return load_i8(p);
  return load_as(D, p);
}
template <Dtype D>
constexpr uint64_t kCachedBytes = D == Dtype::i8    ? 1
                                  : D == Dtype::f32 ? 4
                                                    : 2;

// The first n < kWidth of them, then zeros.
template <Dtype D>
inline F load_cached_first(const uint8_t* p, uint32_t n) {
  uint8_t last[4 * kWidth] = {};
  __builtin_memcpy(last, p, n * kCachedBytes<D>);
  return load_cached<D>(last);
}

// A register tile over 32 columns of K (tokens) or V (head dims): c[r][0..32) continues its chains over
// k_count rows of b.
struct CacheTile {
  const uint8_t* b;   // cached elements, or floats once they are widened
  uint64_t b_stride;  // bytes from row to row
  const float* a;     // a[r * a_stride + k]
  uint64_t a_stride;
  uint64_t k_count;
  float* c;
  uint64_t c_stride;
  bool first;  // start from zero
};

template <Dtype D, uint32_t Rows>
inline void cache_tile_rows(const CacheTile& tile) {
  constexpr uint32_t kVectors = tile_vectors(Rows);
  const float* a[Rows];
  for (uint32_t r = 0; r < Rows; ++r) a[r] = tile.a + r * tile.a_stride;
  for (uint32_t column = 0; column < kPieceColumns; column += kVectors * kWidth) {
    float* c = tile.c + column;
    F sums[Rows][kVectors];
    for (uint32_t r = 0; r < Rows; ++r)
      for (uint32_t v = 0; v < kVectors; ++v)
        sums[r][v] = tile.first ? zero() : load(c + r * tile.c_stride + v * kWidth);
    const uint8_t* b = tile.b + column * kCachedBytes<D>;
    for (uint64_t k = 0; k < tile.k_count; ++k, b += tile.b_stride) {
      F w[kVectors];
      for (uint32_t v = 0; v < kVectors; ++v) w[v] = load_cached<D>(b + v * kWidth * kCachedBytes<D>);
      for (uint32_t r = 0; r < Rows; ++r) {
        const F x = splat_from(a[r] + k);
        for (uint32_t v = 0; v < kVectors; ++v) sums[r][v] = fma(x, w[v], sums[r][v]);
      }
    }
    for (uint32_t r = 0; r < Rows; ++r)
      for (uint32_t v = 0; v < kVectors; ++v) store(c + r * tile.c_stride + v * kWidth, sums[r][v]);
  }
}

template <Dtype D, uint32_t Rows = kGemmTokens>
inline void cache_tile(uint32_t rows, const CacheTile& tile) {
  if (rows == Rows) return cache_tile_rows<D, Rows>(tile);
  if constexpr (Rows > 1) cache_tile<D, Rows - 1>(rows, tile);
}

template <Dtype D>
inline void widen(const uint8_t* from, uint64_t stride, uint32_t rows, uint32_t count, float* piece) {
  for (uint32_t row = 0; row < rows; ++row, from += stride, piece += kPieceColumns) {
    uint32_t i = 0;
    for (; i + kWidth <= count; i += kWidth) store(piece + i, load_cached<D>(from + i * kCachedBytes<D>));
    if (i == kPieceColumns) continue;
    store(piece + i, load_cached_first<D>(from + i * kCachedBytes<D>, count - i));
    for (i += kWidth; i < kPieceColumns; i += kWidth) store(piece + i, zero());
  }
}

}  // namespace
}  // namespace rhapsode::kernels
