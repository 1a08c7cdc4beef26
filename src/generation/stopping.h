// When a sequence ends: end-of-sequence ids, length, time. Owns the order in which the reasons are asked.
// Stop strings are matched on text, so they and cancellation are reported from outside.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "generation/params.h"

namespace rhapsode::generation {

enum class FinishReason : uint8_t { stop, length, stop_string, time, cancelled };
const char* finish_reason_name(FinishReason reason);  // "stop", "length", "stop_string", "time", "cancelled"

// Seconds since any fixed point, never going back.
using Clock = std::function<double()>;
double steady_seconds();

class StopRules {
 public:
  // Time runs from here: make it before the prompt is computed.
  StopRules(const Params& params, uint64_t prompt_tokens, Clock clock = steady_seconds);

  bool is_eos(uint32_t id) const;
  uint64_t max_length() const { return max_length_; }
  // Looked at after a token was appended. An end-of-sequence id is told before the length, the length before
  // the time.
  std::optional<FinishReason> check(std::span<const uint32_t> ids) const;

 private:
  std::vector<int64_t> eos_;
  uint64_t max_length_;
  std::optional<double> max_time_s_;
  Clock clock_;
  double started_s_;
};

}  // namespace rhapsode::generation
