// src/kernels/isa/vec_avx512_asm.h in terms of the vector alone, for CPUs without its instructions.
#pragma once

namespace rhapsode::kernels {
namespace {

inline void pin(F&) {}
inline void pin(I&) {}
inline void still_used(F) {}

inline I added(I sum, I x) {
  return add_i(sum, x);
}
inline I added_words(I sum, I x) {
  return add_words(sum, x);
}
inline F fma_in_place(F sum, F a, F b) {
  return fma(a, b, sum);
}
inline F fma_in_place(F sum, F a, const float* b) {
  return fma_in_place(sum, a, splat_from(b));
}
inline I add_pairs16(I sum, I a, I b) {
  return add_i(sum, multiply_pairs16(a, b));
}
inline I add_pairs16(I sum, I a, const int16_t* pair) {
  return add_pairs16(sum, a, splat_dword(pair));
}
inline I dot_bytes(I sum, I unsigned_bytes, I signed_bytes) {
  return _mm512_dpbusd_epi32(sum, unsigned_bytes, signed_bytes);
}
inline I dot_bytes(I sum, I unsigned_bytes, const int8_t* signed_quad) {
  return dot_bytes(sum, unsigned_bytes, splat_dword(signed_quad));
}
inline I add_quads8(I sum, I small_bytes, I signed_bytes) {
  return dot_bytes(sum, small_bytes, signed_bytes);
}
inline I add_quads8(I sum, I small_bytes, const int8_t* signed_quad) {
  return dot_bytes(sum, small_bytes, signed_quad);
}

// The instruction takes numbers below 2^-126 for zero, and makes none.
inline F without_subnormals(F x) {
  const I magnitude = and_i(bits(x), splat_i(0x7fffffffu));
  const Mask tiny = less(from_bits(magnitude), splat(0x1p-126f));
  return choose(tiny, from_bits(sub_i(bits(x), magnitude)), x);
}
inline I bf16_words(F earlier, F later) {
  const auto words = [](F x) {  // in the upper halves
    const I all = bits(without_subnormals(x)), odd = and_i(shift_right<16>(all), splat_i(1));
    const I rounded = add_i(add_i(all, splat_i(0x7fff)), odd);
    return choose(is_nan(x), from_bits(or_i(all, splat_i(0x400000))), from_bits(rounded));
  };
  float both[2][kWidth];
  uint16_t out[2 * kWidth];
  store(both[0], words(later));
  store(both[1], words(earlier));
  for (uint32_t i = 0; i < 2 * kWidth; ++i)
    out[i] = static_cast<uint16_t>(__builtin_bit_cast(uint32_t, both[i / kWidth][i % kWidth]) >> 16);
  return load_dwords(reinterpret_cast<const uint8_t*>(out));
}
inline I looked_up_bytes(I table, I index) {
  uint8_t from[64], at[64], out[64];
  store_dwords(from, table);
  store_dwords(at, index);
  for (uint32_t i = 0; i < 64; ++i) out[i] = from[at[i] % 64];
  return load_dwords(out);
}
inline I looked_up_bytes(I first, I second, I index) {
  uint8_t from[128], at[64], out[64];
  store_dwords(from, first);
  store_dwords(from + 64, second);
  store_dwords(at, index);
  for (uint32_t i = 0; i < 64; ++i) out[i] = from[at[i] % 128];
  return load_dwords(out);
}
inline I shifted_bytes(I qwords, I places) {
  uint64_t from[8];
  uint8_t at[64], out[64];
  store_dwords(from, qwords);
  store_dwords(at, places);
  for (uint32_t i = 0; i < 64; ++i) {
    const uint32_t shift = at[i] % 64;
    const uint64_t qword = from[i / 8];
    out[i] = static_cast<uint8_t>(shift == 0 ? qword : qword >> shift | qword << (64 - shift));
  }
  return load_dwords(out);
}
inline F dot_bf16(F sum, I a, I b) {
  const auto upper = [](I x) { return without_subnormals(from_bits(and_i(x, splat_i(0xffff0000u)))); };
  const auto lower = [](I x) { return without_subnormals(from_bits(shift_left<16>(x))); };
  sum = without_subnormals(fma(upper(a), upper(b), without_subnormals(sum)));
  return without_subnormals(fma(lower(a), lower(b), sum));
}
inline F dot_bf16(F sum, I a, const uint32_t* pair) {
  return dot_bf16(sum, a, splat_i(*pair));
}

}  // namespace
}  // namespace rhapsode::kernels
