#include "devices/inventory.h"

#include <sys/resource.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>

#include "base/thread_pool.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

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

uint32_t cpu_signature() {
#if defined(__x86_64__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0) return eax;
#endif
  return 0;
}

constexpr const char* kMembership = "/proc/self/cgroup";
constexpr const char* kMount = "/sys/fs/cgroup";

// Names of one version's files and of its counters of file pages, those of groups below included.
struct CgroupFiles {
  const char *limit, *used, *inactive, *active, *mapped;
};
constexpr CgroupFiles kFirstVersion = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                       "total_inactive_file", "total_active_file", "total_mapped_file"};
constexpr CgroupFiles kSecondVersion = {"memory.max", "memory.current", "inactive_file", "active_file",
                                        "file_mapped"};

uint64_t counter_in(const std::string& file, const std::string& key) {
  std::ifstream in(file);
  std::string name;
  for (uint64_t value = 0; in >> name >> value;)
    if (name == key) return value;
  return 0;
}

std::optional<CgroupMemory> memory_of(const std::string& directory, const CgroupFiles& files) {
  const std::optional<uint64_t> limit = number_in(directory + "/" + files.limit);
  const std::optional<uint64_t> used = number_in(directory + "/" + files.used);
  if (!limit || !used) return std::nullopt;
  const std::string stat = directory + "/memory.stat";
  const uint64_t cached = counter_in(stat, files.inactive) + counter_in(stat, files.active);
  const uint64_t given_back = cached - std::min(cached, counter_in(stat, files.mapped));
  return CgroupMemory{*limit, *used - std::min(*used, given_back)};
}

}  // namespace

uint64_t CgroupMemory::available_bytes() const {
  constexpr uint64_t kKernelShare = 256, kKernelBytes = 2 << 20;
  const uint64_t taken = taken_bytes + limit_bytes / kKernelShare + kKernelBytes;
  return limit_bytes - std::min(limit_bytes, taken);
}

CgroupMemory cgroup_memory(const std::string& membership_file, const std::string& mount, uint64_t ram_bytes) {
  CgroupMemory tightest;
  const auto consider = [&](const std::string& directory, const CgroupFiles& files) {
    const std::optional<CgroupMemory> found = memory_of(directory, files);
    if (!found || found->limit_bytes >= ram_bytes) return;
    if (tightest.limit_bytes == 0 || found->available_bytes() < tightest.available_bytes()) tightest = *found;
  };
  std::ifstream in(membership_file);
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    while (true) {
      if (controllers.empty()) consider(mount + path, kSecondVersion);
      if (controllers == "memory") consider(mount + "/memory" + path, kFirstVersion);
      if (path.empty() || path == "/") break;
      path.resize(path.rfind('/'));
    }
  }
  return tightest;
}

uint64_t memory_within_reach() {
  const SystemMemory memory = system_memory();
  uint64_t reach = proc_bytes("/proc/meminfo", "MemAvailable").value_or(memory.free) +
                   proc_bytes("/proc/meminfo", "SwapFree").value_or(0);
  const CgroupMemory cgroup = cgroup_memory(kMembership, kMount, memory.total);
  if (cgroup.limit_bytes > 0) reach = std::min(reach, cgroup.available_bytes());
  return reach;
}

Inventory read_inventory() {
  Inventory inventory;
  inventory.cpu_name = cpu_name();
  inventory.cpu_signature = cpu_signature();
  inventory.cores = usable_cores();
  const SystemMemory memory = system_memory();
  inventory.ram_bytes = proc_bytes("/proc/meminfo", "MemTotal").value_or(memory.total);
  inventory.available_bytes = proc_bytes("/proc/meminfo", "MemAvailable").value_or(memory.free);
  const CgroupMemory cgroup = cgroup_memory(kMembership, kMount, inventory.ram_bytes);
  if (cgroup.limit_bytes > 0) {
    inventory.cgroup_limit_bytes = cgroup.limit_bytes;
    inventory.available_bytes = std::min(inventory.available_bytes, cgroup.available_bytes());
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
