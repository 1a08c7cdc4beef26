// How many cores this process may use: the affinity mask, cut by the cpu quota of its control group (versions
// 1 and 2).
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/thread_pool.h"

namespace rhapsode {
namespace {

uint32_t affinity_cores() {
  for (size_t cpus = 1024; cpus <= (size_t{1} << 20); cpus *= 2) {
    std::vector<cpu_set_t> mask((cpus + 8 * sizeof(cpu_set_t) - 1) / (8 * sizeof(cpu_set_t)));
    const size_t bytes = mask.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, mask.data()) == 0)
      return std::max<uint32_t>(1, static_cast<uint32_t>(CPU_COUNT_S(bytes, mask.data())));
  }
  return 1;
}

// quota / period rounded up; 0 where there is no limit (v1 says -1, v2 says "max").
uint32_t quota_cores(const std::string& quota, const std::string& period) {
  std::istringstream quota_stream(quota), period_stream(period);
  int64_t q = 0, p = 0;
  if (!(quota_stream >> q) || !(period_stream >> p) || q <= 0 || p <= 0) return 0;
  return static_cast<uint32_t>(std::min<int64_t>((q - 1) / p + 1, UINT32_MAX));
}

uint32_t quota_of_group(const std::string& folder, bool version2) {
  std::string quota, period;
  if (version2) {
    std::ifstream(folder + "/cpu.max") >> quota >> period;
  } else {
    std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  }
  return quota_cores(quota, period);
}

// The tightest quota from `group` up to the root of its hierarchy. Inside a container the path may name a
// folder of the host that is not mounted here; the folders above it, the root at last, are what is visible
// then.
uint32_t tightest_quota(const std::string& mount, std::string group, bool version2) {
  uint32_t tightest = 0;
  for (;;) {
    const uint32_t cores = quota_of_group(mount + group, version2);
    if (cores != 0 && (tightest == 0 || cores < tightest)) tightest = cores;
    const size_t slash = group.rfind('/');
    if (group.empty() || slash == std::string::npos) return tightest;
    group.resize(slash);
  }
}

bool lists_cpu(const std::string& controllers) {
  std::istringstream stream(controllers);
  for (std::string name; std::getline(stream, name, ',');)
    if (name == "cpu") return true;
  return false;
}

}  // namespace

uint32_t cgroup_quota_cores(const std::string& membership_file, const std::string& mount) {
  std::ifstream file(membership_file);
  uint32_t tightest = 0;
  for (std::string line; std::getline(file, line);) {  // hierarchy-id:controllers:path
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    uint32_t cores = 0;
    if (controllers.empty()) {
      cores = tightest_quota(mount, group, true);
    } else if (lists_cpu(controllers)) {
      cores = tightest_quota(mount + "/" + controllers, group, false);
      if (cores == 0) cores = tightest_quota(mount + "/cpu", group, false);
    }
    if (cores != 0 && (tightest == 0 || cores < tightest)) tightest = cores;
  }
  return tightest;
}

uint64_t first_cache_bytes() {
  const long bytes = ::sysconf(_SC_LEVEL1_DCACHE_SIZE);
  return bytes > 0 ? static_cast<uint64_t>(bytes) : uint64_t{32} << 10;
}

uint32_t usable_cores() {
  const uint32_t quota = cgroup_quota_cores("/proc/self/cgroup", "/sys/fs/cgroup");
  const uint32_t cores = affinity_cores();
  return quota == 0 ? cores : std::min(cores, quota);
}

}  // namespace rhapsode
