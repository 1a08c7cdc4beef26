#include "devices/inventory.h"

#include <sys/resource.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>

#include "base/thread_pool.h"

namespace rhapsode::devices {
namespace {

// The value of "Key:   N kB" in a /proc file, in bytes.
std::optional<uint64_t> proc_bytes(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key + ":")) continue;
    uint64_t kib = 0;
    std::istringstream(line.substr(key.size() + 1)) >> kib;
    return kib * 1024;
  }
  return std::nullopt;
}

std::optional<uint64_t> number_in(const std::string& file) {
  std::ifstream in(file);
  uint64_t n = 0;
  if (in >> n) return n;
  return std::nullopt;  // missing, or "max"
}

// What the kernel says where /proc is not mounted: less exact, since reclaimable page cache does not count as
// free.
struct SystemMemory {
  uint64_t total = 0;
  uint64_t free = 0;
};

SystemMemory system_memory() {
  struct sysinfo info {};
  if (::sysinfo(&info) != 0) return {};
  return {uint64_t{info.totalram} * info.mem_unit, (uint64_t{info.freeram} + info.bufferram) * info.mem_unit};
}

// The peak that the kernel counts for this process.
uint64_t counted_peak_bytes() {
  struct rusage usage {};
  if (::getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown CPU";
}

struct CgroupMemory {
  uint64_t limit = 0;
  uint64_t used = 0;
};

// The tightest limit from this process's cgroup up to the root, in either version's layout.
CgroupMemory cgroup_memory(uint64_t ram_bytes) {
  CgroupMemory tightest;
  const auto consider = [&](const std::string& directory, const char* limit_name, const char* used_name) {
    const std::optional<uint64_t> limit = number_in(directory + "/" + limit_name);
    const std::optional<uint64_t> used = number_in(directory + "/" + used_name);
    if (!limit || !used || *limit >= ram_bytes) return;
    if (tightest.limit == 0 ||
        *limit - std::min(*limit, *used) < tightest.limit - std::min(tightest.limit, tightest.used))
      tightest = {*limit, *used};
  };
  std::ifstream in("/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    while (true) {
      if (controllers.empty()) consider("/sys/fs/cgroup" + path, "memory.max", "memory.current");
      if (controllers == "memory")
        consider("/sys/fs/cgroup/memory" + path, "memory.limit_in_bytes", "memory.usage_in_bytes");
      if (path.empty() || path == "/") break;
      path.resize(path.rfind('/'));
    }
  }
  return tightest;
}

}  // namespace

Inventory read_inventory() {
  Inventory inventory;
  inventory.cpu_name = cpu_name();
  inventory.cores = usable_cores();
  const SystemMemory memory = system_memory();
  inventory.ram_bytes = proc_bytes("/proc/meminfo", "MemTotal").value_or(memory.total);
  inventory.available_bytes = proc_bytes("/proc/meminfo", "MemAvailable").value_or(memory.free);
  const CgroupMemory cgroup = cgroup_memory(inventory.ram_bytes);
  if (cgroup.limit > 0) {
    inventory.cgroup_limit_bytes = cgroup.limit;
    inventory.available_bytes =
        std::min(inventory.available_bytes, cgroup.limit - std::min(cgroup.limit, cgroup.used));
  }
  return inventory;
}

uint64_t resident_bytes() {
  return proc_bytes("/proc/self/status", "VmRSS").value_or(counted_peak_bytes());
}
uint64_t peak_resident_bytes() {
  return proc_bytes("/proc/self/status", "VmHWM").value_or(counted_peak_bytes());
}

}  // namespace rhapsode::devices
