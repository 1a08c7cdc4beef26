// See processors.h.
#include "generation/processors.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "generation/row_math.h"

namespace rhapsode::generation {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// Ids that a row of this vocabulary has, without duplicates. Others can never be generated.
std::vector<uint32_t> known_ids(const std::vector<int64_t>& ids, uint64_t vocab_size) {
  std::vector<uint32_t> known;
  for (const int64_t id : ids) {
    if (id < 0 || static_cast<uint64_t>(id) >= vocab_size) continue;
    const auto narrow = static_cast<uint32_t>(id);
    if (std::find(known.begin(), known.end(), narrow) == known.end()) known.push_back(narrow);
  }
  return known;
}

void forbid(const std::vector<uint32_t>& ids, std::span<float> scores) {
  for (const uint32_t id : ids) scores[id] = -kInf;
}

void replace_invalid(std::span<float> scores) {
  constexpr float kMost = std::numeric_limits<float>::max();
  for (float& s : scores) {
    if (s != s) s = 0.0f;
    s = std::clamp(s, -kMost, kMost);
  }
}

bool ends_with(std::span<const uint32_t> ids, const std::vector<uint32_t>& suffix) {
  return suffix.size() <= ids.size() && std::equal(suffix.begin(), suffix.end(), ids.end() - suffix.size());
}

}  // namespace

bool is_sampling(const Params& params) {
  return params.do_sample && params.temperature != 0.0;
}

void apply_guidance(std::span<float> scores, std::span<float> unconditional, double scale) {
  log_softmax(scores);
  log_softmax(unconditional);
  const auto weight = static_cast<float>(scale);
  for (size_t i = 0; i < scores.size(); ++i)
    scores[i] = weight * (scores[i] - unconditional[i]) + unconditional[i];
}

// Equal phrases are one entry; the last bias given for it counts.
void ProcessorList::Phrases::add(const std::vector<int64_t>& ids, float bias) {
  Phrase phrase{{ids.begin(), ids.end() - 1}, static_cast<uint32_t>(ids.back()), bias};
  for (Phrase& known : entries) {
    if (known.last == phrase.last && known.prefix == phrase.prefix) {
      known.bias = bias;
      return;
    }
  }
  entries.push_back(std::move(phrase));
}

// float32 sums depend on their order: single tokens, then groups of one length in order of first appearance.
void ProcessorList::Phrases::sort_like_reference() {
  std::vector<size_t> lengths{0};
  for (const Phrase& phrase : entries) {
    if (std::find(lengths.begin(), lengths.end(), phrase.prefix.size()) == lengths.end())
      lengths.push_back(phrase.prefix.size());
  }
  const auto rank = [&](const Phrase& p) {
    return std::find(lengths.begin(), lengths.end(), p.prefix.size()) - lengths.begin();
  };
  std::stable_sort(entries.begin(), entries.end(),
                   [&](const Phrase& a, const Phrase& b) { return rank(a) < rank(b); });
}

ProcessorList::ProcessorList(const Params& params, const PromptShape& shape,
                             std::shared_ptr<ChoiceScratch> scratch)
    : params_(params),
      shape_(shape),
      max_length_(shape.prompt_tokens + answer_limit(params, shape.prompt_tokens)),
      sampling_(is_sampling(params)),
      warpers_(params),
      eos_(known_ids(params.eos_token_id, shape.vocab_size)),
      forced_eos_(known_ids(params.forced_eos_token_id, shape.vocab_size)),
      suppressed_(known_ids(params.suppress_tokens, shape.vocab_size)),
      begin_suppressed_(known_ids(params.begin_suppress_tokens, shape.vocab_size)),
      scratch_(scratch ? std::move(scratch) : std::make_shared<ChoiceScratch>()) {
  for (const auto& [ids, bias] : params.sequence_bias) biased_.add(ids, static_cast<float>(bias));
  for (const auto& ids : params.bad_words_ids) {
    const bool is_eos = ids.size() == 1 && std::find(params.eos_token_id.begin(), params.eos_token_id.end(),
                                                     ids[0]) != params.eos_token_id.end();
    if (!is_eos) bad_words_.add(ids, -kInf);
  }
  biased_.sort_like_reference();
  bad_words_.sort_like_reference();
  beyond_seen_ = !biased_.entries.empty() || !bad_words_.entries.empty() || params.min_length > 0 ||
                 params.min_new_tokens > 0 || params.forced_bos_token_id ||
                 !params.forced_eos_token_id.empty() || params.remove_invalid_values ||
                 params.exponential_decay_length_penalty || !suppressed_.empty() ||
                 !begin_suppressed_.empty();
  active_ = beyond_seen_ || params.repetition_penalty != 1.0 || params.no_repeat_ngram_size > 0;
}

bool ProcessorList::only_lowers_seen() const {
  return !beyond_seen_ && params_.repetition_penalty >= 1.0;
}

void ProcessorList::process(std::span<const uint32_t> ids, std::span<float> scores) {
  if (!active_) return;
  add_biases(biased_, ids, scores);
  if (params_.repetition_penalty != 1.0) penalize_repetition(ids, scores);
  if (params_.no_repeat_ngram_size > 0) ban_ngrams(ids, scores);
  add_biases(bad_words_, ids, scores);
  const auto length = static_cast<int64_t>(ids.size());
  const bool too_short = length < params_.min_length ||
                         length - static_cast<int64_t>(shape_.prompt_tokens) < params_.min_new_tokens;
  if (too_short) forbid(eos_, scores);
  force(ids, scores);
  if (params_.remove_invalid_values) replace_invalid(scores);
  if (params_.exponential_decay_length_penalty) decay_length(ids, scores);
  suppress(ids, scores);
}

