// Probes of the machine with portable code: what the reference set itself can reach.
#include <cmath>
#include <cstring>

#include "kernels/reference.h"

namespace rhapsode::kernels::reference {

uint32_t probe_read(const void* a, const void* b, uint64_t bytes) {
  uint64_t found[4] = {};
  for (const void* stream : {a, b}) {
    if (stream == nullptr) continue;
    for (uint64_t at = 0; at < bytes; at += sizeof found) {
      uint64_t words[4];
      std::memcpy(words, static_cast<const std::byte*>(stream) + at, sizeof words);
      for (int i = 0; i < 4; ++i) found[i] |= words[i];
    }
  }
  const uint64_t all = found[0] | found[1] | found[2] | found[3];
  return static_cast<uint32_t>(all) | static_cast<uint32_t>(all >> 32);
}

namespace {

// Eight chains of sum = sum * factor + 1 in numbers of type T.
template <class T>
uint64_t chains(uint64_t rounds) {
  T sums[8] = {};
  volatile T source = 2;
  const T factor = source;
  for (uint64_t round = 0; round < rounds; ++round)
    for (T& sum : sums) sum = sum * factor + 1;
  for (const T sum : sums) source = sum;
  return rounds * 8 * 2;
}

}  // namespace

uint64_t probe_fma(uint64_t rounds) {
  float sums[8] = {};
  volatile float factor = 0.5f;
  const float half = factor;
  for (uint64_t round = 0; round < rounds; ++round)
    for (float& sum : sums) sum = std::fma(sum, half, 1.0f);
  for (float sum : sums) factor = sum;
  return rounds * 8 * 2;
}

// Portable code has one integer multiply-add.
uint64_t probe_int16(uint64_t rounds) {
  return chains<uint32_t>(rounds);
}
uint64_t probe_int8(uint64_t rounds) {
  return chains<uint32_t>(rounds);
}
uint64_t probe_int8_words(uint64_t rounds) {
  return chains<uint32_t>(rounds);
}

}  // namespace rhapsode::kernels::reference
