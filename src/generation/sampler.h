// Random numbers and the draw of one token. Owns the seed contract: the number for a position depends on
// seed, stream and position alone (counter-based Philox 4x32-10), never on what else runs, how many threads
// there are or which tokens were drafted. The same seed gives the same tokens on every platform and version.
// Knows no rule that shapes scores.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "generation/candidates.h"

namespace rhapsode::generation {

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

class Draws {
 public:
  // `stream` tells the sequences of one request apart.
  Draws(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}
  // Uniform in [0, 1) with 53 bits.
  double at(uint64_t position) const;

 private:
  uint64_t seed_, stream_;
};

// Inverse of the cumulative distribution: the first index whose running sum of probabilities (in double, in
// order) exceeds uniform * total. Never one of probability 0. At least one must be positive.
size_t pick(std::span<const float> probabilities, double uniform);

}  // namespace rhapsode::generation
