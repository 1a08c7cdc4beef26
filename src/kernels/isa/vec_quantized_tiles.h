// Quantized products of many tokens, as reference_quantized.cpp has them: register tiles of exact sums. Needs
// a vec_<isa>.h before it.
#pragma once

#include "kernels/isa/vec_math.h"
#include "kernels/isa/vec_quantized_matmul.h"

namespace rhapsode::kernels {
namespace {

// Adds `pairs` pairs of columns to the sums of `Rows` tokens and the rows of `Vectors` vectors.
template <uint32_t Rows, uint32_t Vectors>
inline void sum_pairs(I (&sums)[Rows][Vectors], const int16_t* b, const int16_t* a, uint64_t pairs) {
  for (uint64_t p = 0; p < pairs; ++p, b += kPanelRows * 2, a += kGemmTokens * 2) {
    I w[Vectors];
    for (uint32_t v = 0; v < Vectors; ++v)
      w[v] = load_dwords(reinterpret_cast<const uint8_t*>(b + v * kWidth * 2));
    at_each<Rows>([&](auto r) {
      at_each_vector<decltype(r)::value, Vectors>(a + decltype(r)::value * 2, [&](auto v, auto x) {
        I& sum = sums[decltype(r)::value][decltype(v)::value];
        sum = add_pairs16(sum, w[decltype(v)::value], x);
      });
    });
  }
}

// How a block of 64 columns is summed in 16-bit fixed point. b and a have steps of kPanelRows and of
// kGemmTokens dwords: a pair of words of each row, and of each token.
struct FixedSums {
  using Weight = int16_t;
  using Code = int16_t;
  using Scale = float;
  static float factor(const Scale& of_token) { return of_token; }

  template <uint32_t Rows, uint32_t Vectors>
  static void add(I (&sums)[Rows][Vectors], const Weight* b, const Code* a, const Scale*) {
    at_each<Rows * Vectors>(
        [&](auto i) { sums[decltype(i)::value / Vectors][decltype(i)::value % Vectors] = splat_i(0); });
    sum_pairs<Rows, Vectors>(sums, b, a, kBlockCols / 2);
  }
};

// Blocks of columns for some tokens and rows, at the first of each.
template <class Sums>
struct BlockAt {
  const typename Sums::Weight* b;
  const typename Sums::Code* a;
  const float* absmax;                 // of the rows
  const typename Sums::Scale* scales;  // of the tokens
  float* c;
  uint64_t c_stride;
  bool start;  // c begins here
};
constexpr uint64_t kWeights = kBlockCols * kPanelRows, kCodes = kBlockCols * kGemmTokens;  // of a block

// `blocks` blocks for `Rows` tokens and the rows of `Vectors` vectors. What is scaled stays in c, in the
// first cache: in registers it would leave half of them for a block's sums, which are then too few to keep
// two multipliers busy. A function of its own: inlined, what the caller keeps in registers leaves too few for
// the sums, and GCC moves them to the stack at every step.
template <class Sums, uint32_t Rows, uint32_t Vectors>
[[gnu::noinline]] void multiply_blocks(const BlockAt<Sums>& at, uint64_t blocks) {
  auto [b, a, absmax, scales, c, c_stride, start] = at;
  for (uint32_t r = 0; start && r < Rows; ++r)
    for (uint32_t v = 0; v < Vectors; ++v) store(c + r * c_stride + v * kWidth, zero());
#pragma GCC unroll 1
  for (; blocks != 0; --blocks, b += kWeights, a += kCodes, absmax += kPanelRows, scales += kGemmTokens) {
    I sums[Rows][Vectors];
    Sums::template add<Rows, Vectors>(sums, b, a, scales);
    F of_rows[Vectors];
    for (uint32_t v = 0; v < Vectors; ++v) of_rows[v] = load(absmax + v * kWidth);
    float* y = c;
    at_each<Rows>([&](auto row) {
      constexpr uint32_t r = decltype(row)::value;
      const F of_token = splat(Sums::factor(scales[r]));
      at_each<Vectors>([&](auto vector) {
        constexpr uint32_t v = decltype(vector)::value;
        store(y + v * kWidth, fma(to_float(sums[r][v]), of_rows[v] * of_token, load(y + v * kWidth)));
      });
      y += c_stride;
    });
  }
}

// `blocks` blocks of 64 columns, for all rows of a panel.
template <class Sums>
struct BlockTile {
  BlockAt<Sums> at;  // of the first block
  uint64_t blocks;

  template <uint32_t Rows>
  void run() const {
    constexpr uint32_t kVectors = tile_vectors(Rows);
    for (uint32_t row = 0; row < kPanelRows; row += kVectors * kWidth) {
      BlockAt<Sums> rows = at;
      rows.b += row * (4 / sizeof *rows.b), rows.absmax += row, rows.c += row;
      multiply_blocks<Sums, Rows, kVectors>(rows, blocks);
    }
  }
};

template <uint32_t Rows, class Tile>
inline void run_rows(uint32_t rows, const Tile& tile) {
  if (rows == Rows) return tile.template run<Rows>();
  if constexpr (Rows > 1) run_rows<Rows - 1>(rows, tile);
}

void tile_fixed(const Kernels::FixedTile& tile, float* c, uint64_t c_stride, bool first) {
  run_rows<kGemmTokens>(
      tile.tokens,
      BlockTile<FixedSums>{{tile.b, tile.a, tile.absmax, tile.scales, c, c_stride, first}, tile.blocks});
}

// The bytes of a column stand four apart.
void expand_int8_columns(Dtype D, const void* panel, const uint32_t* columns, uint64_t count, float* out) {
  const auto* bytes = static_cast<const uint8_t*>(panel) + quant::kInt8HeaderBytes;
  F scb[kPanelVectors];
  for (uint32_t v = 0; v < kPanelVectors; ++v)
    scb[v] = load(reinterpret_cast<const float*>(panel) + v * kWidth);
  for (uint64_t i = 0; i < count; ++i, out += kPanelRows) {
    const uint8_t* quads = bytes + columns[i] / 4 * 4 * kPanelRows;
    const uint32_t up = 24 - columns[i] % 4 * 8;
    for (uint32_t v = 0; v < kPanelVectors; ++v) {
      const I code = shift_right_signed<24>(shift_left_by(load_dwords(quads + v * kWidth * 4), up));
      store(out + v * kWidth, round_in(D, to_float(code) * scb[v] * splat(kInt8Inverse)));
    }
  }
}

// Tokens of which only listed columns are multiplied.
struct ListedTokens {
  const float* x;
  uint64_t stride;
  const uint32_t* columns;
  const float* at(uint32_t r, uint32_t column) const { return x + r * stride + columns[column]; }
  ListedTokens from(uint32_t row) const { return {x + row * stride, stride, columns}; }
  void advance(uint64_t count) { columns += count; }
};

void tile_columns(const Kernels::ColumnTile& tile, float* c, uint64_t c_stride, bool first) {
  multiply_tile<kAddressedRows>(tile.tokens, {tile.b, tile.count, c, c_stride, first},
                                ListedTokens{tile.x, tile.x_stride, tile.columns});
}

void finish_int8(const float* scb, float scale, float* c) {
  for (uint32_t v = 0; v < kPanelVectors; ++v) {
    float* at = c + v * kWidth;
    store(at, int8_result(bits(load(at)), splat(scale), load(scb + v * kWidth)));
  }
}

}  // namespace
}  // namespace rhapsode::kernels
