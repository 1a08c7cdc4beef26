// Ternary panels on vectors: a dword lane is an output row. Codes 0 to 2 times int8 add up in 16 bits for 240
// columns, then in 32; the codes' offset of 1 is taken off as the sum of the activations. Needs a vec_<isa>.h
// before it.
#pragma once

#include "kernels/isa/vec_matmul.h"
#include "kernels/isa/vec_quantized_tiles.h"
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
      prefetch_unpacked(block);
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

// One token: two of the four planes are multiplied where they lie, four times
// too large, in words of their own; with the others four times as well, all sums come down at the end.
constexpr uint64_t kRunCols = 8 * kTernaryCols;  // 8 blocks of two planes: 16 * 4 * 512 = 2^15, all negative

inline void add_raised_planes(I (&packed)[kPanelVectors], const int8_t* codes, I (&plain)[kPanelVectors],
                              I (&raised)[kPanelVectors]) {
  const I x0 = splat_dword(codes);
  at_each<kPanelVectors>([&](auto at) {
    constexpr uint32_t v = decltype(at)::value;
    plain[v] = add_words(plain[v], multiply_bytes(and_i(packed[v], splat_i(0x03030303u)), x0));
  });
  const I x1 = splat_dword(codes + 4);
  at_each<kPanelVectors>([&](auto at) {
    constexpr uint32_t v = decltype(at)::value;
    raised[v] = add_words(raised[v], multiply_bytes(and_i(packed[v], splat_i(0x0c0c0c0cu)), x1));
  });
}

// Adds `cols` <= kRunCols columns to sums, four times.
inline void add_run(const uint8_t* block, const int8_t* codes, uint64_t cols, I (&sums)[kPanelVectors]) {
  I plain[kPanelVectors], raised[kPanelVectors];
  at_each<kPanelVectors>(
      [&](auto v) { plain[decltype(v)::value] = raised[decltype(v)::value] = splat_i(0); });
  for (uint64_t k = 0; k < cols; k += kTernaryCols, block += kBlockBytes16) {
    prefetch_unpacked(block);
    prefetch_unpacked(block + 64);
    I packed[kPanelVectors];
    at_each<kPanelVectors>(
        [&](auto v) { packed[decltype(v)::value] = load_dwords(block + decltype(v)::value * kWidth * 4); });
    add_raised_planes(packed, codes + k, plain, raised);
    at_each<kPanelVectors>(
        [&](auto v) { packed[decltype(v)::value] = shift_right<4>(packed[decltype(v)::value]); });
    add_raised_planes(packed, codes + k + 8, plain, raised);
  }
  at_each<kPanelVectors>([&](auto at) {
    constexpr uint32_t v = decltype(at)::value;
    sums[v] = add_i(sums[v], multiply_pairs16(plain[v], splat_i(0x00040004u)));
    sums[v] = add_i(sums[v], multiply_pairs16(raised[v], splat_i(0x00010001u)));
  });
}

// The panels take turns, a run of columns each, so that both streams are asked for.
template <uint32_t Panels>
inline void gemv_ternary_runs(const uint8_t* const* panels, const int8_t* codes, int32_t code_sum,
                              uint64_t cols, float* const* y) {
  I sums[Panels][kPanelVectors];
  for (auto& panel : sums)
    for (I& sum : panel) sum = splat_i(0);
  for (uint64_t k = 0; k < cols; k += kRunCols)
    at_each<Panels>([&](auto p) {
      add_run(panels[decltype(p)::value] + k / kTernaryCols * kBlockBytes16, codes + k,
              cols - k < kRunCols ? cols - k : kRunCols, sums[decltype(p)::value]);
    });
  const I offset = splat_i(static_cast<uint32_t>(code_sum));
  for (uint32_t p = 0; p < Panels; ++p)
    for (uint32_t v = 0; v < kPanelVectors; ++v)
      store(y[p] + v * kWidth, to_float(sub_i(shift_right_signed<2>(sums[p][v]), offset)));
}

void gemv_ternary(const void* panel_a, const void* panel_b, const void* codes, const float* scales,
                  uint64_t cols, float* y_a, float* y_b) {
  with_panels(panel_a, panel_b, y_a, y_b, [&](auto count, const uint8_t* const* panels, float* const* y) {
    gemv_ternary_runs<decltype(count)::value>(panels, static_cast<const int8_t*>(codes),
                                              static_cast<int32_t>(*scales), cols, y);
  });
}

struct TernaryRun {
  const uint8_t* panel;
  const int8_t* codes;
  uint64_t stride;
  const int32_t* code_sums;
  uint64_t cols;
  float* y;
  uint64_t y_stride;

