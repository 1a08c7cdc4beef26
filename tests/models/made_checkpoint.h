// A small checkpoint of a given config.json with seeded weights, for what the golden fixtures' odd shapes
// cannot reach: blocks of 64 columns, panels side by side.
#pragma once

#include <string>

namespace rhapsode::testing {

// Writes config.json and model.safetensors (bfloat16) into an empty directory. Linears keep a signal of size
// one, norms lie around 1.
void make_checkpoint(const std::string& directory, const std::string& config_json, uint64_t seed);

}  // namespace rhapsode::testing
