// Matrices that the makers of golden records and the tests draw alike, so that none is stored.
#pragma once

#include <cstdint>
#include <vector>

namespace rhapsode {

// As `matrix` of tools/golden/make_quantized.py: sums of four numbers of a linear congruential generator.
inline std::vector<float> seeded_matrix(uint64_t seed, uint64_t count, float spread) {
  std::vector<float> values(count);
  uint64_t state = seed;
  for (float& value : values) {
    int64_t total = 0;
    for (int i = 0; i < 4; ++i) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      total += static_cast<int64_t>(state >> 40);
    }
    value = static_cast<float>(total - (int64_t{2} << 24)) / 16777216.0f * spread;
  }
  return values;
}

}  // namespace rhapsode
