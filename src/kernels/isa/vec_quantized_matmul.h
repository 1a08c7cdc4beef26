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
  const uint8_t* panels[2] = {static_cast<const uint8_t*>(panel_a), static_cast<const uint8_t*>(panel_b)};
  float* y[2] = {y_a, y_b};
  const auto* x = static_cast<const int8_t*>(codes);
  if (panel_b != nullptr) {
    gemv_int8_panels<2>(panels, x, *scales, cols, y);
  } else {
    gemv_int8_panels<1>(panels, x, *scales, cols, y);
  }
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

// A 4-bit code table as two tables of bytes: the halves of its fixed-point values.
struct CodeTable {
  I low;
  I high;
};
inline CodeTable code_table(const quant::FourBitCode& code) {
  uint8_t low[16], high[16];
  for (uint32_t i = 0; i < 16; ++i) {
    low[i] = static_cast<uint8_t>(code.fixed[i] & 255);
    high[i] = static_cast<uint8_t>(code.fixed[i] >> 8 & 255);
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
constexpr uint64_t kBlockStride = quant::is_nested(Fmt) ? quant::kNestedBlockBytes : quant::kBlockBytes;
template <Format Fmt>
constexpr uint64_t kScaleBytes = quant::is_nested(Fmt) ? kPanelRows : kPanelRows * 4;

// First block of a panel.
template <Format Fmt>
inline const uint8_t* first_block(const uint8_t* panel, uint64_t cols) {
  return quant::is_nested(Fmt) ? panel + quant::nested_header_bytes(cols) : panel;
}

// Where the dwords of vector v and of columns 8j … stand in a block's codes.
inline const uint8_t* code_dwords(const uint8_t* codes, uint32_t v, uint32_t j) {
  return codes + v * kWidth / 16 * 512 + j * 64 + v * kWidth % 16 * 4;
}

// The absmax of a block for the rows of vector v.
template <Format Fmt>
inline F block_absmax(const uint8_t* panel, uint64_t groups, const uint8_t* block, uint64_t index,
                      uint32_t v) {
  if constexpr (!quant::is_nested(Fmt)) {
    return load(reinterpret_cast<const float*>(block) + v * kWidth);
  } else {
    const auto* header = reinterpret_cast<const quant::FourBitPanel*>(panel);
    const auto* nested = reinterpret_cast<const float*>(panel + sizeof(quant::FourBitPanel)) + v * kWidth;
    F absmax = load(nested);
    const I at = add_i(load_u8(header->phase + v * kWidth), splat_i(static_cast<uint32_t>(index)));
    for (uint64_t g = 1; g < groups; ++g) {
      // Rows whose block lies in group g or later take its absmax.
      const F begun = to_float(at), start = splat(static_cast<float>(g * quant::kNestedBlocks));
      absmax = choose(at_least(begun, start), load(nested + g * kPanelRows), absmax);
    }
    const float* map = header->map_offset == 0 ? quant::kNestedMap.values
                                               : reinterpret_cast<const float*>(panel + header->map_offset);
    return gather(map, load_u8(block + v * kWidth)) * absmax + splat(header->offset);
  }
}

void expand_int8_codes(const void* panel, uint64_t, uint64_t k_begin, uint64_t k_count, int16_t* out,
                       float*) {
  // Bytes of a dword to the upper halves of two words: 0, 1 and 2, 3.
  constexpr uint8_t kFirst[16] = {0x80, 0, 0x80, 1, 0x80, 4, 0x80, 5, 0x80, 8, 0x80, 9, 0x80, 12, 0x80, 13};
  constexpr uint8_t kSecond[16] = {0x80, 2,  0x80, 3,  0x80, 6,  0x80, 7,
                                   0x80, 10, 0x80, 11, 0x80, 14, 0x80, 15};
  const I first = splat_table(kFirst), second = splat_table(kSecond);
  const uint8_t* w = static_cast<const uint8_t*>(panel) + quant::kInt8HeaderBytes + k_begin * kPanelRows;
  for (uint64_t k = 0; k < k_count; k += 4, w += 4 * kPanelRows) {
    int16_t* pair = out + k * kPanelRows;
    for (uint32_t v = 0; v < kPanelVectors; ++v) {
      const I quads = load_dwords(w + v * kWidth * 4);
      store_dwords(pair + v * kWidth * 2, widen_words_high(shuffle_bytes(quads, first)));
      store_dwords(pair + (kPanelRows + v * kWidth) * 2, widen_words_high(shuffle_bytes(quads, second)));
    }
  }
}

template <Format Fmt>
void expand_fixed_codes(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count, int16_t* out,
                        float* absmax) {
  const CodeTable table = code_table(quant::four_bit_code(Fmt));
  const auto* from = static_cast<const uint8_t*>(panel);
  const uint64_t groups = quant::is_nested(Fmt) ? quant::nested_groups(cols) : 0;
  for (uint64_t b = 0; b < k_count / kBlockCols; ++b) {
    const uint64_t index = k_begin / kBlockCols + b;
    const uint8_t* block = first_block<Fmt>(from, cols) + index * kBlockStride<Fmt>;
    for (uint32_t v = 0; v < kPanelVectors; ++v) {
      store(absmax + b * kPanelRows + v * kWidth, block_absmax<Fmt>(from, groups, block, index, v));
      for (uint32_t j = 0; j < kBlockCols / 8; ++j) {
        int16_t* pair = out + ((b * kBlockCols + 8 * j) * kPanelRows + v * kWidth * 2);
        const I dwords = load_dwords(code_dwords(block + kScaleBytes<Fmt>, v, j));
        const FourColumns low = look_up(table, low_nibbles(dwords));
        const FourColumns high = look_up(table, high_nibbles(dwords));
        store_dwords(pair, even_dwords(low.first, low.second));
        store_dwords(pair + kPanelRows * 2, odd_dwords(low.first, low.second));
        store_dwords(pair + kPanelRows * 4, even_dwords(high.first, high.second));
        store_dwords(pair + kPanelRows * 6, odd_dwords(high.first, high.second));
      }
    }
  }
}

// Columns 8j to 8j + 7 of 8 or 16 rows: the nibbles of their dwords as floats, times absmax.
inline void expand_eight(const Table16& table, I dwords, F absmax, float* at) {
  for (uint32_t i = 0; i < 4; ++i, at += kPanelRows) {
    store(at, look_up(table, and_i(dwords, splat_i(15))) * absmax);
    dwords = shift_right<4>(dwords);
    store(at + 4 * kPanelRows, look_up(table, and_i(dwords, splat_i(15))) * absmax);
    dwords = shift_right<4>(dwords);
  }
}

// Code values as floats, times absmax: the numbers that bitsandbytes dequantizes to, before their rounding.
template <Format Fmt>
void expand_four_bit(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count, float* out) {
  const Table16 table = table16(quant::four_bit_code(Fmt).values);
  const auto* from = static_cast<const uint8_t*>(panel);
  const uint64_t groups = quant::is_nested(Fmt) ? quant::nested_groups(cols) : 0;
  for (uint64_t k = 0; k < k_count; k += kBlockCols) {
    const uint64_t index = (k_begin + k) / kBlockCols;
    const uint8_t* block = first_block<Fmt>(from, cols) + index * kBlockStride<Fmt>;
    for (uint32_t v = 0; v < kPanelVectors; ++v) {
      const F absmax = block_absmax<Fmt>(from, groups, block, index, v);
      for (uint32_t j = 0; j < kBlockCols / 8; ++j)
        expand_eight(table, load_dwords(code_dwords(block + kScaleBytes<Fmt>, v, j)), absmax,
                     out + (k + 8 * j) * kPanelRows + v * kWidth);
    }
  }
}

}  // namespace
}  // namespace rhapsode::kernels
