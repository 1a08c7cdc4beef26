// Products of a few tokens, straight from a panel: what is expanded for many tokens stays in registers here.
// The sums are those of vec_matmul.h and vec_four_bit.h. Needs a vec_<isa>.h before it.
#pragma once

#include "kernels/isa/vec_four_bit.h"
#include "kernels/isa/vec_quantized_tiles.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

// Columns whose weights stay in the first cache while all rows of the panel are multiplied.
constexpr uint64_t kFewColumns = 256;

template <Format Fmt>
struct FewDense {
  const uint8_t* panel;
  const float* a;
  uint64_t cols;
  float* c;
  uint64_t c_stride;

  template <uint32_t Rows>
  void run() const {
    constexpr uint32_t kVectors = tile_vectors(Rows);
    for (uint64_t k = 0; k < cols; k += kFewColumns)
      for (uint32_t v = 0; v < kPanelVectors; v += kVectors)
        columns<Rows, kVectors>(k, cols - k < kFewColumns ? cols : k + kFewColumns, v);
  }

  template <uint32_t Rows, uint32_t Vectors, class Weights>
  static void add_column(F (&sums)[Rows][Vectors], const float* x, Weights weights) {
    F w[Vectors];
    at_each<Vectors>([&](auto v) { w[decltype(v)::value] = weights(decltype(v)::value); });
    at_each<Rows>([&](auto r) {
      const F value = splat_from(x + decltype(r)::value);
      at_each<Vectors>([&](auto v) {
        F& sum = sums[decltype(r)::value][decltype(v)::value];
        sum = fma(value, w[decltype(v)::value], sum);
      });
    });
  }

  template <uint32_t Rows, uint32_t Vectors>
  void columns(uint64_t begin, uint64_t end, uint32_t first) const {
    F sums[Rows][Vectors];
    float* to = c + first * kWidth;
    at_each<Rows * Vectors>([&](auto at) {
      constexpr uint32_t r = decltype(at)::value / Vectors, v = decltype(at)::value % Vectors;
      sums[r][v] = begin == 0 ? zero() : load(to + r * c_stride + v * kWidth);
    });
    for (uint64_t k = begin; k < end; k += 2) {
      const float* x = a + k * kGemmTokens;
      if (first == 0)
        for (uint64_t line = 0; line < kPairBytes<Fmt>; line += 64)
          prefetch_unpacked(panel + k / 2 * kPairBytes<Fmt> + line);
      // The odd columns are loaded again rather than kept: registers are short.
      add_column<Rows, Vectors>(sums, x,
                                [&](uint32_t v) { return load_pair<Fmt>(panel, k, first + v).even; });
      add_column<Rows, Vectors>(sums, x + kGemmTokens,
                                [&](uint32_t v) { return load_pair<Fmt>(panel, k, first + v).odd; });
    }
    at_each<Rows * Vectors>([&](auto at) {
      constexpr uint32_t r = decltype(at)::value / Vectors, v = decltype(at)::value % Vectors;
      store(to + r * c_stride + v * kWidth, sums[r][v]);
    });
  }
};

template <Format Fmt>
void few_dense(const void* panel, const float* a, uint32_t tokens, uint64_t cols, float* c,
               uint64_t c_stride) {
  run_rows<kGemmTokens>(tokens, FewDense<Fmt>{static_cast<const uint8_t*>(panel), a, cols, c, c_stride});
}

// The exact sums of a block for the rows of one vector and `Tokens` tokens; ahead(step) is called at each of
// the steps.
template <uint32_t Tokens, class Ahead>
[[gnu::always_inline]] inline void few_sums(const CodeTable& table, const uint8_t* codes,
                                            const int16_t* const (&x)[Tokens], I (&out)[Tokens],
                                            Ahead ahead) {
  I first[Tokens], second[Tokens];
  at_each<Tokens>([&](auto t) { first[decltype(t)::value] = second[decltype(t)::value] = splat_i(0); });
#pragma GCC unroll 1
  for (uint32_t step = 0; step < kStripSteps; ++step, codes += 64) {
    prefetch_unpacked(codes);
    ahead(step);
    const I dwords = load_dwords(codes);
    const FourColumns low = look_up(table, low_nibbles(dwords));
    const FourColumns high = look_up(table, high_nibbles(dwords));
    at_each<Tokens>([&](auto at) {
      constexpr uint32_t t = decltype(at)::value;
      const I x0 = splat_qword(x[t] + 8 * step);
      first[t] = add_pairs16(first[t], low.first, x0);
      second[t] = add_pairs16(second[t], low.second, x0);
      const I x1 = splat_qword(x[t] + 8 * step + 4);
      first[t] = add_pairs16(first[t], high.first, x1);
      second[t] = add_pairs16(second[t], high.second, x1);
    });
  }
  at_each<Tokens>([&](auto at) {
    constexpr uint32_t t = decltype(at)::value;
    out[t] = add_i(even_dwords(first[t], second[t]), odd_dwords(first[t], second[t]));
  });
}

// Tokens in 16-bit fixed point.
struct FewFixedTokens {
  CodeTable table;
  const Kernels::FewCodes& of;

