// Rotary tables: inverse frequencies per kind, cosines and sines per position. Frequencies are computed in
// fp32 as transformers does (modeling_rope_utils.py of 5.23); see docs for each kind's formula.
#pragma once

#include <cstdint>
#include <vector>

#include "arch/spec.h"

namespace rhapsode::model {

struct RopeFrequencies {
  std::vector<float> inv_freq;    // [rotary_dims / 2]
  float attention_factor = 1.0f;  // multiplies cos and sin
};

// `length`: largest position + 1 of the forward pass (of all so far, where the kind is dynamic). Kinds whose
// frequencies do not depend on it ignore it.
RopeFrequencies rope_frequencies(const arch::RopeTable& table, uint64_t length);
bool depends_on_length(const arch::RopeTable& table);

// cos and sin of one position, each [rotary_dims / 2], rounded to dtype.
void rope_row(const RopeFrequencies& frequencies, uint64_t position, Dtype dtype, float* cos, float* sin);

}  // namespace rhapsode::model
