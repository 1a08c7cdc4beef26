// AVX-512 in terms of AVX2: SIMDe's functions, and those that its release lacks or gets wrong. Stands before
// the compiler's own header where a kernel set is built that the machine may be unable to run. The values are
// those of the instructions; speed and register allocation are not.
#pragma once

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#include <cmath>
#include <cstdint>
#include <cstring>

namespace emulated {

// Lanes of a 64-byte vector as an array, and back.
template <class T>
struct Lanes {
  static constexpr uint32_t kCount = 64 / sizeof(T);
  T at[kCount];
};
template <class T, class Vector>
inline Lanes<T> lanes_of(Vector x) {
  static_assert(sizeof(Vector) == 64);
  return __builtin_bit_cast(Lanes<T>, x);
}
template <class Vector, class Body>
inline Vector vector_of(Body lane) {  // lane(i) of type T
  using T = decltype(lane(0u));
  Lanes<T> made;
  for (uint32_t i = 0; i < Lanes<T>::kCount; ++i) made.at[i] = lane(i);
  return __builtin_bit_cast(Vector, made);
}
template <class Half>
inline Half half_of(__m512 x, int which) {
  Half half;
  std::memcpy(&half, reinterpret_cast<const char*>(&x) + which * 32, sizeof half);
  return half;
}
inline __m512 joined(__m256 low, __m256 high) {
  __m512 whole;
  std::memcpy(&whole, &low, sizeof low);
  std::memcpy(reinterpret_cast<char*>(&whole) + sizeof low, &high, sizeof high);
  return whole;
}
inline __m512i joined(__m256i low, __m256i high) {
  return _mm512_castps_si512(joined(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)));
}

inline __m512i madd_epi16(__m512i a, __m512i b) {
  const auto x = lanes_of<int16_t>(a), y = lanes_of<int16_t>(b);
  return vector_of<__m512i>([&](uint32_t i) {
    return static_cast<int32_t>(static_cast<uint32_t>(x.at[2 * i] * y.at[2 * i]) +
                                static_cast<uint32_t>(x.at[2 * i + 1] * y.at[2 * i + 1]));
  });
}
template <class To, class From>
inline auto narrowed(__m512i x) {  // the low bits of each dword
  const auto from = lanes_of<uint32_t>(x);
  From to;
  for (uint32_t i = 0; i < 16; ++i) {
    const auto value = static_cast<To>(from.at[i]);
    std::memcpy(reinterpret_cast<char*>(&to) + i * sizeof(To), &value, sizeof value);
  }
  return to;
}
inline __m512i cvtepi8_epi32(__m128i x) {
  return joined(_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128(x, 8)));
}
inline __m512i cvtepu8_epi32(__m128i x) {
  return joined(_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8)));
}
inline __m512i cvtepu8_epi16(__m256i x) {
  return joined(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(x)),
                _mm256_cvtepu8_epi16(_mm256_extracti128_si256(x, 1)));
}
inline __m512i cvtepu16_epi32(__m256i x) {
  return joined(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(x)),
                _mm256_cvtepu16_epi32(_mm256_extracti128_si256(x, 1)));
}
inline __m512 cvtph_ps(__m256i x) {
  return joined(_mm256_cvtph_ps(_mm256_castsi256_si128(x)), _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1)));
}
inline __m256i cvtps_ph(__m512 x) {  // to nearest
  return _mm256_set_m128i(_mm256_cvtps_ph(half_of<__m256>(x, 1), _MM_FROUND_TO_NEAREST_INT),
                          _mm256_cvtps_ph(half_of<__m256>(x, 0), _MM_FROUND_TO_NEAREST_INT));
}
inline __m512i cvtps_epi32(__m512 x) {
  return joined(_mm256_cvtps_epi32(half_of<__m256>(x, 0)), _mm256_cvtps_epi32(half_of<__m256>(x, 1)));
}
inline __m512 cvtepi32_ps(__m512i x) {
  const __m512 bits = _mm512_castsi512_ps(x);
  return joined(_mm256_cvtepi32_ps(half_of<__m256i>(bits, 0)), _mm256_cvtepi32_ps(half_of<__m256i>(bits, 1)));
}
inline __m512 i32gather_ps(__m512i index, const void* table, int scale) {
  const auto at = lanes_of<int32_t>(index);
  return vector_of<__m512>([&](uint32_t i) {
    float value;
    std::memcpy(&value, static_cast<const char*>(table) + int64_t{at.at[i]} * scale, sizeof value);
    return value;
  });
}
inline __mmask16 mask_cmplt_epi32_mask(__mmask16 mask, __m512i a, __m512i b) {
  const auto x = lanes_of<int32_t>(a), y = lanes_of<int32_t>(b);
  uint32_t less = 0;
  for (uint32_t i = 0; i < 16; ++i) less |= static_cast<uint32_t>(x.at[i] < y.at[i]) << i;
  return static_cast<__mmask16>(less & mask);
}
inline void mask_storeu_ps(void* to, __mmask16 mask, __m512 x) {  // touches the lanes of the mask alone
  const auto lanes = lanes_of<float>(x);
  for (uint32_t i = 0; i < 16; ++i)
    if ((mask >> i & 1) != 0) std::memcpy(static_cast<char*>(to) + i * 4, &lanes.at[i], 4);
}
template <class Vector>
inline Vector maskz_loadu(__mmask16 mask, const void* from) {
  return vector_of<Vector>([&](uint32_t i) {
    uint32_t bits = 0;
    if ((mask >> i & 1) != 0) std::memcpy(&bits, static_cast<const char*>(from) + i * 4, 4);
    return bits;
  });
}
inline __m512i srai_epi32(__m512i x, uint32_t count) {
  const auto lanes = lanes_of<int32_t>(x);
  return vector_of<__m512i>([&](uint32_t i) { return lanes.at[i] >> count; });
}
inline __m512 permutevar_ps(__m512 x, __m512i index) {  // within each 16 bytes
  const auto values = lanes_of<float>(x);
  const auto at = lanes_of<uint32_t>(index);
  return vector_of<__m512>([&](uint32_t i) { return values.at[i / 4 * 4 + at.at[i] % 4]; });
}
inline __m512 scalef_ps(__m512 x, __m512 n) {  // n is whole, or x no number
  const auto values = lanes_of<float>(x), powers = lanes_of<float>(n);
  return vector_of<__m512>([&](uint32_t i) {
    return std::isnan(values.at[i]) ? values.at[i] : std::ldexp(values.at[i], static_cast<int>(powers.at[i]));
  });
}

}  // namespace emulated

