// The seed of a request for which nobody gave one: another each time, as in transformers. Knows no sampler.
#pragma once

#include "config/config.h"
#include "generation/params.h"

namespace rhapsode::cli {

// Draws one where the request samples and the config names none; small enough to be typed again.
void draw_seed(const config::ModelEntry& entry, generation::Params& params);

}  // namespace rhapsode::cli
