// 4-bit weights as codes rounded to bf16, by bf16 tokens, as kernels/matrix_tiles.h has it: a tile's sums of
// 64 columns are scaled by the rows' absmax. Included by vec_amx.h.
#pragma once

#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

constexpr uint64_t kBlockDwords = kBlockCols / 2;

// Codes of a vector of rows as pairs of adjacent columns, the earlier one in the lower half. A nibble is
// looked up twice, for the lower byte of its bf16 and for the upper one: words are looked up half as fast as
// bytes.
class CodePairs {
 public:
  static constexpr uint32_t kPairs = 4;  // in a dword

  explicit CodePairs(const uint16_t (&codes)[16]) {
    uint8_t bytes[64] = {};
    for (uint32_t i = 0; i < 16; ++i)
      bytes[i] = static_cast<uint8_t>(codes[i]), bytes[kUpper + i] = static_cast<uint8_t>(codes[i] >> 8);
    table_ = load_dwords(bytes);
    // Where the nibbles of a pair begin in a dword that has columns 0 to 3 in the low ones of its bytes.
    constexpr uint64_t kPlaces[kPairs] = {0x0808'0000, 0x1818'1010, 0x0c0c'0404, 0x1c1c'1414};
    for (uint32_t i = 0; i < kPairs; ++i)
      places_[i] = _mm512_set1_epi64(static_cast<int64_t>(kPlaces[i] | (kPlaces[i] + 0x2020'2020) << 32));
  }

  // 64 columns of a panel as `b` of tiles.
  void expand(const uint8_t* codes, uint8_t* out, LinesAhead& ahead) const {
#pragma GCC unroll 1
    for (uint32_t j = 0; j < kBlockCols / 8; ++j, out += kPairs * kDwordBytes) {
      ahead.fetch();
      at_each<kPanelVectors>([&](auto at) {
        constexpr uint32_t v = decltype(at)::value;
        const I dwords = load_dwords(code_dwords(codes, v, j));
        at_each<kPairs>([&](auto pair) {
          constexpr uint32_t i = decltype(pair)::value;
          store_dwords(out + i * kDwordBytes + v * kWidth * 4,
                       looked_up_bytes(table_, index(shifted_bytes(dwords, places_[i]))));
        });
      });
    }
  }

 private:
  static constexpr uint32_t kUpper = 16;  // where the upper bytes begin
  static I index(I nibbles) {
    return or_i(and_i(nibbles, splat_i(0x0f0f0f0fu)),
                splat_i(uint32_t{kUpper} << 8 | uint32_t{kUpper} << 24));
  }

  I table_;
  I places_[kPairs];
};

template <Format Fmt>
void expand_codes(const MatrixTiles::CodeColumns& at) {
  constexpr const quant::FourBitCode& code = quant::four_bit_code(Fmt);
  const CodePairs pairs(code.bf16);
  const auto* from = static_cast<const uint8_t*>(at.panel);
  const PanelScales<Fmt> scales(from, at.cols);
  const F inverse = splat(1.0f / code.bf16_max);
  LinesAhead ahead(at.ahead, at.ahead_bytes, at.k_count / 8);
  for (uint64_t k = 0; k < at.k_count; k += kBlockCols) {
    const uint64_t index = (at.k_begin + k) / kBlockCols;
    const uint8_t* block = first_block<Fmt>(from, at.cols) + index * kBlockStride<Fmt>;
    F of_rows[PanelScales<Fmt>::kBlocks][kPanelVectors];
    scales.absmax(block, index, of_rows);
    for (uint32_t v = 0; v < kPanelVectors; ++v)
      store(at.absmax + k / kBlockCols * kPanelRows + v * kWidth, of_rows[0][v] * inverse);
    pairs.expand(block + kScaleBytes<Fmt>, reinterpret_cast<uint8_t*>(at.out + k * kPanelRows), ahead);
  }
}

// Sums of one block's products, [tokens][32 rows].
using BlockSums = float[kMatrixTokens][kPanelRows];

template <bool Both>
inline void sum_block(const MatrixTile& at, const uint8_t* a, uint64_t block, BlockSums& sums) {
  const TileSums<PairProducts, Both> tiles{sums[0], kPanelRows, kMatrixLine, at.a_stride};
  tiles.begin(true);
  for (uint64_t k = block * kBlockDwords; k < (block + 1) * kBlockDwords; k += kMatrixDwords) {
    tiles.load_weights(static_cast<const uint8_t*>(at.b) + k * kDwordBytes);
    tiles.add(a + k / kMatrixDwords * kMatrixBytes);
  }
  tiles.end();
}

inline void add_block(const MatrixTile& at, uint32_t tokens, uint64_t block, const BlockSums& sums,
                      float* c) {
  F absmax[kPanelVectors];
  for (uint32_t v = 0; v < kPanelVectors; ++v) absmax[v] = load(at.absmax + block * kPanelRows + v * kWidth);
  const bool start = at.first && block == 0;
  for (uint32_t t = 0; t < tokens; ++t, c += at.c_stride)
    at_each<kPanelVectors>([&](auto vector) {
      constexpr uint32_t v = decltype(vector)::value;
      float* y = c + v * kWidth;
      store(y, fma(load(sums[t] + v * kWidth), absmax[v], start ? zero() : load(y)));
    });
}

// A block's sums are scaled while the tiles of the next are multiplied.
template <bool Both>
void multiply_blocks(const MatrixTile& at, uint32_t tokens, const uint8_t* a, float* c, LinesAhead& ahead) {
  alignas(64) BlockSums sums[2];
  const uint64_t blocks = at.dwords / kBlockDwords;
  for (uint64_t block = 0; block < blocks; ++block) {
    ahead.fetch(), ahead.fetch();  // of two times 16 dwords
    sum_block<Both>(at, a, block, sums[block % 2]);
    if (block > 0) add_block(at, tokens, block - 1, sums[(block - 1) % 2], c);
  }
  add_block(at, tokens, blocks - 1, sums[(blocks - 1) % 2], c);
}

void multiply_codes(const MatrixTile& at) {
  LinesAhead ahead(at);
  uint32_t configured = 0;
  for (uint32_t t = 0; t < at.tokens; t += kMatrixTokens) {
    const uint32_t count = configure_for(at.tokens - t, configured);
    const auto* a = static_cast<const uint8_t*>(at.a) + t / kMatrixRows * at.a_stride;
    float* c = at.c + t * at.c_stride;
    if (count > kMatrixRows) {
      multiply_blocks<true>(at, count, a, c, ahead);
    } else {
      multiply_blocks<false>(at, count, a, c, ahead);
    }
  }
  release_tiles();
}

// c.bf16 as floats.
template <Format Fmt>
struct CodeValues {
  float values[16];
  constexpr CodeValues() : values() {
    for (uint32_t i = 0; i < 16; ++i)
      values[i] = __builtin_bit_cast(float, uint32_t{quant::four_bit_code(Fmt).bf16[i]} << 16);
  }
};
template <Format Fmt>
constexpr CodeValues<Fmt> kCodeValues;

// The sums of one vector of rows.
struct CodeSums {
  F even, odd, block, y;

  // Columns 8j to 8j + 7, whose nibbles a dword holds: the low ones of its bytes, then the high ones.
  void add(const Table16& table, I dwords, const float* x) {
    even = fma(look_up(table, dwords), splat_from(x), even);
    odd = fma(look_up(table, shift_right<8>(dwords)), splat_from(x + 1), odd);
    even = fma(look_up(table, shift_right<16>(dwords)), splat_from(x + 2), even);
    odd = fma(look_up(table, shift_right<24>(dwords)), splat_from(x + 3), odd);
    even = fma(look_up(table, shift_right<4>(dwords)), splat_from(x + 4), even);
    odd = fma(look_up(table, shift_right<12>(dwords)), splat_from(x + 5), odd);
    even = fma(look_up(table, shift_right<20>(dwords)), splat_from(x + 6), even);
    odd = fma(look_up(table, shift_right<28>(dwords)), splat_from(x + 7), odd);
  }
};

// One token. The sums of two panels take turns, since each product waits for the one before it.
template <Format Fmt, uint32_t Panels>
void gemv_codes_of(const uint8_t* const* panels, const float* x, uint64_t cols, float* const* y) {
  const Table16 table = table16(kCodeValues<Fmt>.values);
  const F inverse = splat(1.0f / quant::four_bit_code(Fmt).bf16_max);
  BlockScales<Fmt, quant::is_nested(Fmt)> of[2] = {{panels[0], cols}, {panels[Panels - 1], cols}};
  CodeSums sums[Panels][kPanelVectors];
  const auto each = [&](auto work) {
    at_each<Panels * kPanelVectors>([&](auto at) {
      constexpr uint32_t p = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
      work(sums[p][v], p, v);
    });
  };
  each([](CodeSums& sum, uint32_t, uint32_t) { sum.even = sum.odd = sum.block = sum.y = zero(); });
  for (uint64_t index = 0; index < cols / kBlockCols; ++index, x += kBlockCols) {
    const uint8_t* codes[Panels];
    for (uint32_t p = 0; p < Panels; ++p) codes[p] = of[p].block + kScaleBytes<Fmt>;
#pragma GCC unroll 1
    for (uint32_t half = 0; half < 2; ++half) {
#pragma GCC unroll 1
      for (uint32_t j = half * 4; j < half * 4 + 4; ++j) {
        for (uint32_t p = 0; p < Panels; ++p)
          of[p].template look_ahead<kPanelRows / 8>(index, j * (kPanelRows / 8));
        each([&](CodeSums& sum, uint32_t p, uint32_t v) {
          const uint8_t* line = code_dwords(codes[p], v, j);
          prefetch_unpacked(line);
          sum.add(table, load_dwords(line), x + 8 * j);
        });
      }
      each([](CodeSums& sum, uint32_t, uint32_t) {
        sum.block = sum.block + (sum.even + sum.odd);
        sum.even = sum.odd = zero();
      });
    }
    each([&](CodeSums& sum, uint32_t p, uint32_t v) {
      sum.y = fma(sum.block, of[p].absmax(index, v) * inverse, sum.y);
      sum.block = zero();
    });
    for (uint32_t p = 0; p < Panels; ++p) of[p].advance();
  }
  each([&](CodeSums& sum, uint32_t p, uint32_t v) { store(y[p] + v * kWidth, sum.y); });
}

template <Format Fmt>
void gemv_codes(const void* panel_a, const void* panel_b, const float* x, uint64_t cols, float* y_a,
                float* y_b) {
  with_panels(panel_a, panel_b, y_a, y_b, [&](auto count, const uint8_t* const* panels, float* const* y) {
    gemv_codes_of<Fmt, decltype(count)::value>(panels, x, cols, y);
  });
}

}  // namespace
}  // namespace rhapsode::kernels
