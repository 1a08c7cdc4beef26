// Which layers look at a window only: layer_types of 5.x config files, else the family's own rule.
#pragma once

#include <vector>

#include "arch/config_json.h"

namespace rhapsode::arch {

// True for each layer that is "sliding_attention"; `fallback` where config.json has no layer_types.
std::vector<bool> sliding_layers(const ConfigJson& config, std::vector<bool> fallback, uint64_t layers);
// Sets the window of the sliding layers.
void apply_windows(const ConfigJson& config, std::vector<bool> fallback, uint32_t window, Spec& spec);

}  // namespace rhapsode::arch
