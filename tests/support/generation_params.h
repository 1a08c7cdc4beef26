// Reads generation parameters of a golden vector into Params. Owns the spelling of those files; a key it does
// not know fails the test.
#pragma once

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "base/json.h"
#include "generation/params.h"
#include "models/paths.h"

namespace rhapsode::generation {

inline float golden_number(const Json& value) {
  if (value.is_number()) return static_cast<float>(value.get<double>());
  const auto text = value.get<std::string>();
  if (text == "nan") return std::numeric_limits<float>::quiet_NaN();
  return text == "inf" ? std::numeric_limits<float>::infinity() : -std::numeric_limits<float>::infinity();
}

inline std::vector<float> golden_row(const Json& values) {
  std::vector<float> row;
  for (const Json& value : values) row.push_back(golden_number(value));
  return row;
}

inline EarlyStopping golden_early_stopping(const Json& value) {
  if (value.is_string()) return EarlyStopping::never;
  return value.get<bool>() ? EarlyStopping::yes : EarlyStopping::no;
}

inline bool read_sampling_key(const std::string& key, const Json& value, Params& p) {
  if (key == "do_sample") return value.get_to(p.do_sample), true;
  if (key == "temperature") return value.get_to(p.temperature), true;
  if (key == "top_k") return value.get_to(p.top_k), true;
  if (key == "top_p") return value.get_to(p.top_p), true;
  if (key == "min_p") return p.min_p = value.get<double>(), true;
  if (key == "typical_p") return p.typical_p = value.get<double>(), true;
  if (key == "epsilon_cutoff") return p.epsilon_cutoff = value.get<double>(), true;
  if (key == "eta_cutoff") return p.eta_cutoff = value.get<double>(), true;
  if (key == "seed") return value.get_to(p.seed), true;
  return false;
}

inline bool read_rule_key(const std::string& key, const Json& value, Params& p) {
  if (key == "repetition_penalty") return value.get_to(p.repetition_penalty), true;
  if (key == "no_repeat_ngram_size") return value.get_to(p.no_repeat_ngram_size), true;
  if (key == "sequence_bias") return value.get_to(p.sequence_bias), true;
  if (key == "bad_words_ids") return value.get_to(p.bad_words_ids), true;
  if (key == "min_length") return value.get_to(p.min_length), true;
  if (key == "min_new_tokens") return value.get_to(p.min_new_tokens), true;
  if (key == "forced_bos_token_id") return p.forced_bos_token_id = value.get<int64_t>(), true;
  if (key == "forced_eos_token_id") return value.get_to(p.forced_eos_token_id), true;
  if (key == "remove_invalid_values") return value.get_to(p.remove_invalid_values), true;
  if (key == "exponential_decay_length_penalty")
    return p.exponential_decay_length_penalty = {value[0].get<int64_t>(), value[1].get<double>()}, true;
  if (key == "suppress_tokens") return value.get_to(p.suppress_tokens), true;
  if (key == "begin_suppress_tokens") return value.get_to(p.begin_suppress_tokens), true;
  if (key == "renormalize_logits") return value.get_to(p.renormalize_logits), true;
  return false;
}

inline bool read_loop_key(const std::string& key, const Json& value, Params& p) {
  if (key == "max_new_tokens") return value.get_to(p.max_new_tokens), true;
  if (key == "num_beams") return value.get_to(p.num_beams), true;
  if (key == "num_return_sequences") return value.get_to(p.num_return_sequences), true;
  if (key == "early_stopping") return p.early_stopping = golden_early_stopping(value), true;
  if (key == "length_penalty") return value.get_to(p.length_penalty), true;
  if (key == "eos_token_id") return value.get_to(p.eos_token_id), true;
  if (key == "guidance_scale") return p.guidance_scale = value.get<double>(), true;
  if (key == "stop_strings") return value.get_to(p.stop_strings), true;
  if (key == "pad_token_id") return p.pad_token_id = value.get<int64_t>(), true;
  if (key == "prompt_lookup_num_tokens") return p.prompt_lookup_num_tokens = value.get<int64_t>(), true;
  if (key == "max_matching_ngram_size") return value.get_to(p.max_matching_ngram_size), true;
  return false;
}

// Warpers are off unless named.
inline Params golden_params(const Json& object) {
  Params params;
  params.top_k = 0;
  for (const auto& [key, value] : object.items()) {
    const bool known = read_sampling_key(key, value, params) || read_rule_key(key, value, params) ||
                       read_loop_key(key, value, params);
    EXPECT_TRUE(known) << "unknown key in a golden vector: " << key;
  }
  return params;
}

inline Json golden_file(const std::string& name) {
  return read_json_file(paths::fixtures() + "/generation/" + name);
}

}  // namespace rhapsode::generation
