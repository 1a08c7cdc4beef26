// The vector of the AVX-512 set: 16 floats, and the few operations that the vec_*.h kernels are written in.
// Included by avx512.cpp and avx512_vnni.cpp alone. Everything is in an anonymous namespace: code compiled
// under wide flags must not be merged with code of the same name elsewhere.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace rhapsode::kernels {
namespace {

using F = __m512;        // 16 floats
using I = __m512i;       // 16 dwords
using Mask = __mmask16;  // one bit a lane
constexpr uint32_t kWidth = 16;

inline F splat(float x) {
  return _mm512_set1_ps(x);
}
inline F splat_from(const float* p) {
  return _mm512_set1_ps(*p);
}
inline F zero() {
  return _mm512_setzero_ps();
}
inline F load(const float* p) {
  return _mm512_loadu_ps(p);
}
inline void store(float* p, F x) {
  _mm512_storeu_ps(p, x);
}

// The first n lanes, n < 16.
inline Mask lanes(uint64_t n) {
  return static_cast<Mask>((1u << n) - 1u);
}
inline F load_first(const float* p, uint64_t n) {
  return _mm512_maskz_loadu_ps(lanes(n), p);
}
inline void store_first(float* p, uint64_t n, F x) {
  _mm512_mask_storeu_ps(p, lanes(n), x);
}

inline F fma(F a, F b, F c) {
  return _mm512_fmadd_ps(a, b, c);
}
inline F times_power_of_two(F x, F n) {  // n is whole
  return _mm512_scalef_ps(x, n);
}
inline F times_normal_power_of_two(F x, F n) {  // n is whole, from -126 to 127
  return _mm512_scalef_ps(x, n);
}
inline F larger(F a, F b) {
  return _mm512_max_ps(a, b);
}  // a > b ? a : b
inline F smaller(F a, F b) {
  return _mm512_min_ps(a, b);
}  // a < b ? a : b
inline Mask less(F a, F b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
inline Mask not_less(F a, F b) {  // true for NaN
  return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ);
}
inline F only(Mask mask, F x) {  // 0 elsewhere
  return _mm512_maskz_mov_ps(mask, x);
}
inline Mask is_nan(F x) {
  return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
}
inline Mask lanes_between(uint32_t first, uint32_t begin, uint32_t end) {  // begin <= first + lane < end
  const I lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const I at = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(first)), lane);
  const Mask from = _mm512_cmpge_epi32_mask(at, _mm512_set1_epi32(static_cast<int>(begin)));
  return _mm512_mask_cmplt_epi32_mask(from, at, _mm512_set1_epi32(static_cast<int>(end)));
}
inline F choose(Mask mask, F yes, F no) {
  return _mm512_mask_blend_ps(mask, no, yes);
}

inline I bits(F x) {
  return _mm512_castps_si512(x);
}
inline F from_bits(I x) {
  return _mm512_castsi512_ps(x);
}
inline I splat_i(uint32_t x) {
  return _mm512_set1_epi32(static_cast<int>(x));
}
inline I add_i(I a, I b) {
  return _mm512_add_epi32(a, b);
}
inline I xor_i(I a, I b) {
  return _mm512_xor_si512(a, b);
}
inline I sub_i(I a, I b) {
  return _mm512_sub_epi32(a, b);
}
inline I and_i(I a, I b) {
  return _mm512_and_si512(a, b);
}
inline I or_i(I a, I b) {
  return _mm512_or_si512(a, b);
}
template <int N>
inline I shift_left(I x) {
  return _mm512_slli_epi32(x, N);
}
template <int N>
inline I shift_right(I x) {
  return _mm512_srli_epi32(x, N);
}
template <int N>
inline I shift_right_signed(I x) {
  return _mm512_srai_epi32(x, N);
}
inline I shift_left_by(I x, uint32_t count) {
  return _mm512_sll_epi32(x, _mm_cvtsi32_si128(static_cast<int>(count)));
}
inline I load_dwords(const uint8_t* p) {
  return _mm512_loadu_si512(p);
}

