// See beam.h.
#include "generation/beam.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>
#include <utility>

#include "generation/row_math.h"
#include "generation/validate.h"

namespace rhapsode::generation {
namespace {

// What transformers subtracts from hypotheses that must not win. In float32 it swallows the score itself.
constexpr float kExcluded = -1.0e9f;

float length_divisor(uint64_t tokens, double penalty) {
  return static_cast<float>(std::pow(static_cast<double>(tokens), penalty));
}

// Indices of the `count` largest scores, best first, the lower index first among equals.
std::vector<size_t> top_indices(const std::vector<float>& scores, size_t count) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  count = std::min(count, order.size());
  std::partial_sort(order.begin(), order.begin() + count, order.end(), [&](size_t a, size_t b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  });
  order.resize(count);
  return order;
}

const Params& checked(const Params& params, uint64_t prompt_tokens, uint64_t vocab_size) {
  validate(params, prompt_tokens, vocab_size);
  return params;
}

}  // namespace

BeamSearch::BeamSearch(const Params& params, std::vector<uint32_t> prompt, uint64_t vocab_size,
                       BeamOptions options)
    : params_(checked(params, prompt.size(), vocab_size)),
      prompt_tokens_(prompt.size()),
      vocab_size_(vocab_size),
      beams_(static_cast<uint64_t>(params.num_beams)),
      kept_(std::max<uint64_t>(2, 1 + params.eos_token_id.size()) * beams_),
      processors_(params, {prompt_tokens_, vocab_size, options.masked_prefix}),
      stops_(params, prompt_tokens_, std::move(options.clock)),
      ends_(std::move(options.ends)),
      draws_(params.seed, 0) {
  assert(beams_ > 1);
  // All beams start as the prompt: only the first one counts, or they would find the same continuations.
  for (size_t b = 0; b < beams_; ++b) running_.push_back({prompt, b == 0 ? 0.0f : kExcluded});
  for (size_t b = 0; b < beams_; ++b) pool_.push_back({{}, kExcluded, false});
}

std::span<const float> BeamSearch::row_of(std::span<const float> rows, size_t beam) const {
  return rows.subspan(rows_needed() == 1 ? 0 : beam * vocab_size_, vocab_size_);
}

BeamStep BeamSearch::step(std::span<float> rows) {
  assert(!done_ && rows.size() == rows_needed() * vocab_size_);
  for (size_t r = 0; r < rows_needed(); ++r) {
    const auto row = rows.subspan(r * vocab_size_, vocab_size_);
    log_softmax(row);
    processors_.process_row(running_[r].ids, row);
  }
  auto found = is_sampling(params_) ? drawn_continuations(rows) : best_continuations(rows);
  ++generated_;
  mark_hits(found);
  update_pool(found);
  BeamStep step;
  advance(found, step);
  update_end(found);
  return step;
}

std::vector<BeamSearch::Continuation> BeamSearch::best_continuations(std::span<const float> rows) {
  std::vector<Continuation> all;
  std::vector<float> scores(vocab_size_), ordered;
  for (uint32_t b = 0; b < beams_; ++b) {
    const auto row = row_of(rows, b);
    for (size_t i = 0; i < row.size(); ++i) scores[i] = row[i] + running_[b].score;
    // No more than kept_ of one beam can be among the kept_ best.
    size_t count = std::min<size_t>(kept_, scores.size());
    ordered = scores;
    std::nth_element(ordered.begin(), ordered.begin() + (count - 1), ordered.end(), std::greater<>());
    const float floor = ordered[count - 1];
    size_t above = 0;
    for (const float s : scores) above += s > floor;
    size_t ties = count - above;
    for (uint32_t i = 0; i < scores.size(); ++i)
      if (scores[i] > floor || (scores[i] == floor && ties > 0 && ties--)) all.push_back({b, i, scores[i]});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Continuation& x, const Continuation& y) { return x.score > y.score; });
  all.resize(kept_);
  return all;
}

