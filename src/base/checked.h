// Arithmetic on sizes that come from files: wraps are caught, never computed with.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace rhapsode {

inline std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  uint64_t r = 0;
  if (__builtin_mul_overflow(a, b, &r)) return std::nullopt;
  return r;
}

inline std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t r = 0;
  if (__builtin_add_overflow(a, b, &r)) return std::nullopt;
  return r;
}

// Product of all dims; nullopt where it does not fit in 64 bits. The product of no dims is 1 (a scalar).
inline std::optional<uint64_t> checked_product(std::span<const uint64_t> dims) {
  bool zero = false;
  for (uint64_t d : dims) zero = zero || d == 0;
  if (zero) return 0;
  uint64_t r = 1;
  for (uint64_t d : dims)
    if (__builtin_mul_overflow(r, d, &r)) return std::nullopt;
  return r;
}

inline uint64_t round_up(uint64_t n, uint64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

}  // namespace rhapsode
