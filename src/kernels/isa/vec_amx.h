// Products by tiles (AMX), as kernels/matrix_tiles.h has them: 32 tokens by a panel's 32 rows are four tiles
// of sums, and each tile of tokens or weights that is loaded is multiplied twice. Needs vec_bf16.h before it.
#pragma once

#include "kernels/isa/vec_amx_tiles.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

constexpr uint64_t kDwordBytes = kPanelRows * 4;  // of a panel, for one dword of columns

// Up to 32 tokens; Both: more than 16.
template <class Products, bool Both>
struct TileSums {
  float* c;
  uint64_t c_stride;
  uint64_t row_bytes;    // of tokens, from one to the next
  uint64_t later_bytes;  // and to the later ones

  template <class Work>
  void for_sums(Work work) const {  // work(tile, its first sum)
    const auto later = [&] { return c + kMatrixRows * c_stride; };
    work(std::integral_constant<int, 0>{}, c);
    work(std::integral_constant<int, 1>{}, c + kWidth);
    if constexpr (Both) {
      work(std::integral_constant<int, 2>{}, later());
      work(std::integral_constant<int, 3>{}, later() + kWidth);
    }
  }

  void begin(bool first) const {
    for_sums([&](auto tile, const float* from) {
      if (first) {
        clear_tile<decltype(tile)::value>();
      } else {
        load_tile<decltype(tile)::value>(from, c_stride * 4);
      }
    });
  }
  // 16 dwords of columns, by which tokens are multiplied next.
  static void load_weights(const uint8_t* b) {
    load_tile<kTileWeights>(b, kDwordBytes);
    load_tile<kTileWeights + 1>(b + kWidth * 4, kDwordBytes);
  }
  void add(const uint8_t* a) const {
    load_tile<kTileTokens>(a, row_bytes);
    Products::template add<0, kTileTokens, kTileWeights>();
    Products::template add<1, kTileTokens, kTileWeights + 1>();
    if constexpr (Both) {
      load_tile<kTileTokens + 1>(a + later_bytes, row_bytes);
      Products::template add<2, kTileTokens + 1, kTileWeights>();
      Products::template add<3, kTileTokens + 1, kTileWeights + 1>();
    }
  }
  void end() const {
    for_sums([&](auto tile, float* to) { store_tile<decltype(tile)::value>(to, c_stride * 4); });
  }
};

// Lines to be fetched, some at a time.
struct LinesAhead {
  const uint8_t* next;
  const uint8_t* end;
  uint64_t piece;

  LinesAhead(const void* from, uint64_t bytes, uint64_t steps)
      : next(static_cast<const uint8_t*>(from)), end(next + bytes), piece((bytes / steps + 64) / 64 * 64) {}
  explicit LinesAhead(const MatrixTile& at)
      : LinesAhead(at.ahead, at.ahead_bytes,
                   (at.tokens + kMatrixTokens - 1) / kMatrixTokens * (at.dwords / kMatrixDwords + 1)) {}
  void fetch() {
    const uint8_t* stop = static_cast<uint64_t>(end - next) < piece ? end : next + piece;
    for (; next < stop; next += 64) prefetch_beside(next);
  }
};

template <class Products, bool Both>
void sum_tiles(const MatrixTile& at, const uint8_t* a, float* c, LinesAhead& ahead) {
  const TileSums<Products, Both> sums{c, at.c_stride, kMatrixLine, at.a_stride};
  const auto* b = static_cast<const uint8_t*>(at.b);
  sums.begin(at.first);
  uint64_t k = 0;
  for (; k + kMatrixDwords <= at.dwords; k += kMatrixDwords, a += kMatrixBytes) {
    ahead.fetch();
    sums.load_weights(b + k * kDwordBytes);
    sums.add(a);
  }
  if (k < at.dwords) {  // what lies behind the last dword may be no number, or not ours to read
    alignas(64) uint8_t rest[kMatrixDwords * kDwordBytes] = {};
    __builtin_memcpy(rest, b + k * kDwordBytes, (at.dwords - k) * kDwordBytes);
    sums.load_weights(rest);
    sums.add(a);
  }
  sums.end();
}

// How many of the tokens that are left the next tiles take; `configured`: how many they have rows for.
inline uint32_t configure_for(uint32_t left, uint32_t& configured) {
  const uint32_t count = left < kMatrixTokens ? left : kMatrixTokens;
  if (count != configured)
    configure_tiles(count < kMatrixRows ? count : kMatrixRows,
                    count <= kMatrixRows ? 0 : count - kMatrixRows);
  configured = count;
  return count;
}