  // What a block multiplies.
  template <uint32_t Tokens>
  struct Block {
    const CodeTable& table;
    const int16_t* x[Tokens];

    template <class Ahead>
    [[gnu::always_inline]] void sums(const uint8_t* codes, I (&out)[Tokens], Ahead ahead) const {
      few_sums<Tokens>(table, codes, x, out, ahead);
    }
  };
  template <uint32_t Tokens>
  Block<Tokens> at(uint64_t block) const {
    Block<Tokens> out{table, {}};
    for (uint32_t t = 0; t < Tokens; ++t) out.x[t] = of.codes + t * of.stride + block * kBlockCols;
    return out;
  }
  float scale(uint32_t t, uint64_t block) const { return of.scales[t * of.scales_stride + block]; }
};

// Tokens in bytes.
struct FewByteTokens {
  I table;
  const Kernels::FewBytes& of;

  template <uint32_t Tokens>
  struct Block {
    I table;
    const int8_t* x[Tokens];
    int32_t offsets[Tokens];

    template <class Ahead>
    [[gnu::always_inline]] void sums(const uint8_t* codes, I (&out)[Tokens], Ahead ahead) const {
      at_each<Tokens>([&](auto t) {
        out[decltype(t)::value] = splat_i(static_cast<uint32_t>(offsets[decltype(t)::value]));
      });
#pragma GCC unroll 1
      for (uint32_t step = 0; step < kStripSteps; ++step, codes += 64) {
        prefetch_unpacked(codes);
        ahead(step);
        const I dwords = load_dwords(codes);
        const I low = shuffle_bytes(table, low_nibbles(dwords));
        const I high = shuffle_bytes(table, high_nibbles(dwords));
        at_each<Tokens>([&](auto at_token) {
          constexpr uint32_t t = decltype(at_token)::value;
          out[t] = add_quads8(out[t], low, splat_dword(x[t] + 8 * step));
          out[t] = add_quads8(out[t], high, splat_dword(x[t] + 8 * step + 4));
        });
      }
    }
  };
  template <uint32_t Tokens>
  Block<Tokens> at(uint64_t block) const {
    Block<Tokens> out{table, {}, {}};
    for (uint32_t t = 0; t < Tokens; ++t) {
      out.x[t] = of.codes + t * of.stride + block * kBlockCols;
      out.offsets[t] = of.blocks[t * of.blocks_stride + block].offset;
    }
    return out;
  }
  float scale(uint32_t t, uint64_t block) const {
    return of.blocks[t * of.blocks_stride + block].scale;
  }
};

template <Format Fmt, class Codes>
struct FewFourBit {
  const uint8_t* panel;
  const Codes& codes;
  uint64_t cols;
  float* y;
  uint64_t y_stride;

  // Sums stand side by side until they are finished: rows of y may be a power of two apart, which all share a
  // few places of the first cache.
  template <uint32_t Tokens>
  void run() const {
    BlockScales<Fmt> of(panel, cols);
    alignas(64) float sums[Tokens][kPanelRows] = {};
    for (uint64_t index = 0; index < cols / kBlockCols; ++index) {
      const auto tokens = codes.template at<Tokens>(index);
      for (uint32_t v = 0; v < kPanelVectors; ++v) add<Tokens>(of, tokens, index, v, sums);
      of.advance();
    }
    for (uint32_t t = 0; t < Tokens; ++t) __builtin_memcpy(y + t * y_stride, sums[t], sizeof sums[t]);
  }

  template <uint32_t Tokens, class Block>
  void add(BlockScales<Fmt>& of, const Block& tokens, uint64_t index, uint32_t v,
           float (&sums)[Tokens][kPanelRows]) const {
    I found[Tokens];
    constexpr uint32_t kRows = kWidth / kStripSteps;
    tokens.sums(code_dwords(of.block + kScaleBytes<Fmt>, v, 0), found,
                [&](uint32_t step) { of.template look_ahead<kRows>(index, v * kWidth + step * kRows); });
    const F absmax = of.absmax(index, v);
    for (uint32_t t = 0; t < Tokens; ++t) {
      float* sum = sums[t] + v * kWidth;
      store(sum, fma(to_float(found[t]), absmax * splat(codes.scale(t, index)), load(sum)));
    }
  }
};

template <Format Fmt>
void few_fixed(const void* panel, const Kernels::FewCodes& tokens, uint64_t cols, float* y,
               uint64_t y_stride) {
  const FewFixedTokens codes{code_table(quant::four_bit_code(Fmt).fixed), tokens};
  run_rows<kFewTokens>(tokens.tokens, FewFourBit<Fmt, FewFixedTokens>{static_cast<const uint8_t*>(panel),
                                                                      codes, cols, y, y_stride});
}

template <Format Fmt>
void few_bytes(const void* panel, const Kernels::FewBytes& tokens, uint64_t cols, float* y,
               uint64_t y_stride) {
  const FewByteTokens codes{splat_table(quant::four_bit_code(Fmt).bytes), tokens};
  run_rows<kFewTokens>(tokens.tokens, FewFourBit<Fmt, FewByteTokens>{static_cast<const uint8_t*>(panel),
                                                                     codes, cols, y, y_stride});
}

}  // namespace
}  // namespace rhapsode::kernels