#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) emulated::madd_epi16(a, b)
#undef _mm512_cvtepi32_epi16
#define _mm512_cvtepi32_epi16(x) (emulated::narrowed<uint16_t, __m256i>(x))
#undef _mm512_cvtepi32_epi8
#define _mm512_cvtepi32_epi8(x) (emulated::narrowed<uint8_t, __m128i>(x))
#undef _mm512_cvtepi8_epi32
#define _mm512_cvtepi8_epi32(x) emulated::cvtepi8_epi32(x)
#undef _mm512_cvtepu8_epi32
#define _mm512_cvtepu8_epi32(x) emulated::cvtepu8_epi32(x)
#undef _mm512_cvtepu8_epi16
#define _mm512_cvtepu8_epi16(x) emulated::cvtepu8_epi16(x)
#undef _mm512_cvtepu16_epi32
#define _mm512_cvtepu16_epi32(x) emulated::cvtepu16_epi32(x)
#undef _mm512_cvtph_ps
#define _mm512_cvtph_ps(x) emulated::cvtph_ps(x)
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph(x, rounding) emulated::cvtps_ph(x)
#undef _mm512_cvtps_epi32
#define _mm512_cvtps_epi32(x) emulated::cvtps_epi32(x)
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps(x) emulated::cvtepi32_ps(x)
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps(x, which) emulated::half_of<__m256>(x, which)
#undef _mm512_i32gather_ps
#define _mm512_i32gather_ps(index, table, scale) emulated::i32gather_ps(index, table, scale)
#undef _mm512_mask_cmplt_epi32_mask
#define _mm512_mask_cmplt_epi32_mask(mask, a, b) emulated::mask_cmplt_epi32_mask(mask, a, b)
#undef _mm512_mask_storeu_ps
#define _mm512_mask_storeu_ps(to, mask, x) emulated::mask_storeu_ps(to, mask, x)
#undef _mm512_maskz_loadu_ps
#define _mm512_maskz_loadu_ps(mask, from) emulated::maskz_loadu<__m512>(mask, from)
#undef _mm512_srai_epi32
#define _mm512_srai_epi32(x, count) emulated::srai_epi32(x, count)
#undef _mm512_permutevar_ps
#define _mm512_permutevar_ps(x, index) emulated::permutevar_ps(x, index)
#undef _mm512_scalef_ps
#define _mm512_scalef_ps(x, n) emulated::scalef_ps(x, n)
