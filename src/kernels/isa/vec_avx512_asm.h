// Instructions of the AVX-512 sets that are written as such, because compilers place their registers badly.
// Included by vec_avx512.h alone; tests that emulate the instructions replace this file.
#pragma once

#include <immintrin.h>

namespace rhapsode::kernels {
namespace {

// Keeps a value in a register here, so that a probe's loop is not folded away.
inline void pin(F& x) {
  asm volatile("" : "+v"(x));
}
inline void pin(I& x) {
  asm volatile("" : "+v"(x));
}

// sum + x, in the register that holds sum, by value: GCC keeps an array in memory whose elements an asm
// names, and where only a register is asked for it moves every sum once more.
inline I added(I sum, I x) {
  asm volatile("vpaddd %1, %0, %0" : "+v"(sum) : "v"(x));
  return sum;
}
inline I added_words(I sum, I x) {
  asm volatile("vpaddw %1, %0, %0" : "+v"(sum) : "v"(x));
  return sum;
}
// Holds a register up to here: GCC would otherwise move a sum into it as soon as it is free.
inline void still_used(F x) {
  asm volatile("" : : "v"(x));
}
inline F fma_in_place(F sum, F a, F b) {
  asm volatile("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
}
// The same with one value for all lanes, broadcast by the multiply-add.
inline F fma_in_place(F sum, F a, const float* b) {
  asm volatile("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(a), "m"(*b));
  return sum;
}
inline I add_pairs16(I sum, I a, I b) {
#if defined(__AVX512VNNI__)
  asm volatile("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
#else
  return added(sum, multiply_pairs16(a, b));
#endif
}
// The same with a pair of words for all lanes, broadcast by the multiply-add: beside look-ups and shifts an
// instruction of its own costs (a line of codes 6.3 instead of 5.6 cycles on Zen 4).
inline I add_pairs16(I sum, I a, const int16_t* pair) {
#if defined(__AVX512VNNI__)
  struct Pair {
    int16_t words[2];
  };
  asm volatile("vpdpwssd %2%{1to16%}, %1, %0"
               : "+v"(sum)
               : "v"(a), "m"(*reinterpret_cast<const Pair*>(pair)));
  return sum;
#else
  return add_pairs16(sum, a, splat_dword(pair));
#endif
}
#if defined(__AVX512VNNI__)
// Adds four products to each dword, in the register that holds sum (see added).
inline I dot_bytes(I sum, I unsigned_bytes, I signed_bytes) {
  asm volatile("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(signed_bytes));
  return sum;
}
inline I dot_bytes(I sum, I unsigned_bytes, const int8_t* signed_quad) {
  struct Quad {
    int8_t bytes[4];
  };
  asm volatile("vpdpbusd %2%{1to16%}, %1, %0"
               : "+v"(sum)
               : "v"(unsigned_bytes), "m"(*reinterpret_cast<const Quad*>(signed_quad)));
  return sum;
}
#endif
// Four products of a byte of 7 bits and a signed one to each dword.
inline I add_quads8(I sum, I small_bytes, I signed_bytes) {
#if defined(__AVX512VNNI__)
  return dot_bytes(sum, small_bytes, signed_bytes);
#else
  return added(sum, multiply_pairs16(multiply_bytes(small_bytes, signed_bytes), splat_i(0x00010001u)));
#endif
}
inline I add_quads8(I sum, I small_bytes, const int8_t* signed_quad) {
#if defined(__AVX512VNNI__)
  return dot_bytes(sum, small_bytes, signed_quad);
#else
  return add_quads8(sum, small_bytes, splat_dword(signed_quad));
#endif
}
#if defined(__AVX512BF16__)
// Rounded to bf16, to nearest and ties to even: the words of `later`, then those of `earlier`.
inline I bf16_words(F earlier, F later) {
  I words;
  asm("vcvtne2ps2bf16 %2, %1, %0" : "=v"(words) : "v"(earlier), "v"(later));
  return words;
}
// The next three are of AVX512-VBMI. Each byte of 64 that is named.
inline I looked_up_bytes(I table, I index) {
  I bytes;
  asm("vpermb %1, %2, %0" : "=v"(bytes) : "v"(table), "v"(index));
  return bytes;
}
// Each byte of 128 that the lower seven bits of an index name.
inline I looked_up_bytes(I first, I second, I index) {
  asm("vpermi2b %2, %1, %0" : "+v"(index) : "v"(first), "v"(second));
  return index;
}
// Each byte: eight bits of its qword from the one on that the same byte of `places` names.
inline I shifted_bytes(I qwords, I places) {
  I bytes;
  asm("vpmultishiftqb %1, %2, %0" : "=v"(bytes) : "v"(qwords), "v"(places));
  return bytes;
}
// Adds two products to each float, that of the upper halves first.
inline F dot_bf16(F sum, I a, I b) {
  asm volatile("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
}
inline F dot_bf16(F sum, I a, const uint32_t* pair) {
  asm volatile("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(a), "m"(*pair));
  return sum;
}
#endif

}  // namespace
}  // namespace rhapsode::kernels
