// What the machine has: memory that this process may use (RAM, cgroup limits, its own use), cores, CPU name.
#pragma once

#include <cstdint>
#include <string>

namespace rhapsode::devices {

struct Inventory {
  std::string cpu_name;
  uint32_t cores = 1;      // usable by this process
  uint64_t ram_bytes = 0;  // of the machine
  uint64_t available_bytes =
      0;  // that can still be taken: the smaller of MemAvailable and what the cgroup leaves
  uint64_t cgroup_limit_bytes = 0;  // 0 = none
};

Inventory read_inventory();

// Resident bytes of this process now, and its peak.
uint64_t resident_bytes();
uint64_t peak_resident_bytes();

}  // namespace rhapsode::devices
