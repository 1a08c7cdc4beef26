// Looking up a map of 256 floats by bytes with AVX-512. Included by vec_avx512.h alone.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace rhapsode::kernels {
namespace {

// The map as words, whose look-ups find one of 64: four of them and three choices make one of 256. Beside the
// products of a panel about as fast as a gather (4.05 and 4.11 cycles a cache line on Zen 5).
class ByteMap {
 public:
  static constexpr bool kFast = true;
  explicit ByteMap(const float* values) {
    for (uint32_t i = 0; i < 256; i += 2 * kWidth) {
      const I first = bits(load(values + i)), second = bits(load(values + i + kWidth));
      store_dwords(low_ + i, _mm512_permutex2var_epi16(first, every_second_word(0), second));
      store_dwords(high_ + i, _mm512_permutex2var_epi16(first, every_second_word(1), second));
    }
  }

  // out[v] = values[codes[v * 16 …]] of 32 codes.
  void look_up(const uint8_t* codes, F (&out)[2]) const {
    // Fours of codes in such an order that the interleaved halves of floats come out in theirs.
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i bytes =
        _mm256_permutevar8x32_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)), order);
    const Index index{_mm512_cvtepu8_epi16(bytes),
                      static_cast<__mmask32>(_mm256_movemask_epi8(_mm256_add_epi8(bytes, bytes))),
                      static_cast<__mmask32>(_mm256_movemask_epi8(bytes))};
    const I low = words(low_, index), high = words(high_, index);
    out[0] = from_bits(_mm512_unpacklo_epi16(low, high));
    out[1] = from_bits(_mm512_unpackhi_epi16(low, high));
  }

 private:
  struct Index {
    I words;
    __mmask32 bit6;
    __mmask32 bit7;
  };

  static I every_second_word(uint32_t first) {
    alignas(64) uint16_t at[32];
    for (uint32_t i = 0; i < 32; ++i) at[i] = static_cast<uint16_t>(2 * i + first);
    return load_dwords(reinterpret_cast<const uint8_t*>(at));
  }

  static I words(const uint16_t* table, const Index& index) {
    const auto of_64 = [&](uint32_t quarter) {
      const auto* at = reinterpret_cast<const uint8_t*>(table + quarter * 64);
      return _mm512_permutex2var_epi16(load_dwords(at), index.words, load_dwords(at + 64));
    };
    const I lower = _mm512_mask_blend_epi16(index.bit6, of_64(0), of_64(1));
    const I upper = _mm512_mask_blend_epi16(index.bit6, of_64(2), of_64(3));
    return _mm512_mask_blend_epi16(index.bit7, lower, upper);
  }

  alignas(64) uint16_t low_[256];
  alignas(64) uint16_t high_[256];
};

}  // namespace
}  // namespace rhapsode::kernels
