// Ternary panels on vectors: a dword lane is an output row. Codes 0 to 2 times int8 add up in 16 bits for 240
// columns, then in 32; the codes' offset of 1 is taken off as the sum of the activations. Needs a vec_<isa>.h
// before it.
#pragma once

#include "kernels/isa/vec_matmul.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

using quant::kTernaryCols;

constexpr uint64_t kBlockBytes16 = kPanelRows * 4;  // of 16 columns
// A product of bytes adds two of at most 2 * 128, a block of 16 columns four such: 15 * 4 * 512 < 2^15.
constexpr uint64_t kWordCols = 15 * kTernaryCols;

template <uint32_t J>
inline I plane(I packed) {
  if constexpr (J == 0)
    return and_i(packed, splat_i(0x03030303u));
  else
    return and_i(shift_right<2 * J>(packed), splat_i(0x03030303u));
}

template <uint32_t J, uint32_t Vectors, uint32_t Tokens>
inline void add_plane(const I* packed, const int8_t* codes, uint64_t stride, I (*words)[Vectors]) {
  I values[Vectors];
  for (uint32_t v = 0; v < Vectors; ++v) values[v] = plane<J>(packed[v]);
  for (uint32_t t = 0; t < Tokens; ++t) {
    const I x = splat_dword(codes + t * stride + 4 * J);
    for (uint32_t v = 0; v < Vectors; ++v) words[t][v] = add_words(words[t][v], multiply_bytes(values[v], x));
  }
}

template <uint32_t Vectors, uint32_t Tokens>
inline void ternary_rows(const uint8_t* panel, const int8_t* codes, uint64_t stride, uint64_t cols,
                         I (*sums)[Vectors]) {
  for (uint64_t k = 0; k < cols;) {
    const uint64_t end = cols - k < kWordCols ? cols : k + kWordCols;
    I words[Tokens][Vectors];
    for (auto& token : words)
      for (I& word : token) word = splat_i(0);
    for (; k < end; k += kTernaryCols) {
      const uint8_t* block = panel + k / kTernaryCols * kBlockBytes16;
      prefetch_ahead(block);
      I packed[Vectors];
      for (uint32_t v = 0; v < Vectors; ++v) packed[v] = load_dwords(block + v * kWidth * 4);
      add_plane<0, Vectors, Tokens>(packed, codes + k, stride, words);
      add_plane<1, Vectors, Tokens>(packed, codes + k, stride, words);
      add_plane<2, Vectors, Tokens>(packed, codes + k, stride, words);
      add_plane<3, Vectors, Tokens>(packed, codes + k, stride, words);
    }
    for (uint32_t t = 0; t < Tokens; ++t)
      for (uint32_t v = 0; v < Vectors; ++v)
        sums[t][v] = add_i(sums[t][v], multiply_pairs16(words[t][v], splat_i(0x00010001u)));
  }
}

inline int32_t code_sum(const int8_t* codes, uint64_t cols) {
  int32_t sum = 0;
  for (uint64_t k = 0; k < cols; ++k) sum += codes[k];
  return sum;
}

template <uint32_t Tokens>
inline void dot_tokens(const uint8_t* panel, const int8_t* codes, uint64_t stride, uint64_t cols, float* y,
                       uint64_t y_stride) {
  // One token: the whole panel in one stream. More: as many rows at a time as registers hold.
  constexpr uint32_t kVectors = Tokens == 1 ? kPanelVectors : 2;
  for (uint32_t first = 0; first < kPanelVectors; first += kVectors) {
    I sums[Tokens][kVectors];
    for (uint32_t t = 0; t < Tokens; ++t) {
      const I offset = splat_i(static_cast<uint32_t>(-code_sum(codes + t * stride, cols)));
      for (uint32_t v = 0; v < kVectors; ++v) sums[t][v] = offset;
    }
    ternary_rows<kVectors, Tokens>(panel + first * kWidth * 4, codes, stride, cols, sums);
    for (uint32_t t = 0; t < Tokens; ++t)
      for (uint32_t v = 0; v < kVectors; ++v)
        store(y + t * y_stride + (first + v) * kWidth, to_float(sums[t][v]));
  }
}

void dot_ternary(const void* panel, const int8_t* codes, uint64_t codes_stride, uint32_t tokens,
                 uint64_t cols, float* y, uint64_t y_stride) {
  const auto* p = static_cast<const uint8_t*>(panel);
  switch (tokens) {
    case 1:
      return dot_tokens<1>(p, codes, codes_stride, cols, y, y_stride);
    case 2:
      return dot_tokens<2>(p, codes, codes_stride, cols, y, y_stride);
    case 3:
      return dot_tokens<3>(p, codes, codes_stride, cols, y, y_stride);
    default:
      return dot_tokens<4>(p, codes, codes_stride, cols, y, y_stride);
  }
}

template <uint32_t Column>
inline void expand_column(I packed, float* out) {
  const I field = and_i(shift_right<Column % 4 * 8 + Column / 4 * 2>(packed), splat_i(3));
  store(out + Column * kPanelRows, to_float(sub_i(field, splat_i(1))));
}

template <uint32_t... Columns>
inline void expand_columns(I packed, float* out, std::integer_sequence<uint32_t, Columns...>) {
  (expand_column<Columns>(packed, out), ...);
}

void expand_ternary(const void* panel, uint64_t, uint64_t k_begin, uint64_t k_count, float* out) {
  const auto* p = static_cast<const uint8_t*>(panel) + k_begin / kTernaryCols * kBlockBytes16;
  for (uint64_t k = 0; k < k_count; k += kTernaryCols, p += kBlockBytes16)
    for (uint32_t v = 0; v < kPanelVectors; ++v)
      expand_columns(load_dwords(p + v * kWidth * 4), out + k * kPanelRows + v * kWidth,
                     std::make_integer_sequence<uint32_t, kTernaryCols>());
}

}  // namespace
}  // namespace rhapsode::kernels
