// Refuses parameters that no request can run with. Owns the ranges; knows nothing of files, so its errors
// name the key alone: whoever read the key adds the place.
#pragma once

#include <cstdint>

#include "generation/params.h"

namespace rhapsode::generation {

// Throws Error(config) for a parameter out of range or an id outside the vocabulary, Error(usage) for an
// empty prompt. End-of-sequence ids beyond the vocabulary are allowed (they can never be generated) unless a
// rule writes to them.
void validate(const Params& params, uint64_t prompt_tokens, uint64_t vocab_size);

}  // namespace rhapsode::generation
