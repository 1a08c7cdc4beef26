// Which layers look at a window only: layer_types of 5.x config files, else the family's own rule.
#pragma once

#include <vector>

#include "arch/config_json.h"

namespace rhapsode::arch {

// True for each layer that is "sliding_attention"; `fallback` where config.json has no layer_types.
std::vector<bool> sliding_layers(const ConfigJson& config, std::vector<bool> fallback, uint64_t layers);
// sliding_window: `fallback` where there is no such key, 0 where it is null.
uint32_t read_window(const ConfigJson& config, uint32_t fallback);
// Sets the window of the sliding layers; without a window there may be none.
void apply_windows(const ConfigJson& config, std::vector<bool> fallback, uint32_t window, Spec& spec);

}  // namespace rhapsode::arch
