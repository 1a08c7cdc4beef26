// What one request asks of generation, all values resolved. Names and meanings are transformers' own;
// defaults are generate()'s global ones (the guide's are applied by the runtime while merging).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace rhapsode::generation {

enum class EarlyStopping : uint8_t { no, yes, never };
enum class PenaltyScope : uint8_t { all, generated };

struct Params {
  int64_t max_new_tokens = 20;
  std::optional<int64_t> max_length;  // prompt included; the smaller of the two limits holds
  int64_t min_length = 0;             // prompt included
  int64_t min_new_tokens = 0;
  bool do_sample = false;
  double temperature = 1.0;
  int64_t top_k = 50;  // 0 = off
  double top_p = 1.0;
  std::optional<double> min_p, typical_p, epsilon_cutoff, eta_cutoff;
  double repetition_penalty = 1.0;
  PenaltyScope repetition_penalty_scope = PenaltyScope::all;
  int64_t no_repeat_ngram_size = 0;
  std::vector<std::pair<std::vector<int64_t>, double>> sequence_bias;
  std::vector<std::vector<int64_t>> bad_words_ids;
  std::vector<int64_t> suppress_tokens, begin_suppress_tokens;
  std::optional<int64_t> forced_bos_token_id;
  std::vector<int64_t> forced_eos_token_id;
  std::optional<std::pair<int64_t, double>> exponential_decay_length_penalty;  // start, factor
  bool remove_invalid_values = false;
  bool renormalize_logits = false;
  std::optional<double> guidance_scale;
  int64_t num_beams = 1;
  int64_t num_return_sequences = 1;
  EarlyStopping early_stopping = EarlyStopping::no;
  double length_penalty = 1.0;
  std::vector<int64_t> eos_token_id;  // any of them stops
  std::optional<int64_t> pad_token_id;
  std::vector<std::string> stop_strings;
  std::optional<double> max_time_s;
  std::optional<int64_t> prompt_lookup_num_tokens;
  int64_t max_matching_ngram_size = 2;
  uint64_t seed = 0;
};

constexpr int64_t kNoLimit = int64_t{1} << 40;  // max_new_tokens where max_length alone limits

// Most tokens of an answer to a prompt of that length; 0 where max_length leaves no room.
inline uint64_t answer_limit(const Params& params, uint64_t prompt_tokens) {
  const auto prompt = static_cast<int64_t>(prompt_tokens);
  const int64_t room = std::max<int64_t>(params.max_length.value_or(prompt + kNoLimit) - prompt, 0);
  return static_cast<uint64_t>(std::min(params.max_new_tokens, room));
}

}  // namespace rhapsode::generation
