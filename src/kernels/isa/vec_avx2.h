// The vector of the AVX2 set: 8 floats, and the few operations that the vec_*.h kernels are written in.
// Included by avx2.cpp alone. Everything is in an anonymous namespace: code compiled under wide flags must
// not be merged with code of the same name elsewhere.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace rhapsode::kernels {
namespace {

using F = __m256;     // 8 floats
using I = __m256i;    // 8 dwords
using Mask = __m256;  // all bits of a chosen lane
constexpr uint32_t kWidth = 8;

inline F splat(float x) {
  return _mm256_set1_ps(x);
}
inline F splat_from(const float* p) {
  return _mm256_broadcast_ss(p);
}
inline F zero() {
  return _mm256_setzero_ps();
}
inline F load(const float* p) {
  return _mm256_loadu_ps(p);
}
inline void store(float* p, F x) {
  _mm256_storeu_ps(p, x);
}

// The first n lanes, n < 8.
inline I lanes(uint64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline F load_first(const float* p, uint64_t n) {
  return _mm256_maskload_ps(p, lanes(n));
}
inline void store_first(float* p, uint64_t n, F x) {
  _mm256_maskstore_ps(p, lanes(n), x);
}

inline F fma(F a, F b, F c) {
  return _mm256_fmadd_ps(a, b, c);
}
inline F power_of_two(__m256i n) {  // from -126 to 127
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
inline F times_normal_power_of_two(F x, F n) {  // n is whole, from -126 to 127
  return x * power_of_two(_mm256_cvtps_epi32(n));
}
inline F times_power_of_two(F x, F n) {  // n is whole
  // Two factors: n reaches -150, where a single power of two would not be a normal number.
  const __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1);
  return x * power_of_two(half) * power_of_two(_mm256_sub_epi32(i, half));
}
inline F larger(F a, F b) {
  return _mm256_max_ps(a, b);
}  // a > b ? a : b
inline F smaller(F a, F b) {
  return _mm256_min_ps(a, b);
}  // a < b ? a : b
inline Mask less(F a, F b) {
  return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
inline Mask not_less(F a, F b) {  // true for NaN
  return _mm256_cmp_ps(a, b, _CMP_NLT_UQ);
}
inline F only(Mask mask, F x) {  // 0 elsewhere
  return _mm256_and_ps(mask, x);
}
inline Mask is_nan(F x) {
  return _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
}
inline Mask lanes_between(uint32_t first, uint32_t begin, uint32_t end) {  // begin <= first + lane < end
  const I at =
      _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(first)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  const I below = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(begin)), at);
  return _mm256_castsi256_ps(
      _mm256_andnot_si256(below, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(end)), at)));
}
inline F choose(Mask mask, F yes, F no) {
  return _mm256_blendv_ps(no, yes, mask);
}