  // As many rows at a time as registers hold.
  template <uint32_t Tokens>
  void run() const {
    constexpr uint32_t kVectors = 2;
    for (uint32_t first = 0; first < kPanelVectors; first += kVectors) {
      I sums[Tokens][kVectors];
      for (uint32_t t = 0; t < Tokens; ++t)
        for (uint32_t v = 0; v < kVectors; ++v) sums[t][v] = splat_i(static_cast<uint32_t>(-code_sums[t]));
      ternary_rows<kVectors, Tokens>(panel + first * kWidth * 4, codes, stride, cols, sums);
      for (uint32_t t = 0; t < Tokens; ++t)
        for (uint32_t v = 0; v < kVectors; ++v)
          store(y + t * y_stride + (first + v) * kWidth, to_float(sums[t][v]));
    }
  }
};

void dot_ternary(const void* panel, const int8_t* codes, uint64_t codes_stride, const int32_t* code_sums,
                 uint32_t tokens, uint64_t cols, float* y, uint64_t y_stride) {
  run_rows<kTernaryTokens>(tokens, TernaryRun{static_cast<const uint8_t*>(panel), codes, codes_stride,
                                              code_sums, cols, y, y_stride});
}

void expand_trits(const void* panel, uint64_t k_begin, uint64_t k_count, uint8_t* out) {
  const auto* p = static_cast<const uint8_t*>(panel) + k_begin / kTernaryCols * kBlockBytes16;
  for (uint64_t k = 0; k < k_count; k += kTernaryCols, p += kBlockBytes16, out += kTernaryCols * kPanelRows)
    for (uint32_t v = 0; v < kPanelVectors; ++v) {
      const I packed = load_dwords(p + v * kWidth * 4);
      at_each<4>([&](auto j) {
        constexpr uint32_t plane_of = decltype(j)::value;
        store_dwords(out + (plane_of * kPanelRows + v * kWidth) * 4, plane<plane_of>(packed));
      });
    }
}

struct TritTile {
  const uint8_t* b;
  const int8_t* a;
  uint64_t quads;
  float* c;
  uint64_t c_stride;
  bool first;

  template <uint32_t Rows>
  void run() const {
    constexpr uint32_t kVectors = tile_vectors(Rows);
    for (uint32_t column = 0; column < kPanelRows; column += kVectors * kWidth) {
      I words[Rows][kVectors];
      at_each<Rows * kVectors>([&](auto at) {
        words[decltype(at)::value / kVectors][decltype(at)::value % kVectors] = splat_i(0);
      });
      add_quads<Rows, kVectors>(words, b + column * 4);
      at_each<Rows * kVectors>([&](auto at) {
        constexpr uint32_t r = decltype(at)::value / kVectors, v = decltype(at)::value % kVectors;
        float* to = c + r * c_stride + column + v * kWidth;
        const I sum = multiply_pairs16(words[r][v], splat_i(0x00010001u));
        store(to, from_bits(first ? sum : add_i(sum, bits(load(to)))));
      });
    }
  }

  template <uint32_t Rows, uint32_t Vectors>
  void add_quads(I (&words)[Rows][Vectors], const uint8_t* from) const {
    const int8_t* x = a;
    for (uint64_t q = 0; q < quads; ++q, from += kPanelRows * 4, x += kGemmTokens * 4) {
      I w[Vectors];
      at_each<Vectors>(
          [&](auto v) { w[decltype(v)::value] = load_dwords(from + decltype(v)::value * kWidth * 4); });
      at_each<Rows>([&](auto r) {
        const I code = splat_dword(x + decltype(r)::value * 4);
        at_each<Vectors>([&](auto v) {
          I& word = words[decltype(r)::value][decltype(v)::value];
          word = added_words(word, multiply_bytes(w[decltype(v)::value], code));
        });
      });
    }
  }
};

void tile_trits(const uint8_t* b, const int8_t* a, uint32_t tokens, uint64_t quads, float* c,
                uint64_t c_stride, bool first) {
  run_rows<kGemmTokens>(tokens, TritTile{b, a, quads, c, c_stride, first});
}

void finish_trits(int32_t code_sum, float* c) {
  const I offset = splat_i(static_cast<uint32_t>(code_sum));
  for (uint32_t v = 0; v < kPanelVectors; ++v)
    store(c + v * kWidth, to_float(sub_i(bits(load(c + v * kWidth)), offset)));
}

}  // namespace
}  // namespace rhapsode::kernels
