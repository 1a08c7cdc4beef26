// Where a pass's time goes, each thread for itself. Knows no clock but the steady one and nothing of what is
// timed; a pass without times pays a comparison a section.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

namespace rhapsode::model {

enum class Section : uint8_t { embed, norms, qkv, rope, attention, out, up, down, head, waiting };
constexpr uint32_t kSections = 10;

// Nanoseconds of each thread. Of prompts, a linear's time holds the barriers inside it.
struct SectionTimes {
  struct alignas(64) Member {
    std::array<uint64_t, kSections> ns{};
  };
  std::vector<Member> members;

  // Of all threads, the mean.
  double mean_ms(Section section) const {
    uint64_t sum = 0;
    for (const Member& member : members) sum += member.ns[static_cast<size_t>(section)];
    return members.empty() ? 0.0 : static_cast<double>(sum) / 1e6 / static_cast<double>(members.size());
  }
};

// One thread's stopwatch: each lap gives the time since the last one to a section.
class SectionClock {
 public:
  void start(SectionTimes::Member* times) {
    times_ = times;
    if (times_ != nullptr) last_ = now();
  }
  void lap(Section section) {
    if (times_ == nullptr) return;
    const auto time = now();
    times_->ns[static_cast<size_t>(section)] += static_cast<uint64_t>((time - last_).count());
    last_ = time;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static std::chrono::time_point<Clock, std::chrono::nanoseconds> now() {
    return std::chrono::time_point_cast<std::chrono::nanoseconds>(Clock::now());
  }
  SectionTimes::Member* times_ = nullptr;
  std::chrono::time_point<Clock, std::chrono::nanoseconds> last_;
};

}  // namespace rhapsode::model
