// Notices while a model runs that the memory it was promised is no longer there: a control group was lowered,
// or others took it. What is still to be taken is compared with what can be, so that a request ends with an
// error before the kernel ends the process. Knows no requests.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

namespace rhapsode::devices {

struct MemoryState {
  uint64_t resident_bytes = 0;
  uint64_t reach_bytes = 0;  // can still be taken
};
MemoryState memory_state();

class MemoryWatch {
 public:
  // planned_bytes: what the process will have resident at most.
  explicit MemoryWatch(uint64_t planned_bytes, std::function<MemoryState()> read = memory_state);

  // Reads the system a few times a second at most; throws Error(does_not_fit, "memory-pressure").
  void check();

 private:
  uint64_t planned_bytes_;
  std::function<MemoryState()> read_;
  std::chrono::steady_clock::time_point next_;
};

}  // namespace rhapsode::devices
