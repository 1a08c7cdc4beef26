// Whether the head is the embedding: config.json says it, and the checkpoint has the last word.
#pragma once

#include "arch/registry.h"

namespace rhapsode::arch {

// As transformers: two matrices that differ are never one, whatever config.json says. Reads both.
void settle_tying(Architecture& architecture, const Checkpoint& checkpoint);
// Of a tied pair the checkpoint may hold either.
void find_tied_matrix(const Spec& spec, const Checkpoint& checkpoint, const std::string& head_tensor,
                      ModelTensors& names);
// The head's own matrix, were it not tied.
std::string untied_head(const Architecture& architecture, const Checkpoint& checkpoint);

}  // namespace rhapsode::arch
