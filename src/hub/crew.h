// Several threads that fetch, one that tells: progress, notes and the first failure come out on the caller's
// thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "hub/client.h"
#include "hub/pull.h"

namespace rhapsode::hub {

class Crew {
 public:
  Crew(const HubSettings& settings, const PullHooks& hooks);

  // Runs `job(client, index)` for each index below `count`, parallel_files at a time; returns when all are
  // done, or throws what the first failure was when all have stopped.
  void run(size_t count, const std::function<void(Client& client, size_t index)>& job);

  void expect(uint64_t bytes) { total_ = bytes; }
  std::atomic<uint64_t>& done_bytes() { return done_; }
  const Control& control() const { return control_; }

 private:
  void tell();  // hooks, on the caller's thread

  const HubSettings& settings_;
  const PullHooks& hooks_;
  std::atomic<bool> cancel_{false};
  std::atomic<uint64_t> done_{0};
  uint64_t total_ = 0;
  std::mutex mutex_;
  std::vector<std::string> notes_;
  Control control_;
};

}  // namespace rhapsode::hub