inline I bits(F x) {
  return _mm256_castps_si256(x);
}
inline F from_bits(I x) {
  return _mm256_castsi256_ps(x);
}
inline I splat_i(uint32_t x) {
  return _mm256_set1_epi32(static_cast<int>(x));
}
inline I add_i(I a, I b) {
  return _mm256_add_epi32(a, b);
}
inline I xor_i(I a, I b) {
  return _mm256_xor_si256(a, b);
}
inline I sub_i(I a, I b) {
  return _mm256_sub_epi32(a, b);
}
inline I and_i(I a, I b) {
  return _mm256_and_si256(a, b);
}
inline I or_i(I a, I b) {
  return _mm256_or_si256(a, b);
}
template <int N>
inline I shift_left(I x) {
  return _mm256_slli_epi32(x, N);
}
template <int N>
inline I shift_right(I x) {
  return _mm256_srli_epi32(x, N);
}
template <int N>
inline I shift_right_signed(I x) {
  return _mm256_srai_epi32(x, N);
}
inline I shift_left_by(I x, uint32_t count) {
  return _mm256_sll_epi32(x, _mm_cvtsi32_si128(static_cast<int>(count)));
}
inline I load_dwords(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

// 16-bit elements in memory, widened to a dword or to float, and back.
inline I load_u16(const uint8_t* p) {
  return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline F load_f16(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline void store_f16(uint8_t* p, F x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
inline void store_u16(uint8_t* p, I x) {  // x < 65536
  const I packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(x, x), 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}
inline F round_f16(F x) {
  return _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

// Integers of 8 and 16 bits, four or two to a dword.
inline I splat_dword(const void* p) {
  int x;
  __builtin_memcpy(&x, p, sizeof x);
  return _mm256_set1_epi32(x);
}
inline I splat_qword(const void* p) {
  long long x;
  __builtin_memcpy(&x, p, sizeof x);
  return _mm256_set1_epi64x(x);
}
inline I splat_table(const uint8_t* sixteen) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(sixteen)));
}
inline void store_dwords(void* p, I x) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), x);
}
inline I load_u8(const uint8_t* p) {  // widened to dwords
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline F load_i8(const uint8_t* p) {  // signed, as floats
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline F gather(const float* table, I index) {
  return _mm256_i32gather_ps(table, index, 4);
}
inline F to_float(I x) {
  return _mm256_cvtepi32_ps(x);
}
inline I to_int(F x) {  // to nearest, ties to even
  return _mm256_cvtps_epi32(x);
}
inline I larger_i(I a, I b) {
  return _mm256_max_epi32(a, b);
}
inline I multiply_pairs16(I a, I b) {  // int16: a0*b0 + a1*b1 to each dword
  return _mm256_madd_epi16(a, b);
}
// int8 times int8, none of them -128, four products to each dword.
inline I multiply_quads8(I w, I x) {
  const I pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
inline I multiply_bytes(I w, I x) {  // unsigned w, signed x: pairs of products to each word
  return _mm256_maddubs_epi16(w, x);
}
inline I add_words(I a, I b) {
  return _mm256_add_epi16(a, b);
}
inline I shuffle_bytes(I table, I index) {
  return _mm256_shuffle_epi8(table, index);
}
// A shift by four as a multiplication, which runs where the lookups around it do not.
inline I high_nibbles(I x) {
  return _mm256_and_si256(_mm256_mulhi_epu16(x, _mm256_set1_epi16(1 << 12)), _mm256_set1_epi8(15));
}
inline I low_nibbles(I x) {
  return _mm256_and_si256(x, _mm256_set1_epi8(15));
}
inline I interleave_low8(I a, I b) {  // within each 16 bytes
  return _mm256_unpacklo_epi8(a, b);
}
inline I interleave_high8(I a, I b) {
  return _mm256_unpackhi_epi8(a, b);
}
inline I even_dwords(I a, I b) {  // within each 16 bytes: a0 a2 b0 b2
  return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0x88));
}
inline I odd_dwords(I a, I b) {
  return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0xdd));
}
inline void store_i16(int16_t* p, I x) {  // x fits
  const I packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(x, x), 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}
inline void store_i8(int8_t* p, I x) {
  const I packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(x, x), 0x08);
  const __m128i words = _mm256_castsi256_si128(packed);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}
inline Mask at_least(F a, F b) {  // a >= b, false for NaN
  return _mm256_cmp_ps(a, b, _CMP_GE_OQ);
}

inline uint32_t lane_bits(Mask mask) {
  return static_cast<uint32_t>(_mm256_movemask_ps(mask));
}
inline float sqrt_of(float x) {
  return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
}

inline float largest(F x) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}

// The 16 partial sums of a row reduction, lane i % 16.
constexpr uint32_t kPartialVectors = 2;
inline float total(const F* partials) {
  const F eight = partials[0] + partials[1];
  __m128 four = _mm256_castps256_ps128(eight) + _mm256_extractf128_ps(eight, 1);
  four = four + _mm_movehl_ps(four, four);
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}

// The even and the odd ones of 16 floats, and back.
inline void apart(const float* p, F& even, F& odd) {
  const __m256 a = load(p), b = load(p + kWidth);
  const auto in_order = [](__m256 x) {
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8));
  };
  even = in_order(_mm256_shuffle_ps(a, b, 0x88));
  odd = in_order(_mm256_shuffle_ps(a, b, 0xdd));
}
inline void together(float* p, F even, F odd) {
  const __m256 low = _mm256_unpacklo_ps(even, odd), high = _mm256_unpackhi_ps(even, odd);
  store(p, _mm256_permute2f128_ps(low, high, 0x20));
  store(p + kWidth, _mm256_permute2f128_ps(low, high, 0x31));
}

}  // namespace
}  // namespace rhapsode::kernels

// Written in terms of the vector above.
#include "kernels/isa/vec_avx2_machine.h"
#include "kernels/isa/vec_avx2_map.h"
