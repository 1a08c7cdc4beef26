// Probes of the machine: a plain read and plain multiply-adds, with nothing around them. Needs a vec_<isa>.h
// before it.
#pragma once

#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

template <uint32_t Streams>
inline uint32_t read_streams(const uint8_t* const* streams, uint64_t bytes) {
  constexpr uint64_t kVectorBytes = kWidth * 4;
  constexpr uint32_t kVectors =
      512 / kVectorBytes / 2;  // half of a step, so that two streams fit in registers
  I found[kVectors];
  for (I& vector : found) vector = splat_i(0);
  for (uint64_t at = 0; at < bytes; at += kVectors * kVectorBytes) {
    for (uint32_t s = 0; s < Streams; ++s) {
      for (uint64_t line = 0; line < kVectors * kVectorBytes; line += 64)
        prefetch_at(streams[s] + at + line, kProbeAhead);
      for (uint32_t v = 0; v < kVectors; ++v)
        found[v] = or_i(found[v], load_dwords(streams[s] + at + v * kVectorBytes));
    }
  }
  for (uint32_t v = 1; v < kVectors; ++v) found[0] = or_i(found[0], found[v]);
  float lanes_of[kWidth];
  store(lanes_of, from_bits(found[0]));
  uint32_t all = 0;
  for (float lane : lanes_of) all |= __builtin_bit_cast(uint32_t, lane);
  return all;
}

uint32_t probe_read(const void* a, const void* b, uint64_t bytes) {
  const uint8_t* streams[2] = {static_cast<const uint8_t*>(a), static_cast<const uint8_t*>(b)};
  return b == nullptr ? read_streams<1>(streams, bytes) : read_streams<2>(streams, bytes);
}

uint64_t probe_fma(uint64_t rounds) {
  constexpr uint32_t kChains =
      12;  // more than latency times throughput of any CPU that has these instructions
  F sums[kChains];
  for (F& sum : sums) sum = zero();
  F half = splat(0.5f), one = splat(1.0f);
  pin(half), pin(one);
  for (uint64_t round = 0; round < rounds; ++round)
    for (F& sum : sums) sum = fma(sum, half, one);
  for (F& sum : sums) pin(sum);
  return rounds * kChains * kWidth * 2;
}

// Eight chains of sum = step(sum, a, b), each step of kWidth * per_lane operations; named one by one, since a
// compiler may leave an array of them in memory.
template <class Step>
inline uint64_t integer_chains(uint64_t rounds, uint64_t per_lane, Step step) {
  I a = splat_i(0x01010101u), b = a;
  I s0 = splat_i(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
  const auto next = [&](I& sum) {
    pin(a);  // so that each product is formed anew
    sum = step(sum, a, b);
    pin(sum);
  };
  for (uint64_t round = 0; round < rounds; ++round)
    next(s0), next(s1), next(s2), next(s3), next(s4), next(s5), next(s6), next(s7);
  return rounds * 8 * kWidth * per_lane;
}

uint64_t probe_int16(uint64_t rounds) {
  return integer_chains(rounds, 4, [](I sum, I a, I b) { return add_i(sum, multiply_pairs16(a, b)); });
}
uint64_t probe_int8(uint64_t rounds) {
  I ones = splat_i(0x00010001u);
  pin(ones);
  return integer_chains(
      rounds, 8, [=](I sum, I a, I b) { return add_i(sum, multiply_pairs16(multiply_bytes(a, b), ones)); });
}
uint64_t probe_int8_words(uint64_t rounds) {
  return integer_chains(rounds, 8, [](I sum, I a, I b) { return add_words(sum, multiply_bytes(a, b)); });
}

}  // namespace
}  // namespace rhapsode::kernels
