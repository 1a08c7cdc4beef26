// Quantized products on vectors, as reference_quantized.cpp has them: a dword lane is an output row, its sum
// an exact integer. Needs a vec_<isa>.h before it.
#pragma once

#include "kernels/isa/vec_matmul.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

using quant::kBlockCols;

inline F int8_result(I sum, F scale, F scb) {
  return to_float(sum) * (scale * scb) * splat(kInt8Step);
}

template <uint32_t Panels>
inline void gemv_int8_panels(const uint8_t* const* panels, const int8_t* x, float scale, uint64_t cols,
                             float* const* y) {
  I sums[Panels][kPanelVectors];
  at_each<Panels * kPanelVectors>([&](auto at) {
    sums[decltype(at)::value / kPanelVectors][decltype(at)::value % kPanelVectors] = splat_i(0);
  });
  for (uint64_t k = 0; k < cols; k += 4) {
    const I quad = splat_dword(x + k);
    at_each<Panels * kPanelVectors>([&](auto at) {
      constexpr uint32_t p = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
      const uint8_t* w = panels[p] + quant::kInt8HeaderBytes + k * kPanelRows + v * kWidth * 4;
      if constexpr (v * kWidth * 4 % 64 == 0) prefetch_streamed(w);
      sums[p][v] = added(sums[p][v], multiply_quads8(load_dwords(w), quad));
    });
  }
  at_each<Panels * kPanelVectors>([&](auto at) {
    constexpr uint32_t p = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
    const float* scb = reinterpret_cast<const float*>(panels[p]);
    store(y[p] + v * kWidth, int8_result(sums[p][v], splat(scale), load(scb + v * kWidth)));
  });
}

void gemv_int8(const void* panel_a, const void* panel_b, const void* codes, const float* scales,
               uint64_t cols, float* y_a, float* y_b) {
  const auto* x = static_cast<const int8_t*>(codes);
  with_panels(panel_a, panel_b, y_a, y_b, [&](auto count, const uint8_t* const* panels, float* const* y) {
    gemv_int8_panels<decltype(count)::value>(panels, x, *scales, cols, y);
  });
}

void dot_digits(const void* panel, const int8_t* high, const int8_t* low, uint64_t cols, float* y) {
  const uint8_t* w = static_cast<const uint8_t*>(panel) + quant::kInt8HeaderBytes;
  I high_sums[kPanelVectors], low_sums[kPanelVectors];
  at_each<kPanelVectors>([&](auto v) { high_sums[v] = low_sums[v] = splat_i(0); });
  for (uint64_t k = 0; k < cols; k += 4, w += 4 * kPanelRows) {
    const I high_quad = splat_dword(high + k), low_quad = splat_dword(low + k);
    at_each<kPanelVectors>([&](auto v) {
      if constexpr (v * kWidth * 4 % 64 == 0) prefetch_streamed(w + v * kWidth * 4);
      const I quads = load_dwords(w + v * kWidth * 4);
      high_sums[v] = added(high_sums[v], multiply_quads8(quads, high_quad));
      low_sums[v] = added(low_sums[v], multiply_quads8(quads, low_quad));
    });
  }
  at_each<kPanelVectors>([&](auto v) {
    const F scaled = to_float(high_sums[v]) * splat(static_cast<float>(kDigitBase));
    store(y + v * kWidth, scaled + to_float(low_sums[v]));
  });
}

// A table of words for 4-bit codes as two tables of bytes: their halves.
struct CodeTable {
  I low;
  I high;
};
template <class T>
inline CodeTable code_table(const T (&words)[16]) {
  uint8_t low[16], high[16];
  for (uint32_t i = 0; i < 16; ++i) {
    low[i] = static_cast<uint8_t>(words[i] & 255);
    high[i] = static_cast<uint8_t>(words[i] >> 8 & 255);
  }
  return {splat_table(low), splat_table(high)};
}

// Fixed-point values of one nibble of each byte: rows 0, 1 (and 4, 5, …) in `first`, 2, 3 (6, 7, …) in
// `second`; of each row four columns in order.
struct FourColumns {
  I first;
  I second;
};
inline FourColumns look_up(const CodeTable& table, I nibbles) {
  const I low = shuffle_bytes(table.low, nibbles), high = shuffle_bytes(table.high, nibbles);
  return {interleave_low8(low, high), interleave_high8(low, high)};
}

template <Format Fmt>
constexpr uint64_t kBlockStride = quant::is_nested(Fmt) ? quant::kBlockCodeBytes : quant::kBlockBytes;
template <Format Fmt>
constexpr uint64_t kScaleBytes = quant::is_nested(Fmt) ? 0 : kPanelRows * 4;  // before a block's codes

// First block of a panel.
template <Format Fmt>
inline const uint8_t* first_block(const uint8_t* panel, uint64_t cols) {
  return quant::is_nested(Fmt) ? panel + quant::nested_header_bytes(cols) : panel;
}

// Where the dwords of vector v and of columns 8j … stand in a block's codes.
inline const uint8_t* code_dwords(const uint8_t* codes, uint32_t v, uint32_t j) {
  return codes + v * kWidth / 16 * 512 + j * 64 + v * kWidth % 16 * 4;
}

// Where the absmax codes of a nested panel are looked up.
inline const float* nested_map(const uint8_t* panel) {
  const uint64_t offset = reinterpret_cast<const quant::FourBitPanel*>(panel)->map_offset;
  return offset == 0 ? quant::kNestedMap.values : reinterpret_cast<const float*>(panel + offset);
}

