// Which files of a repository we want: config, tokenizer, safetensors; never code, never pickles.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "hub/answers.h"

namespace rhapsode::hub {

constexpr const char* kSingleWeights = "model.safetensors";
constexpr const char* kWeightsIndex = "model.safetensors.index.json";

// The small ones that the tree has. Throws where there is no config.json, or no safetensors weights
// (unsupported, with what is there instead).
std::vector<std::string> small_files(const std::string& id, const Tree& tree);
std::vector<std::string> wanted_small_files(const Tree& tree);  // the same, nothing demanded
// Looked for by everyone and absent here.
std::vector<std::string> absent_files(const Tree& tree);
// The shards that an index names. Throws integrity.
std::set<std::string> shards_of_index(const std::string& text, const std::string& file);
// Of the tree: model.safetensors, or the shards that `index_text` names.
std::vector<std::string> weight_files(const Tree& tree, const std::string& index_text,
                                      const std::string& index_file);

}  // namespace rhapsode::hub
