// What the AVX-512 set does for the sake of machines and compilers: prefetches, register tiles, sums that
// stay in their registers. Included by vec_avx512.h alone.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/isa/vec_prefetch.h"

namespace rhapsode::kernels {
namespace {

// Zen 5 needs 2 KiB of software prefetch to reach its bandwidth (57-64 against 54-56 GB/s with two threads).
constexpr uint32_t kProbeAhead = 2048;
constexpr Access kUsualAccess{.streamed = 2048, .unpacked = 2048};

// Register tile: 12 tokens by all 32 rows of a panel: 24 accumulators of the 32 registers.
constexpr uint32_t kGemmTokens = 12;
constexpr uint32_t tile_vectors(uint32_t) {
  return 2;
}

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
inline I add_pairs16(I sum, I a, I b) {
#if defined(__AVX512VNNI__)
  asm volatile("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
#else
  return added(sum, multiply_pairs16(a, b));
#endif
}

}  // namespace
}  // namespace rhapsode::kernels
