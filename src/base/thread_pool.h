// A fixed team of threads for short parallel regions. The caller is member 0; a region costs two barrier
// crossings. Knows nothing of work sizes: callers split by index, so results never depend on who ran what.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace rhapsode {

class ThreadPool {
 public:
  explicit ThreadPool(uint32_t threads);  // >= 1; 1 runs everything on the caller
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  uint32_t threads() const;
  // Calls task(member) once on each member, member in [0, threads), and returns when all are done. Not
  // reentrant. An exception of any member is rethrown on the caller (the first by member index).
  void run(const std::function<void(uint32_t member)>& task);
  // Inside run: waits until all members arrive. Spins briefly, then yields. Leaves by an exception when a
  // member failed, so a task must not swallow exceptions that it does not know.
  void barrier();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// [begin, end) of member's share of n items in whole units.
struct Range {
  uint64_t begin;
  uint64_t end;
};
inline Range share(uint64_t n, uint32_t member, uint32_t members) {
  return {n * member / members, n * (member + 1) / members};
}

// Cores this process may use: affinity mask and cgroup cpu quota (rounded up), at least 1.
uint32_t usable_cores();
// The cpu quota alone, in whole cores, 0 for none; read from /proc/self/cgroup and /sys/fs/cgroup or
// stand-ins of a test.
uint32_t cgroup_quota_cores(const std::string& membership_file, const std::string& mount);

}  // namespace rhapsode
