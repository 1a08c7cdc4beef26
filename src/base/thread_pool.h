// A fixed team of threads for short parallel regions. The caller is member 0; a region costs two barrier
// crossings. Work is split by index, so results never depend on who ran what.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace rhapsode {

// [begin, end) of member's share of n items in whole units.
struct Range {
  uint64_t begin;
  uint64_t end;
};
inline Range share(uint64_t n, uint32_t member, uint32_t members) {
  return {n * member / members, n * (member + 1) / members};
}

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

  // Inside run: calls work(Range) with pieces of [0, n), n < 2^24, each on one member, until all are taken.
  // A member takes pieces of its share() from the front, then from the back what slower ones have left of
  // theirs: cores of a shared machine are not equally fast. All members call it, in the same order, and
  // cross a barrier at least every 2^14 times; what a piece wrote is visible to others after a barrier.
  template <class Work>
  void hand_out(uint32_t member, uint64_t n, uint64_t most, Work work) {
    const Turn turn = begin_turn(member, n);
    for (Range piece{}; take_piece(turn, most, piece);) work(piece);
  }

 private:
  struct Turn {
    uint32_t member;
    uint16_t number;
    uint64_t n;
  };
  Turn begin_turn(uint32_t member, uint64_t n);
  bool take_piece(const Turn& turn, uint64_t most, Range& piece);
  bool take_from(const Turn& turn, uint32_t owner, uint64_t most, Range& piece);

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Cores this process may use: affinity mask and cgroup cpu quota (rounded up), at least 1.
uint32_t usable_cores();
// Bytes of a core's first data cache; 32 KiB where the machine does not say.
uint64_t first_cache_bytes();
// The cpu quota alone, in whole cores, 0 for none; read from /proc/self/cgroup and /sys/fs/cgroup or
// stand-ins of a test.
uint32_t cgroup_quota_cores(const std::string& membership_file, const std::string& mount);

}  // namespace rhapsode
