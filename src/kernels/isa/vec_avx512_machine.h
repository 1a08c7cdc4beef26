// What the AVX-512 sets do for the sake of machines: prefetches and register tiles. Included by vec_avx512.h
// alone.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/isa/vec_prefetch.h"

namespace rhapsode::kernels {
namespace {

// Zen 5 needs 2 KiB of software prefetch to reach its bandwidth (57-64 against 54-56 GB/s with two threads).
constexpr uint32_t kProbeAhead = 2048;
constexpr Access kUsualAccess{.streamed = 3072, .unpacked = 6144};

// Of attention: so many rows read the cache as it lies; more share a piece that is widened once.
constexpr uint32_t kDirectRows = 8;
// Tokens that share a look-up of 4-bit weights.
constexpr uint32_t kFewTokens = 8;
// Register tile: 12 tokens by all 32 rows of a panel: 24 accumulators of the 32 registers.
constexpr uint32_t kGemmTokens = 12;
constexpr uint32_t kTileRows = kGemmTokens;
constexpr uint32_t tile_vectors(uint32_t) {
  return 2;
}
// Rows of a tile whose tokens the multiply-add broadcasts from memory itself. That saves an instruction a
// row, which counts where another thread shares the core (12 rows by 2 vectors on an Intel Xeon: 82 -> 89 %
// of the peak), and costs a load for each further vector: with every third row two loads a cycle suffice for
// two multiply-adds.
constexpr bool broadcasts_itself(uint32_t row) {
  return row % 3 == 1;
}

}  // namespace
}  // namespace rhapsode::kernels
