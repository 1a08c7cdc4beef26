// Cached keys and values as the attention reads them: elements of any dtype as floats, and register tiles
// over them. Needs a vec_<isa>.h, vec_rows.h before it.
#pragma once

#include "kernels/isa/vec_matmul.h"
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

// What is fetched meanwhile, line after line, in whatever order the rest is read: the machine's own prefetch
// then joins in (on an Intel Xeon 22 instead of 16 GB/s).
struct FetchedAhead {
  const uint8_t* next = nullptr;  // null: nothing

  template <uint64_t Bytes>
  void fetch() {
    if (next == nullptr) return;
    for (uint64_t line = 0; line < Bytes; line += 64) prefetch_beside(next + line);
    next += Bytes;
  }
};

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
  bool first;           // start from zero
  FetchedAhead* ahead;  // as many bytes as are read of b; null: nothing
};

// Vectors of a row of the cache, and of the sums over it. bf16 is read two vectors at a time: the even
// elements in one, the odd ones in the other.
template <Dtype D, uint32_t Vectors>
inline void load_row_of(const uint8_t* b, F (&w)[Vectors]) {
  if constexpr (D == Dtype::bf16 && Vectors % 2 == 0) {
    at_each<Vectors / 2>([&](auto pair) {
      const I both = load_dwords(b + decltype(pair)::value * kWidth * 4);
      w[decltype(pair)::value * 2] = from_bits(shift_left<16>(both));
      w[decltype(pair)::value * 2 + 1] = from_bits(and_i(both, splat_i(0xffff0000u)));
    });
  } else {
    for (uint32_t v = 0; v < Vectors; ++v) w[v] = load_cached<D>(b + v * kWidth * kCachedBytes<D>);
  }
}
template <Dtype D, uint32_t Vectors>
inline void load_sums(const float* c, F (&sums)[Vectors]) {
  for (uint32_t v = 0; v < Vectors; v += 2) {
    if constexpr (D == Dtype::bf16 && Vectors % 2 == 0) {
      apart(c + v * kWidth, sums[v], sums[v + 1]);
    } else {
      sums[v] = load(c + v * kWidth);
      if (v + 1 < Vectors) sums[v + 1] = load(c + (v + 1) * kWidth);
    }
  }
}
template <Dtype D, uint32_t Vectors>
inline void store_sums(float* c, const F (&sums)[Vectors]) {
  for (uint32_t v = 0; v < Vectors; v += 2) {
    if constexpr (D == Dtype::bf16 && Vectors % 2 == 0) {
      together(c + v * kWidth, sums[v], sums[v + 1]);
    } else {
      store(c + v * kWidth, sums[v]);
      if (v + 1 < Vectors) store(c + (v + 1) * kWidth, sums[v + 1]);
    }
  }
}

template <Dtype D, uint32_t Rows>
inline void cache_tile_rows(const CacheTile& tile) {
  constexpr uint32_t kVectors = tile_vectors(Rows);
  FetchedAhead ahead = tile.ahead != nullptr ? *tile.ahead : FetchedAhead{};
  const float* a[Rows];
  for (uint32_t r = 0; r < Rows; ++r) a[r] = tile.a + r * tile.a_stride;
  for (uint32_t column = 0; column < kPieceColumns; column += kVectors * kWidth) {
    float* c = tile.c + column;
    F sums[Rows][kVectors];
    for (uint32_t r = 0; r < Rows; ++r) {
      for (F& sum : sums[r]) sum = zero();
      if (!tile.first) load_sums<D>(c + r * tile.c_stride, sums[r]);
    }
    const uint8_t* b = tile.b + column * kCachedBytes<D>;
    for (uint64_t k = 0; k < tile.k_count; ++k, b += tile.b_stride) {
      ahead.fetch<kVectors * kWidth * kCachedBytes<D>>();
      F w[kVectors];
      load_row_of<D>(b, w);
      for (uint32_t r = 0; r < Rows; ++r) {
        const F x = splat_from(a[r] + k);
        for (uint32_t v = 0; v < kVectors; ++v) sums[r][v] = fma(x, w[v], sums[r][v]);
      }
    }
    for (uint32_t r = 0; r < Rows; ++r) store_sums<D>(c + r * tile.c_stride, sums[r]);
  }
  if (tile.ahead != nullptr) *tile.ahead = ahead;
}

template <Dtype D, uint32_t Rows>
inline void cache_tile(uint32_t rows, const CacheTile& tile) {
  if (rows == Rows) return cache_tile_rows<D, Rows>(tile);
  if constexpr (Rows > 1) cache_tile<D, Rows - 1>(rows, tile);
}

template <Dtype D>
inline void widen(const uint8_t* from, uint64_t stride, uint32_t rows, uint32_t count, float* piece,
                  FetchedAhead& ahead) {
  for (uint32_t row = 0; row < rows; ++row, from += stride, piece += kPieceColumns) {
    ahead.fetch<kPieceColumns * kCachedBytes<D>>();
    uint32_t i = 0;
    for (; i + kWidth <= count; i += kWidth) store(piece + i, load_cached<D>(from + i * kCachedBytes<D>));
    if (i == kPieceColumns) continue;
    store(piece + i, load_cached_first<D>(from + i * kCachedBytes<D>, count - i));
    for (i += kWidth; i < kPieceColumns; i += kWidth) store(piece + i, zero());
  }
}

}  // namespace
}  // namespace rhapsode::kernels