// All tokens by so many columns that a panel's part of them stays in the first cache.
template <class Products>
void multiply_columns(const MatrixTile& at, LinesAhead& ahead, uint32_t& configured) {
  for (uint32_t t = 0; t < at.tokens; t += kMatrixTokens) {
    const uint32_t count = configure_for(at.tokens - t, configured);
    const auto* a = static_cast<const uint8_t*>(at.a) + t / kMatrixRows * at.a_stride;
    float* c = at.c + t * at.c_stride;
    if (count > kMatrixRows) {
      sum_tiles<Products, true>(at, a, c, ahead);
    } else {
      sum_tiles<Products, false>(at, a, c, ahead);
    }
  }
}

// Of a panel 16 KiB: with 24 or more the tokens that pass by push them out of a first cache of 48.
constexpr uint64_t kCachedDwords = 128;

template <class Products>
void multiply_matrix(const MatrixTile& at) {
  LinesAhead ahead(at);
  uint32_t configured = 0;
  const uint64_t pieces = (at.dwords + kCachedDwords - 1) / kCachedDwords;
  const uint64_t dwords = (at.dwords / pieces + kMatrixDwords - 1) / kMatrixDwords * kMatrixDwords;
  for (uint64_t k = 0; k < at.dwords; k += dwords) {
    MatrixTile piece = at;
    piece.b = static_cast<const uint8_t*>(at.b) + k * kDwordBytes;
    piece.a = static_cast<const uint8_t*>(at.a) + k / kMatrixDwords * kMatrixBytes;
    piece.dwords = at.dwords - k < dwords ? at.dwords - k : dwords;
    piece.first = at.first && k == 0;
    multiply_columns<Products>(piece, ahead, configured);
  }
  release_tiles();
}

static_assert(kSumPairs == kMatrixDwords);

// As ChainPairs, in the order of tiles: a token's even columns beside zeros, then its odd ones.
struct BlockPairs {
  static constexpr uint32_t kDwords = 2;  // for a pair

  template <LowerHalf Lower = LowerHalf::later>
  static void order(const float* x, uint64_t pairs, uint32_t* out) {
    for (uint64_t i = 0; i < pairs; ++i, x += 2, out += kDwords) {
      const auto even = __builtin_bit_cast(uint32_t, x[0]), odd = __builtin_bit_cast(uint32_t, x[1]);
      out[0] = Lower == LowerHalf::later ? even & 0xffff0000u : even >> 16;
      out[1] = Lower == LowerHalf::later ? odd >> 16 : odd & 0xffff0000u;
    }
  }

  F even, odd, sum;
  void begin() { even = odd = zero(); }
  void add(I weights, const uint32_t* x) {
    even = dot_bf16(even, weights, splat_i(x[0]));
    odd = dot_bf16(odd, weights, splat_i(x[1]));
  }
  void end() { sum = sum + (even + odd); }
};

// One token times bf16 weights.
template <uint32_t Panels>
void gemv_stored_pairs_of(const uint8_t* const* panels, const float* x, uint64_t cols, float* const* y) {
  BlockPairs sums[Panels][kPanelVectors];
  for (auto& panel : sums)
    for (BlockPairs& sums_of : panel) sums_of.sum = zero();
  for (uint64_t k = 0; k < cols; k += 2 * kMatrixDwords) {
    const uint64_t pairs = (cols - k < 2 * kMatrixDwords ? cols - k : 2 * kMatrixDwords) / 2;
    uint32_t tokens[kMatrixDwords * BlockPairs::kDwords];
    BlockPairs::order<LowerHalf::earlier>(x + k, pairs, tokens);
    at_each<Panels * kPanelVectors>([&](auto at) {
      sums[decltype(at)::value / kPanelVectors][decltype(at)::value % kPanelVectors].begin();
    });
    for (uint64_t pair = 0; pair < pairs; ++pair)
      at_each<Panels * kPanelVectors>([&](auto at) {
        constexpr uint32_t p = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
        const uint8_t* w = panels[p] + (k / 2 + pair) * kDwordBytes + v * kWidth * 4;
        prefetch_streamed(w);
        sums[p][v].add(load_dwords(w), tokens + pair * BlockPairs::kDwords);
      });
    at_each<Panels * kPanelVectors>([&](auto at) {
      sums[decltype(at)::value / kPanelVectors][decltype(at)::value % kPanelVectors].end();
    });
  }
  at_each<Panels * kPanelVectors>([&](auto at) {
    constexpr uint32_t p = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
    store(y[p] + v * kWidth, sums[p][v].sum);
  });
}

void gemv_stored_pairs(const void* panel_a, const void* panel_b, const float* x, uint64_t cols, float* y_a,
                       float* y_b) {
  with_panels(panel_a, panel_b, y_a, y_b, [&](auto count, const uint8_t* const* panels, float* const* y) {
    gemv_stored_pairs_of<decltype(count)::value>(panels, x, cols, y);
  });
}

}  // namespace
}  // namespace rhapsode::kernels

