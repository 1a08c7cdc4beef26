#include "devices/memory_watch.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "devices/inventory.h"

namespace rhapsode::devices {
namespace {

constexpr std::chrono::milliseconds kInterval{50};

}  // namespace

MemoryState memory_state() {
  return {resident_bytes(), memory_within_reach()};
}

MemoryWatch::MemoryWatch(uint64_t planned_bytes, std::function<MemoryState()> read)
    : planned_bytes_(planned_bytes), read_(std::move(read)), next_(std::chrono::steady_clock::now()) {}

void MemoryWatch::check() {
  const auto now = std::chrono::steady_clock::now();
  if (now < next_) return;
  next_ = now + kInterval;
  const MemoryState state = read_();
  const uint64_t missing = planned_bytes_ - std::min(planned_bytes_, state.resident_bytes);
  if (missing <= state.reach_bytes) return;
  throw Error(ErrorKind::does_not_fit, "memory-pressure", "the memory that was there at the start is gone")
      .saw(fmt::format("{} bytes can still be taken, {} are resident", state.reach_bytes,
                       state.resident_bytes))
      .want(fmt::format("{} bytes more, for {} planned in all", missing, planned_bytes_))
      .hint("a control group was lowered or other programs took the memory; `plan` says what fits now");
}

}  // namespace rhapsode::devices
