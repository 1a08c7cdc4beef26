// Arithmetic on one row of float32 scores: maximum, top k, softmax. Owns the order of summation and the
// exponential, so that the same scores give the same bits on every machine and C library. Knows no parameter
// and no token meaning. A row with a NaN is Error(runtime, "scores-nan"); a softmax without a finite maximum
// is Error(runtime, "no-distribution").
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "generation/candidates.h"

namespace rhapsode::generation {

// Lowest index of the largest score. One pass.
uint32_t argmax(std::span<const float> row);

// Elements of one block of block_maxima.
inline constexpr size_t kRowBlock = 64;
void block_maxima(std::span<const float> row, std::vector<float>& maxima);

struct TopKScratch {
  std::vector<float> maxima, ordered;
};
// Every score / temperature that is not below the k-th largest of them (ties all stay; k above the size keeps
// all), -inf left out. Divides only what it keeps.
void select_top_k(std::span<const float> row, size_t k, float temperature, TopKScratch& scratch,
                  Candidates& out);

// exp(x) for x <= 0; 0 below -87.
float exp_nonpositive(float x);

// softmax in float32 (sum in double). `out` may be the input.
void softmax(std::span<const float> row, std::span<float> out);
void log_softmax(std::span<float> row);

}  // namespace rhapsode::generation
