// src/kernels/isa/vec_avx512_asm.h in terms of the vector alone, for CPUs without its instructions.
#pragma once

namespace rhapsode::kernels {
namespace {

inline void pin(F&) {}
inline void pin(I&) {}

inline I added(I sum, I x) {
  return add_i(sum, x);
}
inline I added_words(I sum, I x) {
  return add_words(sum, x);
}
inline I add_pairs16(I sum, I a, I b) {
  return add_i(sum, multiply_pairs16(a, b));
}
inline I dot_bytes(I sum, I unsigned_bytes, I signed_bytes) {
  return _mm512_dpbusd_epi32(sum, unsigned_bytes, signed_bytes);
}

}  // namespace
}  // namespace rhapsode::kernels
