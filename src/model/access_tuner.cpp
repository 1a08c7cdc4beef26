#include "model/access_tuner.h"

#include <algorithm>

namespace rhapsode::model {
namespace {

constexpr uint32_t kDistances[] = {0, 512, 1024, 2048, 3072, 6144};
// Cores of shared machines are fast and slow by turns, so a distance must win clearly, and most of the turns.
constexpr uint32_t kTurns = 15;
constexpr ptrdiff_t kMostTurns = 11;
constexpr double kClearly = 1.03;

}  // namespace

uint32_t kernels::Access::*access_knob(quant::Format format) {
  return quant::is_dense(format) || format == quant::Format::int8 ? &kernels::Access::streamed
                                                                  : &kernels::Access::unpacked;
}

AccessTuner::Clock AccessTuner::steady_clock() {
  return [] { return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()); };
}

// The first turn warms caches and page tables, and is not counted.
AccessTuner::AccessTuner(uint32_t kernels::Access::*knob, Settled settled, Clock clock)
    : knob_(knob), settled_(std::move(settled)), clock_(std::move(clock)), turns_left_(kTurns + 1) {
  candidates_.push_back(kernels::access.*knob_);
  for (const uint32_t distance : kDistances)
    if (distance != candidates_.front()) candidates_.push_back(distance);
  passes_.resize(candidates_.size());
}

void AccessTuner::begin() {
  if (is_settled()) return;
  kernels::access.*knob_ = candidates_[at_];
  start_ = clock_();
}

void AccessTuner::end() {
  if (is_settled()) return;
  passes_[at_].push_back(std::chrono::duration<double>(clock_() - start_).count());
  at_ = (at_ + 1) % candidates_.size();
  if (at_ == 0 && --turns_left_ == 0) settle();
  // Passes of several tokens come between.
  if (!is_settled()) kernels::access.*knob_ = candidates_.front();
}

void AccessTuner::settle() {
  Choice choice{candidates_.front(), 1.0};
  for (size_t other = 1; other < candidates_.size(); ++other) {
    std::vector<double> gains;
    for (size_t turn = 1; turn < passes_[other].size(); ++turn)
      gains.push_back(passes_[0][turn] / passes_[other][turn]);
    std::nth_element(gains.begin(), gains.begin() + gains.size() / 2, gains.end());
    const double median = gains[gains.size() / 2];
    const auto won = std::count_if(gains.begin(), gains.end(), [](double gain) { return gain > 1.0; });
    if (median > kClearly && won >= kMostTurns && median > choice.gain) choice = {candidates_[other], median};
  }
  kernels::access.*knob_ = choice.bytes;
  settled_(choice);
}

}  // namespace rhapsode::model
