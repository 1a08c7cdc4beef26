// See request_state.h.
#include "generation/request_state.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "generation/lookup.h"
#include "generation/row_math.h"
#include "generation/validate.h"

namespace rhapsode::generation {
namespace {

// The `count` best of ids[i] with probabilities[i]; without ids, i is the id.
TopProbabilities best_of(const std::vector<uint32_t>* ids, std::span<const float> probabilities,
                         size_t count) {
  std::vector<uint32_t> order(probabilities.size());
  std::iota(order.begin(), order.end(), 0u);
  count = std::min(count, order.size());
  std::partial_sort(order.begin(), order.begin() + count, order.end(), [&](uint32_t a, uint32_t b) {
    return probabilities[a] != probabilities[b] ? probabilities[a] > probabilities[b] : a < b;
  });
  TopProbabilities best;
  for (size_t i = 0; i < count; ++i)
    best.emplace_back(ids ? (*ids)[order[i]] : order[i], probabilities[order[i]]);
  return best;
}

const Params& checked(const Params& params, uint64_t prompt_tokens, uint64_t vocab_size) {
  validate(params, prompt_tokens, vocab_size);
  return params;
}

// How many of the best scores decide, whatever the others are; 0 where all may.
uint32_t deciding_scores(const Params& params, const ProcessorList& processors,
                         const RequestOptions& options) {
  if (options.trace_entries > 0 || !processors.only_lowers_seen()) return 0;
  if (!is_sampling(params)) return 1;
  return static_cast<uint32_t>(std::min<int64_t>(params.top_k, UINT32_MAX));
}

}  // namespace

RequestState::RequestState(const Params& params, std::vector<uint32_t> prompt, uint64_t vocab_size,
                           RequestOptions options)
    : params_(checked(params, prompt.size(), vocab_size)),
      prompt_tokens_(prompt.size()),
      vocab_size_(vocab_size),
      trace_entries_(options.trace_entries),
      ids_(std::move(prompt)),
      scratch_(options.scratch ? std::move(options.scratch) : std::make_shared<ChoiceScratch>()),
      processors_(params, {prompt_tokens_, vocab_size, options.masked_prefix}, scratch_),
      stops_(params, prompt_tokens_, std::move(options.clock)),
      draws_(params.seed, options.stream) {
  assert(params.num_beams == 1);
  best_wanted_ = deciding_scores(params, processors_, options);
  most_drafted_ = static_cast<uint64_t>(params.prompt_lookup_num_tokens.value_or(0));
  draft_width_ = std::min(most_drafted_, kFirstWidth);
}

uint32_t RequestState::choose(std::span<float> logits, Step& step) {
  assert(logits.size() == vocab_size_);
  std::vector<float>& probabilities = scratch_->probabilities;
  if (is_sampling(params_)) {
    Candidates& left = scratch_->left;
    processors_.process(ids_, logits, left);
    probabilities.resize(left.size());
    softmax(left.scores, probabilities);
    if (trace_entries_ > 0) step.top.push_back(best_of(&left.ids, probabilities, trace_entries_));
    return left.ids[pick(probabilities, draws_.at(ids_.size() - prompt_tokens_))];
  }
  processors_.process(ids_, logits);
  const uint32_t best = argmax(logits);
  if (trace_entries_ > 0) {
    probabilities.resize(logits.size());
    softmax(logits, probabilities);
    step.top.push_back(best_of(nullptr, probabilities, trace_entries_));
  }
  return best;
}

WantedScores RequestState::wanted(std::span<const uint32_t> draft) {
  if (best_wanted_ == 0 || !processors_.active()) return {best_wanted_, {}};
  const auto add = [&](uint32_t id) {
    const auto at = std::lower_bound(lowered_.begin(), lowered_.end(), id);
    if (at == lowered_.end() || *at != id) lowered_.insert(at, id);
  };
  if (lowered_from_ == 0) {
    lowered_.assign(ids_.begin(), ids_.end());
    std::sort(lowered_.begin(), lowered_.end());
    lowered_.erase(std::unique(lowered_.begin(), lowered_.end()), lowered_.end());
    lowered_from_ = ids_.size();
  }
  for (; lowered_from_ < ids_.size(); ++lowered_from_) add(ids_[lowered_from_]);
  for (const uint32_t id : draft) add(id);
  return {best_wanted_, lowered_};
}

Step RequestState::push_logits(std::span<float> logits) {
  return push_draft_logits({}, logits);
}

std::vector<uint32_t> RequestState::draft() {
  if (!params_.prompt_lookup_num_tokens) return {};
  const LookupLimits limits{draft_width_, static_cast<uint64_t>(params_.max_matching_ngram_size),
                            stops_.max_length()};
  return lookup_draft(
      ids_, limits,
      [this](std::span<const uint32_t> ids, uint32_t token) { return processors_.forbids(ids, token); },
      [this](uint32_t token) { return stops_.is_eos(token); });
}

Step RequestState::push_draft_logits(std::span<const uint32_t> draft, std::span<float> rows) {
  assert(!finished_ && rows.size() == (draft.size() + 1) * vocab_size_);
  Step step;
  for (size_t i = 0; i <= draft.size(); ++i) {
    const uint32_t id = choose(rows.subspan(i * vocab_size_, vocab_size_), step);
    ids_.push_back(id);
    step.ids.push_back(id);
    finished_ = stops_.check(ids_);
    if (finished_ || (i < draft.size() && id != draft[i])) break;
  }
  step.finished = finished_;
  if (!draft.empty()) adapt_width(draft.size(), step.ids.size() - 1);
  return step;
}

// A quotation goes on for long, a chance match soon ends: what was right twice as far is asked for next, what
// was wrong costs a pass for nothing.
void RequestState::adapt_width(uint64_t drafted, uint64_t right) {
  draft_width_ = right == drafted ? std::max(draft_width_, 2 * drafted) : std::max(kLeastWidth, right + 1);
  draft_width_ = std::min(draft_width_, most_drafted_);
}

}  // namespace rhapsode::generation