// Written in terms of the tiles above.
#include "kernels/isa/vec_amx_attention.h"
#include "kernels/isa/vec_amx_codes.h"

namespace rhapsode::kernels {
namespace {

template <class Products>
uint64_t probe_tiles(uint64_t rounds, uint64_t per_dword) {
  configure_tiles(kMatrixRows, kMatrixRows);
  repeat(rounds, [] {
    Products::template add<0, kTileTokens, kTileWeights>();
    Products::template add<1, kTileTokens, kTileWeights + 1>();
    Products::template add<2, kTileTokens + 1, kTileWeights>();
    Products::template add<3, kTileTokens + 1, kTileWeights + 1>();
  });
  release_tiles();
  return rounds * kMatrixTokens * kPanelRows * kMatrixDwords * per_dword;
}
uint64_t probe_bf16_tiles(uint64_t rounds) {
  return probe_tiles<PairProducts>(rounds, 4);
}
uint64_t probe_int8_tiles(uint64_t rounds) {
  return probe_tiles<ByteProducts>(rounds, 8);
}

constexpr MatrixTiles kMatrixTiles = {
    .bytes = multiply_matrix<ByteProducts>,
    .pairs = multiply_matrix<PairProducts>,
    .codes = multiply_codes,
    .expand_codes = {nullptr, nullptr, nullptr, nullptr, expand_codes<Format::nf4>,
                     expand_codes<Format::nf4_nested>, expand_codes<Format::fp4>,
                     expand_codes<Format::fp4_nested>},
    .gemv_codes = {nullptr, nullptr, nullptr, nullptr, gemv_codes<Format::nf4>,
                   gemv_codes<Format::nf4_nested>, gemv_codes<Format::fp4>, gemv_codes<Format::fp4_nested>},
    .expand = {nullptr, nullptr, nullptr, nullptr, expand_four_bit_pairs<Format::nf4, LowerHalf::earlier>,
               expand_four_bit_pairs<Format::nf4_nested, LowerHalf::earlier>,
               expand_four_bit_pairs<Format::fp4, LowerHalf::earlier>,
               expand_four_bit_pairs<Format::fp4_nested, LowerHalf::earlier>},
    .gemv = {nullptr, nullptr, gemv_stored_pairs, nullptr, gemv_pairs<Format::nf4, BlockPairs>,
             gemv_pairs<Format::nf4_nested, BlockPairs>, gemv_pairs<Format::fp4, BlockPairs>,
             gemv_pairs<Format::fp4_nested, BlockPairs>},
};

constexpr Kernels amx_table() {
  Kernels kernels = bf16_table("avx512-amx");
  kernels.matrix = &kMatrixTiles;
  kernels.attend_block = attend_block_tiles;
  kernels.probe_bf16 = probe_bf16_tiles;
  kernels.probe_int8 = kernels.probe_int8_words = probe_int8_tiles;
  return kernels;
}

// Whether pairs are summed in the order that matrix_tiles.h says.
bool amx_sums_are_blocks() {
  alignas(64) uint16_t a[kMatrixRows * 32], b[kMatrixDwords * kPanelRows * 2];
  uint32_t random = 1;
  const auto next = [&] {  // from 2^-7 to 2^9, of either sign
    random = random * 1664525u + 1013904223u;
    return static_cast<uint16_t>((random >> 31) << 15 | (0x3c00 + (random >> 16 & 0x7ff)));
  };
  for (uint16_t& x : a) x = next();
  for (uint16_t& x : b) x = next();
  float c[kMatrixRows * kPanelRows];
  for (float& x : c) x = static_cast<float>(next());
  float found[kMatrixRows * kPanelRows];
  __builtin_memcpy(found, c, sizeof c);
  multiply_matrix<PairProducts>(
      {b, a, kMatrixBytes, kMatrixRows, kMatrixDwords, found, kPanelRows, false, nullptr, nullptr, 0});
  const auto value = [](uint16_t bf16) { return __builtin_bit_cast(float, uint32_t{bf16} << 16); };
  for (uint32_t t = 0; t < kMatrixRows; ++t)
    for (uint32_t row = 0; row < kPanelRows; ++row) {
      float halves[2] = {0.0f, 0.0f};
      for (uint32_t i = 0; i < 32; ++i)
        halves[i % 2] = __builtin_fmaf(value(a[t * 32 + i]), value(b[(i / 2 * kPanelRows + row) * 2 + i % 2]),
                                       halves[i % 2]);
      if (found[t * kPanelRows + row] != c[t * kPanelRows + row] + (halves[0] + halves[1])) return false;
    }
  return true;
}

}  // namespace
}  // namespace rhapsode::kernels
