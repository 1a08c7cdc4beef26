// 4-bit weights by int8 activations, as reference_quantized.cpp has them: codes become bytes of 7 bits, whose
// products with a token's bytes are summed four to a dword. Needs a vec_<isa>.h before it.
#pragma once

#include "kernels/isa/vec_four_bit.h"
#include "kernels/isa/vec_int8_tiles.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

// The exact sums of a block for sixteen rows, from `offset` on; ahead(step) is called at each of the steps.
template <class Ahead>
inline StripSums strip_bytes(I table, const uint8_t* codes, const int8_t* x, int32_t offset, Ahead ahead) {
  I sums[kStripVectors];
  at_each<kStripVectors>([&](auto v) { sums[decltype(v)::value] = splat_i(static_cast<uint32_t>(offset)); });
#pragma GCC unroll 1
  for (uint32_t step = 0; step < kStripSteps; ++step, codes += kStripRows * 4, x += 8) {
    prefetch_unpacked(codes);
    ahead(step);
    const I x0 = splat_dword(x), x1 = splat_dword(x + 4);
    at_each<kStripVectors>([&](auto at) {
      constexpr uint32_t v = decltype(at)::value;
      const I dwords = load_dwords(codes + v * kWidth * 4);
      sums[v] = add_quads8(sums[v], shuffle_bytes(table, low_nibbles(dwords)), x0);
      sums[v] = add_quads8(sums[v], shuffle_bytes(table, high_nibbles(dwords)), x1);
    });
  }
  StripSums out;
  at_each<kStripVectors>([&](auto v) { out.sums[decltype(v)::value] = sums[decltype(v)::value]; });
  return out;
}

// One token's bytes, from the present block on.
struct ByteToken {
  I table;
  const int8_t* x;
  const Kernels::ByteBlock* blocks;

  template <class Ahead>
  StripSums sums(const uint8_t* codes, Ahead ahead) const {
    return strip_bytes(table, codes, x, blocks->offset, ahead);
  }
  float scale() const { return blocks->scale; }
  void next() { x += kBlockCols, ++blocks; }
};

template <Format Fmt>
void gemv_bytes(const void* panel_a, const void* panel_b, const int8_t* codes,
                const Kernels::ByteBlock* blocks, uint64_t cols, float* y_a, float* y_b) {
  const ByteToken token{splat_table(quant::four_bit_code(Fmt).bytes), codes, blocks};
  gemv_of_panels<Fmt>(panel_a, panel_b, token, cols, y_a, y_b);
}

template <Format Fmt>
void expand_bytes(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count, uint8_t* out,
                  float* absmax) {
  const I table = splat_table(quant::four_bit_code(Fmt).bytes);
  for_eights<Fmt>(panel, cols, k_begin, k_count, absmax, [&](uint64_t k, uint32_t v, I dwords, F) {
    uint8_t* quad = out + k * kPanelRows + v * kWidth * 4;
    store_dwords(quad, shuffle_bytes(table, low_nibbles(dwords)));
    store_dwords(quad + kPanelRows * 4, shuffle_bytes(table, high_nibbles(dwords)));
  });
}

// How a block of 64 columns is summed in bytes: steps of four columns.
struct ByteSums {
  using Weight = uint8_t;
  using Code = int8_t;
  using Scale = Kernels::ByteBlock;
  static float factor(const Scale& of_token) { return of_token.scale; }

  template <uint32_t Rows, uint32_t Vectors>
  [[gnu::always_inline]] static void add(I (&sums)[Rows][Vectors], const Weight* b, const Code* a,
                                         const Scale* of_tokens) {
    at_each<Rows * Vectors>([&](auto i) {
      constexpr uint32_t r = decltype(i)::value / Vectors, v = decltype(i)::value % Vectors;
      sums[r][v] = splat_i(static_cast<uint32_t>(of_tokens[r].offset));
    });
    sum_quads<SmallQuads>(sums, b, a, kBlockCols / 4);
  }
};

void tile_bytes(const Kernels::ByteTile& tile, float* c, uint64_t c_stride, bool first) {
  run_rows<kGemmTokens>(
      tile.tokens,
      BlockTile<ByteSums>{{tile.b, tile.a, tile.absmax, tile.of_tokens, c, c_stride, first}, tile.blocks});
}

}  // namespace
}  // namespace rhapsode::kernels
