// What the machine has: memory that this process may use (RAM, cgroup limits, its own use), cores, CPU name.
#pragma once

#include <cstdint>
#include <string>

namespace rhapsode::devices {

struct Inventory {
  std::string cpu_name;
  uint32_t cpu_signature = 0;  // family, model and stepping as CPUID gives them; 0 where there is none
  uint32_t cores = 1;          // usable by this process
  uint64_t ram_bytes = 0;      // of the machine
  uint64_t available_bytes =
      0;  // that can still be taken: the smaller of MemAvailable and what the cgroup leaves
  uint64_t cgroup_limit_bytes = 0;  // 0 = none
};

Inventory read_inventory();

// The tightest memory limit from this process's control group up to the root, in either version's layout, and
// what of it is taken for good: page cache that nothing maps is given back when memory is short. limit 0:
// none below `ram_bytes`. The files are /proc/self/cgroup and /sys/fs/cgroup, or stand-ins of a test.
struct CgroupMemory {
  uint64_t limit_bytes = 0;
  uint64_t taken_bytes = 0;
  // What may still be taken. The kernel's own books count too (page tables, stacks, pages of a file while it
  // is read): a small share of the limit is left to them.
  uint64_t available_bytes() const;
};
CgroupMemory cgroup_memory(const std::string& membership_file, const std::string& mount, uint64_t ram_bytes);

// Memory that can be taken now, swap included.
uint64_t memory_within_reach();

// Resident bytes of this process now, and its peak.
uint64_t resident_bytes();
uint64_t peak_resident_bytes();

}  // namespace rhapsode::devices
