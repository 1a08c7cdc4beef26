// From config.json to a Spec and the names of its tensors.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "arch/config_json.h"
#include "arch/spec.h"
#include "checkpoint/checkpoint.h"

namespace rhapsode::arch {

// Tells whether the checkpoint has a tensor: some families have two namings.
using HasTensor = std::function<bool(const std::string& name)>;

struct Family {
  std::string_view model_type;
  Spec (*spec)(const ConfigJson& config);
  ModelTensors (*tensors)(const Spec& spec, const HasTensor& has_tensor);
};

std::span<const Family> families();

struct Architecture {
  Spec spec;
  const Family* family = nullptr;
  std::string file;  // the config.json read
};

// Reads directory/config.json. Unknown model_type, activation or rope type: Error(unsupported) that names the
// value and what is accepted. Values out of range or of a wrong type: Error(integrity) with the JSON pointer.
Architecture read_architecture(const std::string& directory);
// The same from text; the fuzz target.
Architecture parse_architecture(std::string_view config_json, const std::string& file);

// Every tensor that a role asks for exists with the right shape and a float dtype, and every tensor of the
// checkpoint is used or ignored; else Error(integrity) naming the tensor, what was found and expected. The
// Spec's tie_word_embeddings becomes what the checkpoint allows.
ModelTensors bind_tensors(Architecture& architecture, const Checkpoint& checkpoint);

}  // namespace rhapsode::arch
