// A device map that the user wrote, brought to whole units: every tensor is covered, no block is split, every
// device exists.
#pragma once

#include <vector>

#include "arch/spec.h"
#include "config/config.h"
#include "plan/memory_limits.h"
#include "plan/placement.h"

namespace rhapsode::plan {

// Home of each unit. Throws Error(config) for tensors that no key covers, Error(unsupported) for a block on
// two devices, Error(does_not_fit) for a device that the machine lacks. Keys that name nothing become notes.
std::vector<size_t> mapped_homes(const config::ModelEntry& entry, const arch::Spec& spec,
                                 const arch::ModelTensors& tensors, const PlacementProblem& problem,
                                 std::vector<Downgrade>& notes);

}  // namespace rhapsode::plan
