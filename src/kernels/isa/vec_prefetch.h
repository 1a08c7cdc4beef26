// Asking memory for what will be read soon. Included by vec_avx2_machine.h and vec_avx512_machine.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/access.h"

namespace rhapsode::kernels {
namespace {

// A prefetch of the line that is about to be read would still disturb the machine's own: 0 asks for nothing.
inline void prefetch_at(const uint8_t* p, uint32_t distance) {
  if (distance != 0) _mm_prefetch(reinterpret_cast<const char*>(p) + distance, _MM_HINT_T0);
}
inline void prefetch_streamed(const uint8_t* p) {
  prefetch_at(p, access.streamed);
}
inline void prefetch_unpacked(const uint8_t* p) {
  prefetch_at(p, access.unpacked);
}

// Of attention to few rows, whose cache comes in pieces of some pages: into the second cache.
inline void prefetch_beside(const uint8_t* p) {
  _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T1);
}

}  // namespace
}  // namespace rhapsode::kernels