// 16-bit elements in memory, widened to a dword or to float, and back.
inline I load_u16(const uint8_t* p) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline F load_f16(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline void store_f16(uint8_t* p, F x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
inline void store_u16(uint8_t* p, I x) {  // x < 65536
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x));
}
inline F round_f16(F x) {
  return _mm512_cvtph_ps(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

// Integers of 8 and 16 bits, four or two to a dword.
inline I splat_dword(const void* p) {
  int x;
  __builtin_memcpy(&x, p, sizeof x);
  return _mm512_set1_epi32(x);
}
inline I splat_qword(const void* p) {
  long long x;
  __builtin_memcpy(&x, p, sizeof x);
  return _mm512_set1_epi64(x);
}
inline I splat_table(const uint8_t* sixteen) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(sixteen)));
}
inline void store_dwords(void* p, I x) {
  _mm512_storeu_si512(p, x);
}
inline I load_u8(const uint8_t* p) {  // widened to dwords
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline F load_i8(const uint8_t* p) {  // signed, as floats
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline F gather(const float* table, I index) {
  return _mm512_i32gather_ps(index, table, 4);
}
inline F to_float(I x) {
  return _mm512_cvtepi32_ps(x);
}
inline I to_int(F x) {  // to nearest, ties to even
  return _mm512_cvtps_epi32(x);
}
inline I larger_i(I a, I b) {
  return _mm512_max_epi32(a, b);
}
inline I multiply_pairs16(I a, I b) {  // int16: a0*b0 + a1*b1 to each dword
  return _mm512_madd_epi16(a, b);
}
// int8 times int8, none of them -128, four products to each dword.
inline I multiply_quads8(I w, I x) {
  const I signed_x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x);
  const I pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(w), signed_x);
  return _mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}
inline I multiply_bytes(I w, I x) {  // unsigned w, signed x: pairs of products to each word
  return _mm512_maddubs_epi16(w, x);
}
inline I add_words(I a, I b) {
  return _mm512_add_epi16(a, b);
}
inline I shuffle_bytes(I table, I index) {
  return _mm512_shuffle_epi8(table, index);
}
inline I high_nibbles(I x) {
  return _mm512_and_si512(_mm512_srli_epi16(x, 4), _mm512_set1_epi8(15));
}
inline I low_nibbles(I x) {
  return _mm512_and_si512(x, _mm512_set1_epi8(15));
}
inline I interleave_low8(I a, I b) {  // within each 16 bytes
  return _mm512_unpacklo_epi8(a, b);
}
inline I interleave_high8(I a, I b) {
  return _mm512_unpackhi_epi8(a, b);
}
inline I even_dwords(I a, I b) {  // within each 16 bytes: a0 a2 b0 b2
  return _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0x88));
}
inline I odd_dwords(I a, I b) {
  return _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0xdd));
}
inline void store_i16(int16_t* p, I x) {  // x fits
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x));
}
inline void store_i8(int8_t* p, I x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x));
}
inline Mask at_least(F a, F b) {  // a >= b, false for NaN
  return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
}

inline uint32_t lane_bits(Mask mask) {
  return mask;
}
inline float sqrt_of(float x) {
  return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
}

inline float largest(F x) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}

// The 16 partial sums of a row reduction, lane i % 16.
constexpr uint32_t kPartialVectors = 1;
inline float total(const F* partials) {
  const __m256 eight = _mm512_castps512_ps256(partials[0]) + _mm512_extractf32x8_ps(partials[0], 1);
  __m128 four = _mm256_castps256_ps128(eight) + _mm256_extractf128_ps(eight, 1);
  four = four + _mm_movehl_ps(four, four);
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}

// The even and the odd ones of 32 floats, and back.
inline void apart(const float* p, F& even, F& odd) {
  const I first = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const F a = load(p), b = load(p + kWidth);
  even = _mm512_permutex2var_ps(a, first, b);
  odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(first, _mm512_set1_epi32(1)), b);
}
inline void together(float* p, F even, F odd) {
  const I low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  store(p, _mm512_permutex2var_ps(even, low, odd));
  store(p + kWidth, _mm512_permutex2var_ps(even, _mm512_add_epi32(low, _mm512_set1_epi32(8)), odd));
}

}  // namespace
}  // namespace rhapsode::kernels

// Written in terms of the vector above.
#include "kernels/isa/vec_avx512_asm.h"
#include "kernels/isa/vec_avx512_machine.h"
#include "kernels/isa/vec_avx512_map.h"
