// Looking up maps of floats with AVX-512. Included by vec_avx512.h alone.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace rhapsode::kernels {
namespace {

// table[index] of 4 values, by the lower two bits of each lane; of 8 by index < 8.
inline F table4(const float* values) {
  return _mm512_broadcast_f32x4(_mm_loadu_ps(values));
}
inline F look_up4(F table, I index) {
  return _mm512_permutevar_ps(table, index);
}
inline F table8(const float* values) {
  return _mm512_castps256_ps512(_mm256_loadu_ps(values));
}
inline F look_up8(F table, I index) {
  return _mm512_permutexvar_ps(index, table);
}
// table[index] of 16 values, by the lower four bits of each lane.
struct Table16 {
  F values;
};
inline Table16 table16(const float* values) {
  return {_mm512_loadu_ps(values)};
}
inline F look_up(const Table16& table, I index) {
  return _mm512_permutexvar_ps(index, table.values);
}
// Four of the eight codes of each dword, the lower ones of its bytes or (Half 1) the upper ones: out[i] is
// the value of that of byte i.
template <uint32_t Half>
inline void four_values(const Table16& table, I dwords, F (&out)[4]) {
  out[0] = look_up(table, shift_right<4 * Half>(dwords));
  out[1] = look_up(table, shift_right<8 + 4 * Half>(dwords));
  out[2] = look_up(table, shift_right<16 + 4 * Half>(dwords));
  out[3] = look_up(table, shift_right<24 + 4 * Half>(dwords));
}

// A map of 256 floats, in two ways.
#if defined(__AVX512BF16__)
// The map as four tables of bytes, one for each byte of a float, whose look-ups (AVX512-VBMI) find one of
// 128: two of them and a choice make one of 256, for the codes of two blocks at once.
class ByteMap {
 public:
  static constexpr bool kFast = true;
  static constexpr uint32_t kBlocks = 2;  // that a look-up takes
  explicit ByteMap(const float* values) {
    for (uint32_t quarter = 0; quarter < 4; ++quarter) fill(quarter, values + quarter * 64);
  }

  // out[b][v] = values[codes[b * 32 + v * 16 …]]
  void look_up(const uint8_t* codes, F (&out)[2][2]) const {
    // Fours of codes in such an order that interleaved bytes of floats come out in theirs.
    const I index = _mm512_permutexvar_epi32(transposed(), load_dwords(codes));
    const __mmask64 upper = _mm512_movepi8_mask(index);
    const auto byte = [&](uint32_t which) {
      const I(&of)[4] = tables_[which];
      return _mm512_mask_blend_epi8(upper, looked_up_bytes(of[0], of[1], index),
                                    looked_up_bytes(of[2], of[3], index));
    };
    const I first = byte(0), second = byte(1), third = byte(2), fourth = byte(3);
    const I low[2] = {_mm512_unpacklo_epi8(first, second), _mm512_unpackhi_epi8(first, second)};
    const I high[2] = {_mm512_unpacklo_epi8(third, fourth), _mm512_unpackhi_epi8(third, fourth)};
    for (uint32_t b = 0; b < 2; ++b) {
      out[b][0] = from_bits(_mm512_unpacklo_epi16(low[b], high[b]));
      out[b][1] = from_bits(_mm512_unpackhi_epi16(low[b], high[b]));
    }
  }

 private:
  static I transposed() {  // a square of four by four dwords
    return _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  }

  // Entries 64 * quarter … of all tables.
  void fill(uint32_t quarter, const float* values) {
    constexpr uint8_t kTransposed[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    I fours[4];  // of four values their first bytes, their second ones, …
    for (uint32_t i = 0; i < 4; ++i)
      fours[i] = shuffle_bytes(bits(load(values + i * kWidth)), splat_table(kTransposed));
    // Which two bytes of a value: those of 32 values in turn.
    const auto of_half = [&](uint32_t i, uint32_t which) {
      const I places = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
      return _mm512_permutex2var_epi32(fours[2 * i], add_i(places, splat_i(2 * which)), fours[2 * i + 1]);
    };
    for (uint32_t which = 0; which < 2; ++which) {
      const I low = of_half(0, which), high = of_half(1, which);
      tables_[2 * which][quarter] = _mm512_shuffle_i64x2(low, high, 0x44);
      tables_[2 * which + 1][quarter] = _mm512_shuffle_i64x2(low, high, 0xee);
    }
  }

  I tables_[4][4];
};
#else
// The map as words, whose look-ups find one of 64: four of them and three choices make one of 256. Beside the
// products of a panel about as fast as a gather (4.05 and 4.11 cycles a cache line on Zen 5).
class ByteMap {
 public:
  static constexpr bool kFast = true;
  static constexpr uint32_t kBlocks = 1;  // that a look-up takes
  explicit ByteMap(const float* values) {
    for (uint32_t i = 0; i < 256; i += 2 * kWidth) {
      const I first = bits(load(values + i)), second = bits(load(values + i + kWidth));
      store_dwords(low_ + i, _mm512_permutex2var_epi16(first, every_second_word(0), second));
      store_dwords(high_ + i, _mm512_permutex2var_epi16(first, every_second_word(1), second));
    }
  }

  // out[0][v] = values[codes[v * 16 …]] of 32 codes.
  void look_up(const uint8_t* codes, F (&out)[1][2]) const {
    // Fours of codes in such an order that the interleaved halves of floats come out in theirs.
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i bytes =
        _mm256_permutevar8x32_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)), order);
    const Index index{_mm512_cvtepu8_epi16(bytes),
                      static_cast<__mmask32>(_mm256_movemask_epi8(_mm256_add_epi8(bytes, bytes))),
                      static_cast<__mmask32>(_mm256_movemask_epi8(bytes))};
    const I low = words(low_, index), high = words(high_, index);
    out[0][0] = from_bits(_mm512_unpacklo_epi16(low, high));
    out[0][1] = from_bits(_mm512_unpackhi_epi16(low, high));
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
#endif

}  // namespace
}  // namespace rhapsode::kernels
