// int8 weights times many tokens where bytes are multiplied to words (vpmaddubsw), as reference_quantized.cpp
// has it: three instructions for what takes four by words of 16 bits, or with signs moved from weights to
// codes. Needs a vec_<isa>.h before it.
#pragma once

#include "kernels/isa/vec_quantized_tiles.h"

namespace rhapsode::kernels {
namespace {

// Bytes whose products with a token's fit a word by twos.
struct SmallQuads {
  template <class X>
  static I add(I sum, I w, X x) {
    return add_quads8(sum, w, x);
  }
};
// A panel's int8 as it is stored, by codes + 128.
struct StoredQuads {
  static I add(I sum, I w, I x) { return added(sum, multiply_quads8(w, xor_i(x, splat_i(0x80808080u)))); }
  static I add(I sum, I w, const int8_t* a) { return add(sum, w, splat_dword(a)); }
};

// Adds `quads` quads of columns to the sums of `Rows` tokens and the rows of `Vectors` vectors.
template <class Quads, uint32_t Rows, uint32_t Vectors>
[[gnu::always_inline]] inline void sum_quads(I (&sums)[Rows][Vectors], const uint8_t* b, const int8_t* a,
                                             uint64_t quads) {
  for (uint64_t q = 0; q < quads; ++q, b += kPanelRows * 4, a += kGemmTokens * 4) {
    I w[Vectors];
    at_each<Vectors>(
        [&](auto v) { w[decltype(v)::value] = load_dwords(b + decltype(v)::value * kWidth * 4); });
    at_each<Rows>([&](auto r) {
      at_each_vector<decltype(r)::value, Vectors>(a + decltype(r)::value * 4, [&](auto v, auto x) {
        I& sum = sums[decltype(r)::value][decltype(v)::value];
        sum = Quads::add(sum, w[decltype(v)::value], x);
      });
    });
  }
}

template <class Quads>
struct QuadTile {
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
      I sums[Rows][kVectors];
      const auto at_sums = [&](auto work) {
        at_each<Rows * kVectors>([&](auto at) {
          constexpr uint32_t r = decltype(at)::value / kVectors, v = decltype(at)::value % kVectors;
          work(sums[r][v], c + r * c_stride + column + v * kWidth);
        });
      };
      at_sums([&](I& sum, const float* from) { sum = first ? splat_i(0) : bits(load(from)); });
      sum_quads<Quads>(sums, b + column * 4, a, quads);
      at_sums([](I sum, float* to) { store(to, from_bits(sum)); });
    }
  }
};

void tile_quads(const uint8_t* b, const int8_t* a, uint32_t tokens, uint64_t quads, float* c,
                uint64_t c_stride, bool first) {
  run_rows<kGemmTokens>(tokens, QuadTile<SmallQuads>{b, a, quads, c, c_stride, first});
}

void tile_int8(const void* panel, uint64_t k_begin, const uint8_t* a, uint32_t tokens, uint64_t k_count,
               float* c, uint64_t c_stride) {
  const uint8_t* w = static_cast<const uint8_t*>(panel) + quant::kInt8HeaderBytes + k_begin * kPanelRows;
  run_rows<kGemmTokens>(tokens, QuadTile<StoredQuads>{w, reinterpret_cast<const int8_t*>(a), k_count / 4, c,
                                                      c_stride, k_begin == 0});
}

void expand_int8_bytes(const void* panel, uint64_t, uint64_t k_begin, uint64_t k_count, uint8_t* out,
                       float*) {
  const uint8_t* w = static_cast<const uint8_t*>(panel) + quant::kInt8HeaderBytes + k_begin * kPanelRows;
  for (uint64_t at = 0; at < k_count * kPanelRows; at += kWidth * 4)
    store_dwords(out + at, xor_i(load_dwords(w + at), splat_i(0x80808080u)));
}

// The pairs of columns [begin, end). Returns how many are listed now.
inline uint32_t take_heavy_of(int8_t* codes, uint64_t begin, uint64_t end, uint32_t* heavy, uint32_t count) {
  for (uint64_t k = begin; k < end; k += 2) {
    const int32_t pair = codes[k] + codes[k + 1];
    if (pair >= -128 && pair <= 128) continue;
    heavy[count++] = static_cast<uint32_t>(k + 1) * 256 + static_cast<uint8_t>(codes[k + 1]);
    codes[k + 1] = 0;
  }
  return count;
}

uint32_t take_heavy(int8_t* codes, uint64_t n, uint32_t* heavy, int32_t* sum) {
  constexpr uint64_t kBytes = kWidth * 4;
  const I bytes_of_one = splat_i(0x01010101u), words_of_one = splat_i(0x00010001u);
  // Two pairs of 128 at most have no squares that add up to more; which of the others are heavy is seen then.
  const F limit = splat(128.0f * 128 + 1);
  I sums = splat_i(0);
  uint32_t count = 0;
  uint64_t k = 0;
  const auto pairs_at = [&] {
    return multiply_bytes(bytes_of_one, load_dwords(reinterpret_cast<const uint8_t*>(codes + k)));
  };
  for (; k + kBytes <= n; k += kBytes) {
    I pairs = pairs_at();
    if (lane_bits(at_least(to_float(multiply_pairs16(pairs, pairs)), limit)) != 0) {
      count = take_heavy_of(codes, k, k + kBytes, heavy, count);
      pairs = pairs_at();
    }
    sums = add_i(sums, multiply_pairs16(pairs, words_of_one));
  }
  count = take_heavy_of(codes, k, n, heavy, count);
  int32_t lanes[kWidth];
  store_dwords(lanes, sums);
  *sum = 0;
  for (; k < n; ++k) *sum += codes[k];
  for (const int32_t lane : lanes) *sum += lane;
  return count;
}

void add_heavy(const void* panel, const uint32_t* heavy, uint32_t count, int32_t sum, float* c) {
  const uint8_t* w = static_cast<const uint8_t*>(panel) + quant::kInt8HeaderBytes;
  const I offset = splat_i(128 * static_cast<uint32_t>(sum));
  I sums[kPanelVectors];
  at_each<kPanelVectors>(
      [&](auto v) { sums[decltype(v)::value] = sub_i(bits(load(c + decltype(v)::value * kWidth)), offset); });
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t column = heavy[i] / 256;
    const I code = splat_i((heavy[i] & 255) << column % 4 * 8);
    at_each<kPanelVectors>([&](auto v) {
      const uint8_t* quads = w + column / 4 * 4 * kPanelRows + decltype(v)::value * kWidth * 4;
      sums[decltype(v)::value] = add_i(sums[decltype(v)::value], multiply_quads8(load_dwords(quads), code));
    });
  }
  at_each<kPanelVectors>(
      [&](auto v) { store(c + decltype(v)::value * kWidth, from_bits(sums[decltype(v)::value])); });
}

}  // namespace
}  // namespace rhapsode::kernels
