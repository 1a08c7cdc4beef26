// Which distance of kernels::Access is the best for this model on this machine, found while it answers:
// passes of one token take turns with the distances and are timed. It costs nothing but the slower turns, and
// results stay equal bit for bit.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/access.h"
#include "plan/formats.h"

namespace rhapsode::model {

// The knob that a weight format's kernels follow.
uint32_t kernels::Access::*access_knob(quant::Format format);

class AccessTuner {
 public:
  using Clock = std::function<std::chrono::nanoseconds()>;
  // What it settled on: bytes, and how many times as fast as the usual distance (1 where that was kept).
  struct Choice {
    uint32_t bytes = 0;
    double gain = 1.0;
  };
  using Settled = std::function<void(const Choice&)>;

  // Starts from the knob's present value, the usual one, and tries the others too.
  AccessTuner(uint32_t kernels::Access::*knob, Settled settled, Clock clock = steady_clock());

  // Around a pass of one token over weights that all lie in memory. A pass that throws has no end.
  void begin();
  void end();
  bool is_settled() const { return turns_left_ == 0; }

  static Clock steady_clock();

 private:
  void settle();

  uint32_t kernels::Access::*knob_;
  Settled settled_;
  Clock clock_;
  std::vector<uint32_t> candidates_;         // the usual one first
  std::vector<std::vector<double>> passes_;  // [candidate][turn] seconds
  uint32_t turns_left_;
  size_t at_ = 0;
  std::chrono::nanoseconds start_{};
};

}  // namespace rhapsode::model
