// src/kernels/isa/vec_amx_tiles.h in plain C++, for CPUs without its instructions.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace rhapsode::kernels {
namespace {

constexpr int kTileTokens = 4, kTileWeights = 6;

struct TileState {
  uint32_t rows[8];
  alignas(64) uint8_t bytes[8][16][64];
};
inline thread_local TileState tiles;

inline void configure_tiles(uint32_t earlier, uint32_t later) {
  std::memset(&tiles, 0, sizeof tiles);
  for (const int tile : {0, 1, kTileTokens}) tiles.rows[tile] = earlier;
  for (const int tile : {2, 3, kTileTokens + 1}) tiles.rows[tile] = later;
  for (const int tile : {kTileWeights, kTileWeights + 1}) tiles.rows[tile] = 16;
}
inline void release_tiles() {
  std::memset(&tiles, 0, sizeof tiles);
}

template <int Tile>
inline void clear_tile() {
  std::memset(tiles.bytes[Tile], 0, sizeof tiles.bytes[Tile]);
}
template <int Tile>
inline void load_tile(const void* from, uint64_t stride) {
  clear_tile<Tile>();
  for (uint32_t row = 0; row < tiles.rows[Tile]; ++row)
    std::memcpy(tiles.bytes[Tile][row], static_cast<const uint8_t*>(from) + row * stride, 64);
}
template <int Tile>
inline void store_tile(void* to, uint64_t stride) {
  for (uint32_t row = 0; row < tiles.rows[Tile]; ++row)
    std::memcpy(static_cast<uint8_t*>(to) + row * stride, tiles.bytes[Tile][row], 64);
}

template <class Round>
inline void repeat(uint64_t, Round round) {
  round();
}

template <class T>
inline T tile_value(int tile, uint32_t row, uint32_t at) {
  T value;
  std::memcpy(&value, tiles.bytes[tile][row] + at * sizeof value, sizeof value);
  return value;
}
// sum[token][row] = step(sum[token][row], token, row) for the tile's rows.
template <class T, class Step>
inline void for_sums(int sum, Step step) {
  for (uint32_t token = 0; token < tiles.rows[sum]; ++token)
    for (uint32_t row = 0; row < 16; ++row) {
      const T value = step(tile_value<T>(sum, token, row), token, row);
      std::memcpy(tiles.bytes[sum][token] + row * sizeof value, &value, sizeof value);
    }
}

struct ByteProducts {
  template <int Sum, int Tokens, int Weights>
  static void add() {
    for_sums<int32_t>(Sum, [](int32_t sum, uint32_t token, uint32_t row) {
      for (uint32_t i = 0; i < 64; ++i)
        sum += tile_value<int8_t>(Tokens, token, i) * tile_value<int8_t>(Weights, i / 4, row * 4 + i % 4);
      return sum;
    });
  }
};

// What is below 2^-126 counts as zero.
inline float without_subnormal(float x) {
  return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x;
}
struct PairProducts {
  template <int Sum, int Tokens, int Weights>
  static void add() {
    const auto value = [](int tile, uint32_t row, uint32_t at) {
      const uint32_t bits = uint32_t{tile_value<uint16_t>(tile, row, at)} << 16;
      return without_subnormal(__builtin_bit_cast(float, bits));
    };
    for_sums<float>(Sum, [&](float sum, uint32_t token, uint32_t row) {
      float halves[2] = {0.0f, 0.0f};
      for (uint32_t i = 0; i < 32; ++i)
        halves[i % 2] = without_subnormal(
            std::fma(value(Tokens, token, i), value(Weights, i / 2, row * 2 + i % 2), halves[i % 2]));
      return without_subnormal(without_subnormal(sum) + without_subnormal(halves[0] + halves[1]));
    });
  }
};

}  // namespace
}  // namespace rhapsode::kernels
