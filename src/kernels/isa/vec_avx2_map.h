// Looking up maps of floats with AVX2. Included by vec_avx2.h alone.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace rhapsode::kernels {
namespace {

// A map of 256 floats: out[v] = values[codes[v * 8 …]] of 32 codes.
class ByteMap {
 public:
  static constexpr bool kFast = false;  // a gather takes turns with what is multiplied beside it
  static constexpr uint32_t kBlocks = 1;
  explicit ByteMap(const float* values) : values_(values) {}
  void look_up(const uint8_t* codes, F (&out)[1][4]) const {
    for (uint32_t v = 0; v < 4; ++v) out[0][v] = gather(values_, load_u8(codes + v * kWidth));
  }

 private:
  const float* values_;
};

// table[index] of 8 values, index < 8 in each lane.
inline F table8(const float* values) {
  return _mm256_loadu_ps(values);
}
inline F look_up8(F table, I index) {
  return _mm256_permutevar8x32_ps(table, index);
}

// table[index] of 4 values, by the lower two bits of each lane.
inline F table4(const float* values) {
  return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(values));
}
inline F look_up4(F table, I index) {
  return _mm256_permutevar_ps(table, index);
}

// 16 values, as four tables of bytes, one for each byte of a float.
struct Table16 {
  I bytes[4];
};
inline Table16 table16(const float* values) {
  Table16 table;
  for (uint32_t which = 0; which < 4; ++which) {
    uint8_t sixteen[16];
    for (uint32_t i = 0; i < 16; ++i)
      sixteen[i] = reinterpret_cast<const uint8_t*>(values)[i * sizeof(float) + which];
    table.bytes[which] = splat_table(sixteen);
  }
  return table;
}

// Four of the eight codes of each dword, the lower ones of its bytes or (Half 1) the upper ones: out[i] is
// the value of that of byte i.
template <uint32_t Half>
inline void four_values(const Table16& table, I dwords, F (&out)[4]) {
  // Bytes in such an order that interleaved bytes of floats come out in that of rows.
  const I transposed =
      shuffle_bytes(dwords, _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8,
                                             12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const I codes = Half == 0 ? low_nibbles(transposed) : high_nibbles(transposed);
  const I first = shuffle_bytes(table.bytes[0], codes), second = shuffle_bytes(table.bytes[1], codes);
  const I third = shuffle_bytes(table.bytes[2], codes), fourth = shuffle_bytes(table.bytes[3], codes);
  const I low[2] = {interleave_low8(first, second), interleave_high8(first, second)};
  const I high[2] = {interleave_low8(third, fourth), interleave_high8(third, fourth)};
  for (uint32_t i = 0; i < 2; ++i) {
    out[2 * i] = from_bits(_mm256_unpacklo_epi16(low[i], high[i]));
    out[2 * i + 1] = from_bits(_mm256_unpackhi_epi16(low[i], high[i]));
  }
}

}  // namespace
}  // namespace rhapsode::kernels
