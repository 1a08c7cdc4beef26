// How far something long has come, on stderr: a bar on a terminal, otherwise a line every ten seconds;
// nothing with -q.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "cli/invocation.h"

namespace rhapsode::cli {

class Progress {
 public:
  enum class Unit : uint8_t { bytes, tokens };
  Progress(std::string label, Unit unit, const Globals& globals);
  ~Progress();  // clears the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Throws Interrupted where a signal has come.
  void update(uint64_t done, uint64_t total);

 private:
  using Clock = std::chrono::steady_clock;
  std::string line(uint64_t done, uint64_t total, bool bar) const;
  std::string amount(uint64_t value) const;

  std::string label_;
  Unit unit_;
  enum class Mode : uint8_t { off, bar, lines } mode_;
  Clock::time_point start_;
  Clock::time_point shown_;
  bool drawn_ = false;
};

}  // namespace rhapsode::cli
