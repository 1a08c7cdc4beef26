// See validate.h.
#include "generation/validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"
#include "generation/processors.h"

namespace rhapsode::generation {
namespace {

template <class Value>
void require(bool holds, const char* key, const Value& found, const std::string& expected) {
  if (holds) return;
  throw Error(ErrorKind::config, "out-of-range", fmt::format("{} is out of range", key))
      .at(key)
      .saw(fmt::format("{}", found))
      .want(expected);
}

struct Vocabulary {
  uint64_t size;
  void require_id(const char* key, int64_t id) const {
    if (id >= 0 && static_cast<uint64_t>(id) < size) return;
    throw Error(ErrorKind::config, "id-outside-vocabulary",
                fmt::format("{} names a token that the model lacks", key))
        .at(key)
        .saw(fmt::format("{}", id))
        .want(fmt::format("0 to {}", size - 1));
  }
  void require_ids(const char* key, const std::vector<int64_t>& ids) const {
    for (const int64_t id : ids) require_id(key, id);
  }
  void require_phrase(const char* key, const std::vector<int64_t>& ids) const {
    require(!ids.empty(), key, "an empty list", "at least one token id");
    require_ids(key, ids);
  }
};

void check_sampling(const Params& p) {
  require(p.temperature >= 0 && std::isfinite(p.temperature), "temperature", p.temperature, "0 or more");
  // The rules compute in float32, where a smaller number would be a division by zero.
  require(p.temperature == 0 || static_cast<float>(p.temperature) > 0, "temperature", p.temperature,
          "0 or a number that float32 holds");
  require(p.top_k >= 0, "top_k", p.top_k, "0 (off) or more");
  require(p.top_p >= 0 && p.top_p <= 1, "top_p", p.top_p, "0 to 1");
  if (p.min_p) require(*p.min_p >= 0 && *p.min_p <= 1, "min_p", *p.min_p, "0 to 1");
  if (p.typical_p)
    require(*p.typical_p > 0 && *p.typical_p <= 1, "typical_p", *p.typical_p, "above 0, at most 1");
  if (p.epsilon_cutoff) {
    require(*p.epsilon_cutoff >= 0 && *p.epsilon_cutoff < 1, "epsilon_cutoff", *p.epsilon_cutoff,
            "0 (off) or more, below 1");
  }
  if (p.eta_cutoff) {
    require(*p.eta_cutoff >= 0 && *p.eta_cutoff < 1, "eta_cutoff", *p.eta_cutoff, "0 (off) or more, below 1");
  }
}

void check_lengths(const Params& p) {
  // Lengths are sums of two of these: far from where they could overflow.
  require(p.max_new_tokens >= 1 && p.max_new_tokens <= kNoLimit, "max_new_tokens", p.max_new_tokens,
          "1 or more");
  if (p.max_length)
    require(*p.max_length >= 1 && *p.max_length <= kNoLimit, "max_length", *p.max_length, "1 or more");
  require(p.min_length >= 0, "min_length", p.min_length, "0 or more");
  require(p.min_new_tokens >= 0, "min_new_tokens", p.min_new_tokens, "0 or more");
  require(p.no_repeat_ngram_size >= 0, "no_repeat_ngram_size", p.no_repeat_ngram_size, "0 (off) or more");
  if (p.max_time_s) require(*p.max_time_s > 0, "max_time", *p.max_time_s, "above 0");
  if (p.prompt_lookup_num_tokens) {
    require(*p.prompt_lookup_num_tokens >= 1, "prompt_lookup_num_tokens", *p.prompt_lookup_num_tokens,
            "1 or more");
    require(p.max_matching_ngram_size >= 1, "max_matching_ngram_size", p.max_matching_ngram_size,
            "1 or more");
  }
}

void check_rules(const Params& p, const Vocabulary& vocabulary) {
  require(p.repetition_penalty > 0 && std::isfinite(p.repetition_penalty), "repetition_penalty",
          p.repetition_penalty, "above 0");
  require(static_cast<float>(p.repetition_penalty) > 0, "repetition_penalty", p.repetition_penalty,
          "a number that float32 holds");
  for (const auto& [ids, bias] : p.sequence_bias) {
    vocabulary.require_phrase("sequence_bias", ids);
    require(!std::isnan(bias), "sequence_bias", bias, "a number");
  }
  for (const auto& ids : p.bad_words_ids) vocabulary.require_phrase("bad_words_ids", ids);
  vocabulary.require_ids("suppress_tokens", p.suppress_tokens);
  vocabulary.require_ids("begin_suppress_tokens", p.begin_suppress_tokens);
  if (p.forced_bos_token_id) vocabulary.require_id("forced_bos_token_id", *p.forced_bos_token_id);
  vocabulary.require_ids("forced_eos_token_id", p.forced_eos_token_id);
  const auto suppressed = [&](int64_t id) {
    return std::find(p.suppress_tokens.begin(), p.suppress_tokens.end(), id) != p.suppress_tokens.end();
  };
  const bool never_forced =
      (p.forced_bos_token_id && suppressed(*p.forced_bos_token_id)) ||
      (!p.forced_eos_token_id.empty() &&
       std::all_of(p.forced_eos_token_id.begin(), p.forced_eos_token_id.end(), suppressed));
  require(!never_forced, "suppress_tokens", "the forced ids",
          "an id of forced_bos_token_id and forced_eos_token_id left");
  for (const int64_t id : p.eos_token_id) require(id >= 0, "eos_token_id", id, "0 or more");
  if (p.guidance_scale)
    require(std::isfinite(*p.guidance_scale), "guidance_scale", *p.guidance_scale, "a number");
  if (!p.exponential_decay_length_penalty) return;
  const auto& [start, factor] = *p.exponential_decay_length_penalty;
  const char* key = "exponential_decay_length_penalty";
  require(start >= 0, key, start, "a start of 0 or more");
  require(factor > 0 && std::isfinite(factor), key, factor, "a factor above 0");
  require(!p.eos_token_id.empty(), key, "no eos_token_id", "an end-of-sequence id, which this rule favours");
  vocabulary.require_ids("eos_token_id", p.eos_token_id);
}

void check_beams(const Params& p, uint64_t vocab_size) {
  require(p.num_beams >= 1, "num_beams", p.num_beams, "1 or more");
  require(p.num_return_sequences >= 1, "num_return_sequences", p.num_return_sequences, "1 or more");
  if (p.num_beams == 1) {
    require(p.num_return_sequences == 1 || is_sampling(p), "num_return_sequences", p.num_return_sequences,
            "1, for greedy decoding has one answer");
    return;
  }
  require(!p.prompt_lookup_num_tokens, "prompt_lookup_num_tokens", p.prompt_lookup_num_tokens.value_or(0),
          "not set with num_beams above 1");
  require(p.num_return_sequences <= p.num_beams, "num_return_sequences", p.num_return_sequences,
          fmt::format("at most num_beams ({})", p.num_beams));
  require(std::isfinite(p.length_penalty), "length_penalty", p.length_penalty, "a number");
  const uint64_t kept_per_beam = std::max<uint64_t>(2, 1 + p.eos_token_id.size());
  require(kept_per_beam <= vocab_size, "num_beams", p.num_beams,
          fmt::format("at most {} candidates a beam, the size of the vocabulary", vocab_size));
}

}  // namespace

void validate(const Params& params, uint64_t prompt_tokens, uint64_t vocab_size) {
  if (prompt_tokens == 0)
    throw Error(ErrorKind::usage, "empty-prompt", "the prompt has no tokens").want("at least one token");
  check_sampling(params);
  check_lengths(params);
  if (answer_limit(params, prompt_tokens) == 0)
    throw Error(ErrorKind::usage, "prompt-too-long", "the prompt leaves no room for an answer in max_length")
        .at("max_length")
        .saw(fmt::format("{} tokens, max_length {}", prompt_tokens, *params.max_length))
        .want(fmt::format("fewer than {} tokens", *params.max_length))
        .hint("set max_new_tokens, raise max_length, or shorten the prompt");
  check_rules(params, Vocabulary{vocab_size});
  check_beams(params, vocab_size);
}

}  // namespace rhapsode::generation
