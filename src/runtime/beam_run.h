// Beam search and beam-sample over the decoder: every beam is a sequence, parents share the blocks of their
// past.
#pragma once

#include <chrono>
#include <span>

#include "runtime/generate.h"

namespace rhapsode::runtime {

GenerateResult run_beams(Session& session, const GenerateRequest& request);

// The largest entries of a row, best first, ties lowest id first.
TopEntries largest(std::span<const float> row, uint32_t count);

// Wall-clock time since it was made.
class Stopwatch {
 public:
  double milliseconds() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace rhapsode::runtime
