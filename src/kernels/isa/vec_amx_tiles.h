// Tiles of AMX: registers of up to 16 rows of 64 bytes. Written out, since compilers' functions take a tile's
// number as text. Included by vec_amx.h alone; tests that emulate the instructions replace this file.
#pragma once

#include <cstdint>

namespace rhapsode::kernels {
namespace {

// Of 32 tokens and 32 rows, the earlier 16 of each first: sums 0 to 3, [tokens][rows]; 4 and 5: tokens; 6 and
// 7: weights.
constexpr int kTileTokens = 4, kTileWeights = 6;

// How many rows the tiles of earlier and of later tokens have; 0: such are not used.
inline void configure_tiles(uint32_t earlier, uint32_t later) {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, unused[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } config;
  const auto set = [&](int tile, uint32_t rows) {
    config.rows[tile] = static_cast<uint8_t>(rows);
    config.row_bytes[tile] = rows == 0 ? 0 : 64;
  };
  set(0, earlier), set(1, earlier), set(kTileTokens, earlier);
  set(2, later), set(3, later), set(kTileTokens + 1, later);
  set(kTileWeights, 16), set(kTileWeights + 1, 16);
  asm volatile("ldtilecfg %0" : : "m"(config));
}
inline void release_tiles() {
  asm volatile("tilerelease");
}

template <int Tile>
inline void clear_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(Tile));
}
template <int Tile>
inline void load_tile(const void* from, uint64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(Tile) : "memory");
}
template <int Tile>
inline void store_tile(void* to, uint64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(Tile) : "memory");
}

// Of a probe, whose products are of no account.
template <class Round>
inline void repeat(uint64_t rounds, Round round) {
  for (uint64_t i = 0; i < rounds; ++i) round();
}

struct ByteProducts {
  template <int Sum, int Tokens, int Weights>
  static void add() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(Tokens), "i"(Weights));
  }
};
struct PairProducts {
  template <int Sum, int Tokens, int Weights>
  static void add() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(Tokens), "i"(Weights));
  }
};

}  // namespace
}  // namespace rhapsode::kernels