// kept_ draws without replacement over all beams, in the order drawn. Where fewer have any probability, the
// rest are the first that have none.
std::vector<BeamSearch::Continuation> BeamSearch::drawn_continuations(std::span<const float> rows) {
  std::vector<float> left(beams_ * vocab_size_);  // probabilities, 0 once drawn
  const auto score_at = [&](size_t index) {
    return row_of(rows, index / vocab_size_)[index % vocab_size_] + running_[index / vocab_size_].score;
  };
  for (size_t i = 0; i < left.size(); ++i) left[i] = score_at(i);
  softmax(left, left);
  const auto possible = static_cast<size_t>(
      std::count_if(left.begin(), left.end(), [](float probability) { return probability > 0; }));
  std::vector<Continuation> drawn;
  std::vector<bool> taken;
  if (possible < kept_) taken.resize(left.size());
  const auto take = [&](size_t index) {
    drawn.push_back({static_cast<uint32_t>(index / vocab_size_), static_cast<uint32_t>(index % vocab_size_),
                     score_at(index)});
    if (!taken.empty()) taken[index] = true;
  };
  for (size_t i = 0; i < std::min<size_t>(kept_, possible); ++i) {
    const size_t at = pick(left, draws_.at(generated_ * kept_ + i));
    take(at);
    left[at] = 0;
  }
  for (size_t i = 0; drawn.size() < kept_; ++i)
    if (!taken[i]) take(i);
  return drawn;
}

void BeamSearch::mark_hits(std::vector<Continuation>& found) {
  std::vector<uint32_t> ids;
  for (Continuation& c : found) {
    ids = running_[c.beam].ids;
    ids.push_back(c.id);
    auto reason = stops_.check(ids);
    if (!reason && ends_ && ends_(std::span<const uint32_t>(ids).subspan(prompt_tokens_)))
      reason = FinishReason::stop_string;
    c.hit = reason.has_value();
    if (reason) last_hit_ = *reason;
  }
}

// The best continuations that have not ended run on.
void BeamSearch::advance(const std::vector<Continuation>& found, BeamStep& step) {
  std::vector<float> scores;
  for (const Continuation& c : found) scores.push_back(c.score + (c.hit ? kExcluded : 0.0f));
  std::vector<Running> next;
  for (const size_t i : top_indices(scores, beams_)) {
    next.push_back({running_[found[i].beam].ids, scores[i]});
    next.back().ids.push_back(found[i].id);
    step.parents.push_back(found[i].beam);
    step.ids.push_back(found[i].id);
  }
  running_ = std::move(next);
}

// Ended continuations among the first num_beams compete with the pool; the others are there only to run on.
void BeamSearch::update_pool(const std::vector<Continuation>& found) {
  const bool full = std::all_of(pool_.begin(), pool_.end(), [](const Slot& slot) { return slot.finished; });
  const bool closed = full && params_.early_stopping == EarlyStopping::yes;
  const float divisor = length_divisor(generated_, params_.length_penalty);
  std::vector<float> scores;
  for (const Slot& slot : pool_) scores.push_back(slot.score);
  for (size_t i = 0; i < found.size(); ++i) {
    float score = found[i].score / divisor;
    if (closed) score += kExcluded;
    if (!improvable_) score += kExcluded;
    if (!found[i].hit || i >= beams_) score += kExcluded;
    scores.push_back(score);
  }
  std::vector<Slot> next;
  for (const size_t i : top_indices(scores, beams_)) {
    if (i < pool_.size()) {
      next.push_back(pool_[i]);
      continue;
    }
    const Continuation& c = found[i - pool_.size()];
    const auto& before = running_[c.beam].ids;
    next.push_back({{before.begin() + static_cast<ptrdiff_t>(prompt_tokens_), before.end()},
                    scores[i],
                    c.hit && i - pool_.size() < beams_});
    next.back().ids.push_back(c.id);
  }
  pool_ = std::move(next);
}

void BeamSearch::update_end(const std::vector<Continuation>& found) {
  const bool hopeful = params_.early_stopping == EarlyStopping::never && params_.length_penalty > 0;
  const uint64_t length = hopeful ? answer_limit(params_, prompt_tokens_) : generated_;
  const float best = running_[0].score / length_divisor(length, params_.length_penalty);
  const auto finished = [](const Slot& slot) { return slot.finished; };
  float worst = pool_[0].score;
  for (const Slot& slot : pool_) worst = std::min(worst, slot.score);
  improvable_ = improvable_ && std::any_of(pool_.begin(), pool_.end(), [&](const Slot& slot) {
                  return best > (slot.finished ? worst : kExcluded);
                });
  const bool full = std::all_of(pool_.begin(), pool_.end(), finished);
  if (!improvable_ || (full && params_.early_stopping == EarlyStopping::yes)) done_ = FinishReason::stop;
  if (std::all_of(found.begin(), found.end(), [](const Continuation& c) { return c.hit; })) done_ = last_hit_;
}

std::vector<BeamSequence> BeamSearch::sequences() const {
  std::vector<BeamSequence> best;
  for (const Slot& slot : pool_) {
    if (best.size() == static_cast<size_t>(params_.num_return_sequences)) break;
    if (slot.finished) best.push_back({slot.ids, slot.score});
  }
  return best;
}

}  // namespace rhapsode::generation
