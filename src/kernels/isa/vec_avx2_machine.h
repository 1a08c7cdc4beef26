// What the AVX2 set does for the sake of machines and compilers: prefetches, register tiles, sums that stay
// in their registers. Included by vec_avx2.h alone.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/isa/vec_prefetch.h"

namespace rhapsode::kernels {
namespace {

// Zen 3 reads fastest without software prefetch at every distance tried; a kernel that also computes gains by
// it, most of a page ahead where there is much to compute, since the machine's own prefetch stops at its end.
constexpr uint32_t kProbeAhead = 0;
constexpr Access kUsualAccess{.streamed = 1024, .unpacked = 3072};

// Of attention: so many rows read the cache as it lies; more share a piece that is widened once.
constexpr uint32_t kDirectRows = 4;
// Tokens that share a look-up of 4-bit weights.
constexpr uint32_t kFewTokens = 4;
// Register tile: 6 tokens by 16 of the 32 rows; few tokens take all 32 rows at once to have enough chains in
// flight.
constexpr uint32_t kGemmTokens = 6;
constexpr uint32_t kTileRows = 3;  // of floats: by all 32 rows
constexpr uint32_t tile_vectors(uint32_t tokens) {
  return tokens <= 3 ? 4 : 2;
}
// No multiply-add broadcasts a token's value by itself.
constexpr bool broadcasts_itself(uint32_t) {
  return false;
}

// Keeps a value in a register here, so that a probe's loop is not folded away.
inline void pin(F& x) {
  asm volatile("" : "+x"(x));
}
inline void pin(I& x) {
  asm volatile("" : "+x"(x));
}

// sum + x, in the register that holds sum, by value: GCC keeps an array in memory whose elements an asm
// names, and where only a register is asked for it moves every sum once more.
inline I added(I sum, I x) {
  asm volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(x));
  return sum;
}
inline I added_words(I sum, I x) {
  asm volatile("vpaddw %1, %0, %0" : "+x"(sum) : "x"(x));
  return sum;
}
// Holds a register up to here: GCC would otherwise move a sum into it as soon as it is free.
inline void still_used(F x) {
  asm volatile("" : : "x"(x));
}
inline F fma_in_place(F sum, F a, F b) {
  asm volatile("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
  return sum;
}
inline I add_pairs16(I sum, I a, I b) {
  return added(sum, multiply_pairs16(a, b));
}
// Four products of a byte and a signed one to each dword, where two of them fit a word. The ones stay in
// memory: twelve sums, two vectors of weights, a code and a product fill the registers.
inline I add_quads8(I sum, I bytes, I signed_bytes) {
  alignas(32) static constexpr uint32_t kOnes[8] = {0x00010001u, 0x00010001u, 0x00010001u, 0x00010001u,
                                                    0x00010001u, 0x00010001u, 0x00010001u, 0x00010001u};
  I pairs = multiply_bytes(bytes, signed_bytes);
  asm("vpmaddwd %1, %0, %0" : "+x"(pairs) : "m"(kOnes));
  return added(sum, pairs);
}

}  // namespace
}  // namespace rhapsode::kernels
