// What every device may hold: what the machine has (or the virtual one that the user names), what max_memory
// and max_gpu_memory leave of it, and whether anything may spill onto it.
#pragma once

#include <vector>

#include "config/machine.h"
#include "plan/infer_map.h"
#include "plan/placement.h"

namespace rhapsode::plan {

// Something that the config asked for and that is done otherwise.
struct Downgrade {
  std::string what, from, to, why;
};

struct MachineMemory {
  std::optional<config::Machine> machine;  // virtual; absent: this one, without GPUs
  uint64_t available_bytes = 0;            // of this machine's RAM
  uint64_t process_bytes = 0;              // taken already
  uint64_t choice_bytes = 0;               // that it will take besides
};

struct MemoryLimits {
  std::vector<DeviceLimit>
      devices;              // GPUs, cpu, disk: the machine's sizes, cut to the user's where these count all
  Budgets budgets;          // the same for `accounting: weights`: the user's, or the machine's
  bool user_given = false;  // budgets are the user's
  std::vector<Downgrade> notes;  // limits without effect
};

// full: the user's limits hold everything, so they cut the devices; else they hold weights alone.
MemoryLimits memory_limits(const config::ModelEntry& entry, const MachineMemory& memory, bool full);

}  // namespace rhapsode::plan