void ProcessorList::process(std::span<const uint32_t> ids, std::span<float> scores, Candidates& left) {
  process(ids, scores);
  warpers_.apply(scores, *scratch_, left);
}

void ProcessorList::process_row(std::span<const uint32_t> ids, std::span<float> scores) {
  if (!sampling_) {
    process(ids, scores);
    if (params_.renormalize_logits) log_softmax(scores);
    return;
  }
  Candidates& left = scratch_->left;
  process(ids, scores, left);
  std::fill(scores.begin(), scores.end(), -kInf);
  for (size_t i = 0; i < left.size(); ++i) scores[left.ids[i]] = left.scores[i];
}

bool ProcessorList::forbids(std::span<const uint32_t> ids, uint32_t token) {
  if (!active_) return false;
  std::vector<float>& row = scratch_->flat_row;
  row.assign(shape_.vocab_size, 1.0f);
  process(ids, row);
  return row[token] <= -std::numeric_limits<float>::max();
}

void ProcessorList::add_biases(const Phrases& phrases, std::span<const uint32_t> ids,
                               std::span<float> scores) {
  touched_.clear();
  for (const Phrase& phrase : phrases.entries) {
    if (!ends_with(ids, phrase.prefix)) continue;
    const auto known = std::find_if(touched_.begin(), touched_.end(),
                                    [&](const auto& entry) { return entry.first == phrase.last; });
    if (known == touched_.end()) {
      touched_.emplace_back(phrase.last, phrase.bias);
    } else {
      known->second += phrase.bias;
    }
  }
  for (const auto& [id, bias] : touched_) scores[id] += bias;
}

// Keeps distinct_ in step with `ids`; a row that does not continue the last one starts anew.
void ProcessorList::note_seen(std::span<const uint32_t> ids, size_t vocab_size) {
  if (ids.size() < history_.size() || !std::equal(history_.begin(), history_.end(), ids.begin())) {
    for (const uint32_t id : distinct_) seen_[id] = false;
    distinct_.clear();
    history_.clear();
  }
  seen_.resize(vocab_size);
  const uint64_t skipped = params_.repetition_penalty_scope == PenaltyScope::generated ? shape_.prompt_tokens
                                                                                       : shape_.masked_prefix;
  for (size_t i = history_.size(); i < ids.size(); ++i) {
    history_.push_back(ids[i]);
    if (i < skipped || ids[i] >= vocab_size || seen_[ids[i]]) continue;
    seen_[ids[i]] = true;
    distinct_.push_back(ids[i]);
  }
}

void ProcessorList::penalize_repetition(std::span<const uint32_t> ids, std::span<float> scores) {
  note_seen(ids, scores.size());
  const auto penalty = static_cast<float>(params_.repetition_penalty);
  for (const uint32_t id : distinct_)
    scores[id] = scores[id] < 0 ? scores[id] * penalty : scores[id] / penalty;
}

// Pads and prompt count; there is no exemption for end-of-sequence ids.
void ProcessorList::ban_ngrams(std::span<const uint32_t> ids, std::span<float> scores) const {
  const auto size = static_cast<size_t>(params_.no_repeat_ngram_size);
  if (ids.size() < size) return;
  const auto suffix = ids.last(size - 1);
  for (size_t i = 0; i + size <= ids.size(); ++i) {
    const uint32_t banned = ids[i + size - 1];
    if (banned < scores.size() && std::equal(suffix.begin(), suffix.end(), ids.begin() + i))
      scores[banned] = -kInf;
  }
}

void ProcessorList::force(std::span<const uint32_t> ids, std::span<float> scores) const {
  if (params_.forced_bos_token_id && ids.size() == 1) {
    std::fill(scores.begin(), scores.end(), -kInf);
    scores[static_cast<size_t>(*params_.forced_bos_token_id)] = 0.0f;
  }
  if (!forced_eos_.empty() && ids.size() + 1 == max_length_) {
    std::fill(scores.begin(), scores.end(), -kInf);
    for (const uint32_t id : forced_eos_) scores[id] = 0.0f;
  }
}

void ProcessorList::decay_length(std::span<const uint32_t> ids, std::span<float> scores) const {
  const auto& [start, factor] = *params_.exponential_decay_length_penalty;
  const int64_t beyond =
      static_cast<int64_t>(ids.size()) - start - static_cast<int64_t>(shape_.prompt_tokens);
  if (beyond <= 0) return;
  const auto growth = static_cast<float>(std::pow(factor, static_cast<double>(beyond)) - 1.0);
  for (const uint32_t id : eos_) {
    if (std::isfinite(scores[id])) scores[id] += std::fabs(scores[id]) * growth;
  }
}

void ProcessorList::suppress(std::span<const uint32_t> ids, std::span<float> scores) const {
  forbid(suppressed_, scores);
  const bool after_bos = shape_.prompt_tokens <= 1 && params_.forced_bos_token_id;
  if (ids.size() == shape_.prompt_tokens + (after_bos ? 1 : 0)) forbid(begin_suppressed_, scores);
}

}  // namespace rhapsode::generation
