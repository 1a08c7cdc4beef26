// transformers' placement (5.23, infer_auto_device_map): fills devices in their order, keeps room on the
// first GPU and on the CPU for the largest block still to come, never splits a block, keeps tied weights
// together and never goes back to a device. A pure function of a module tree and budgets.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "config/config.h"
#include "plan/module_tree.h"

namespace rhapsode::plan {

// Bytes a device may take, in the order GPUs by index, cpu, disk; fractions come from transformers' factors.
using Budgets = std::map<config::DeviceName, double>;
// From module name ("" = everything) to device; a key covers all that lies under it.
using ModuleMap = std::map<std::string, config::DeviceName>;

// Everything that fits nowhere lands on disk, listed or not, as there.
ModuleMap infer_map(const ModuleTree& tree, const Budgets& budgets);

// Collapses what lies on one device to the shortest prefix, as transformers prints its maps.
ModuleMap cleaned_map(ModuleMap map);

// The device of a module or parameter: of the longest key that equals it or is a dotted prefix, else of "".
// nullptr where no key covers it.
const config::DeviceName* device_of(const ModuleMap& map, const std::string& name);

}  // namespace rhapsode::plan