// The absmax of one panel's blocks, asked for in any order. `block` is where the first of them begins.
template <Format Fmt>
class PanelScales {
 public:
  static constexpr uint32_t kBlocks = 1;  // as many as are found at once
  PanelScales(const uint8_t*, uint64_t) {}
  void absmax(const uint8_t* block, uint64_t, F (&out)[1][kPanelVectors]) const {
    for (uint32_t v = 0; v < kPanelVectors; ++v)
      out[0][v] = load(reinterpret_cast<const float*>(block) + v * kWidth);
  }
};

template <Format Fmt>
requires(quant::is_nested(Fmt)) class PanelScales<Fmt> {
 public:
  static constexpr uint32_t kBlocks = ByteMap::kBlocks;
  PanelScales(const uint8_t* panel, uint64_t cols)
      : header_(reinterpret_cast<const quant::FourBitPanel*>(panel)),
        nested_(reinterpret_cast<const float*>(panel + sizeof(quant::FourBitPanel))),
        codes_(panel + quant::absmax_codes_offset(cols)),
        groups_(quant::nested_groups(cols)),
        map_(nested_map(panel)) {}

  // Of block `index` and those after it; behind a panel's last one, of other bytes of it.
  void absmax(const uint8_t*, uint64_t index, F (&out)[kBlocks][kPanelVectors]) const {
    map_.look_up(codes_ + index * kPanelRows, out);
    for (uint32_t b = 0; b < kBlocks; ++b)
      for (uint32_t v = 0; v < kPanelVectors; ++v)
        out[b][v] = out[b][v] * of_group(index + b, v) + splat(header_->offset);
  }

 private:
  // The absmax of the nested block that holds block `index` of the rows of vector v.
  F of_group(uint64_t index, uint32_t v) const {
    F absmax = load(nested_ + v * kWidth);
    for (uint64_t g = 1; g < groups_; ++g) {
      // Rows whose block lies in group g or later take its absmax.
      const I at = add_i(load_u8(header_->phase + v * kWidth), splat_i(static_cast<uint32_t>(index)));
      const F start = splat(static_cast<float>(g * quant::kNestedBlocks));
      absmax = choose(at_least(to_float(at), start), load(nested_ + g * kPanelRows + v * kWidth), absmax);
    }
    return absmax;
  }

  const quant::FourBitPanel* header_;
  const float* nested_;  // [groups][kPanelRows]
  const uint8_t* codes_;
  uint64_t groups_;
  ByteMap map_;
};

// Of a panel's columns [k_begin, k_begin + k_count), whole blocks: block(k, codes, absmax) for the columns
// from k_begin + k on, with the absmax of all rows.
template <Format Fmt, class Block>
inline void for_blocks(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count, Block block) {
  const auto* from = static_cast<const uint8_t*>(panel);
  const PanelScales<Fmt> scales(from, cols);
  for (uint64_t k = 0; k < k_count; k += kBlockCols) {
    const uint64_t index = (k_begin + k) / kBlockCols;
    const uint8_t* at = first_block<Fmt>(from, cols) + index * kBlockStride<Fmt>;
    F of_rows[PanelScales<Fmt>::kBlocks][kPanelVectors];
    scales.absmax(at, index, of_rows);
    block(k, at + kScaleBytes<Fmt>, of_rows[0]);
  }
}

// The same, eight columns and a vector of rows at a time: eight(k, v, dwords, absmax). Each block's absmax
// goes to absmax[k / 64][32] too, where that is not null.
template <Format Fmt, class Eight>
inline void for_eights(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count, float* absmax,
                       Eight eight) {
  for_blocks<Fmt>(panel, cols, k_begin, k_count,
                  [&](uint64_t k, const uint8_t* codes, const F(&of_rows)[kPanelVectors]) {
                    for (uint32_t v = 0; v < kPanelVectors; ++v) {
                      if (absmax != nullptr)
                        store(absmax + k / kBlockCols * kPanelRows + v * kWidth, of_rows[v]);
                      for (uint32_t j = 0; j < kBlockCols / 8; ++j)
                        eight(k + 8 * j, v, load_dwords(code_dwords(codes, v, j)), of_rows[v]);
                    }
                  });
}

// The words of a table as out[k / 2][32][2].
template <Format Fmt>
inline void expand_words(const CodeTable& table, const void* panel, uint64_t cols, uint64_t k_begin,
                         uint64_t k_count, int16_t* out, float* absmax) {
  for_eights<Fmt>(panel, cols, k_begin, k_count, absmax, [&](uint64_t k, uint32_t v, I dwords, F) {
    int16_t* pair = out + k * kPanelRows + v * kWidth * 2;
    const FourColumns low = look_up(table, low_nibbles(dwords));
    const FourColumns high = look_up(table, high_nibbles(dwords));
    store_dwords(pair, even_dwords(low.first, low.second));
    store_dwords(pair + kPanelRows * 2, odd_dwords(low.first, low.second));
    store_dwords(pair + kPanelRows * 4, even_dwords(high.first, high.second));
    store_dwords(pair + kPanelRows * 6, odd_dwords(high.first, high.second));
  });
}

template <Format Fmt>
void expand_fixed_codes(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count, int16_t* out,
                        float* absmax) {
  expand_words<Fmt>(code_table(quant::four_bit_code(Fmt).fixed), panel, cols, k_begin, k_count, out, absmax);
}

}  // namespace
}  // namespace rhapsode::kernels
