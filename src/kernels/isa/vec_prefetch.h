// Asking memory for what will be read soon. Included by vec_avx2_machine.h and vec_avx512_machine.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/access.h"

namespace rhapsode::kernels {
namespace {

// Written out, since GCC takes a function that does nothing but prefetch for one that does nothing, and drops
// calls of it.
inline void prefetch_line(const uint8_t* p) {
  asm volatile("prefetcht0 %0" : : "m"(*p));
}

// A prefetch of the line that is about to be read would still disturb the machine's own: 0 asks for nothing.
inline void prefetch_at(const uint8_t* p, uint32_t distance) {
  if (distance != 0) prefetch_line(p + distance);
}
inline void prefetch_streamed(const uint8_t* p) {
  prefetch_at(p, access.streamed);
}
inline void prefetch_unpacked(const uint8_t* p) {
  prefetch_at(p, access.unpacked);
}

// Of attention to few rows, whose cache comes in pieces of some pages: into the second cache.
inline void prefetch_beside(const uint8_t* p) {
  asm volatile("prefetcht1 %0" : : "m"(*p));
}

}  // namespace
}  // namespace rhapsode::kernels
