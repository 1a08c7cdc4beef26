// See stopping.h.
#include "generation/stopping.h"

#include <algorithm>
#include <utility>

namespace rhapsode::generation {

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::stop_string:
      return "stop_string";
    case FinishReason::time:
      return "time";
    case FinishReason::cancelled:
      return "cancelled";
  }
  return "";  // not a value of the enum
}

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

StopRules::StopRules(const Params& params, uint64_t prompt_tokens, Clock clock)
    : eos_(params.eos_token_id),
      max_length_(prompt_tokens + answer_limit(params, prompt_tokens)),
      max_time_s_(params.max_time_s),
      clock_(std::move(clock)),
      started_s_(clock_()) {}

bool StopRules::is_eos(uint32_t id) const {
  return std::find(eos_.begin(), eos_.end(), static_cast<int64_t>(id)) != eos_.end();
}

std::optional<FinishReason> StopRules::check(std::span<const uint32_t> ids) const {
  if (!ids.empty() && is_eos(ids.back())) return FinishReason::stop;
  if (ids.size() >= max_length_) return FinishReason::length;
  if (max_time_s_ && clock_() - started_s_ > *max_time_s_) return FinishReason::time;
  return std::nullopt;
}

}  // namespace rhapsode::generation
