// See warpers.h.
#include "generation/warpers.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace rhapsode::generation {
namespace {

using Item = ChoiceScratch::Item;

constexpr size_t kAll = std::numeric_limits<size_t>::max();

bool cuts(const std::optional<double>& value) {
  return value && *value > 0.0 && *value < 1.0;
}

// Entropy of softmax(scores) from scores and probabilities.
double entropy(const std::vector<float>& scores, const std::vector<float>& probabilities) {
  const size_t best = std::max_element(scores.begin(), scores.end()) - scores.begin();
  const double log_sum = -std::log(static_cast<double>(probabilities[best]));
  double sum = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const double log_p = static_cast<double>(scores[i]) - scores[best] - log_sum;
    sum -= log_p * static_cast<double>(probabilities[i]);
  }
  return sum;
}

// Walks items by (key, index) ascending, adding up probabilities, while `goes_on(float32 sum)`; returns how
// many were walked. Items before that point are in front, in no order.
template <class GoesOn>
size_t walk_mass(std::vector<Item>& items, double mass, GoesOn goes_on) {
  const auto before = [](const Item& a, const Item& b) {
    return a.key != b.key ? a.key < b.key : a.index < b.index;
  };
  // Quickselect by mass: halve the range that holds the boundary instead of sorting everything.
  constexpr ptrdiff_t kSortRange = 48;
  auto begin = items.begin(), end = items.end();
  while (end - begin > kSortRange) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, before);
    double half = mass;
    for (auto it = begin; it != middle; ++it) half += static_cast<double>(it->probability);
    if (goes_on(static_cast<float>(half))) {
      begin = middle, mass = half;
    } else {
      end = middle;
    }
  }
  std::sort(begin, end, before);
  for (; begin != end; ++begin) {
    mass += static_cast<double>(begin->probability);
    if (!goes_on(static_cast<float>(mass))) break;
  }
  return begin - items.begin();
}

}  // namespace

Warpers::Warpers(const Params& p)
    : temperature_(p.temperature),
      top_p_(p.top_p),
      min_p_(p.min_p.value_or(-1)),
      typical_p_(p.typical_p && *p.typical_p < 1.0 ? *p.typical_p : 1.0),
      epsilon_(cuts(p.epsilon_cutoff) ? *p.epsilon_cutoff : 0.0),
      eta_(cuts(p.eta_cutoff) ? *p.eta_cutoff : 0.0),
      min_kept_(p.num_beams > 1 ? std::max<size_t>(2, p.eos_token_id.size() + 1) : 1),
      renormalize_(p.renormalize_logits) {
  top_k_ = p.top_k == 0 ? kAll : std::max(static_cast<size_t>(p.top_k), min_kept_);
}

void Warpers::apply(std::span<const float> row, ChoiceScratch& scratch, Candidates& left) const {
  select_top_k(row, top_k_, static_cast<float>(temperature_), scratch.top_k, left);
  if (top_p_ < 1.0) top_p(scratch, left);
  if (min_p_ >= 0.0) min_p(scratch, left);
  if (typical_p_ < 1.0) typical_p(scratch, left);
  if (epsilon_ > 0.0) {
    scratch.warped.resize(left.size());
    softmax(left.scores, scratch.warped);
    cut_below(static_cast<float>(epsilon_), scratch, left);
  }
  if (eta_ > 0.0) eta(scratch, left);
  if (renormalize_) log_softmax(left.scores);
}

void Warpers::top_p(ChoiceScratch& scratch, Candidates& left) const {
  if (left.size() <= min_kept_) return;
  scratch.warped.resize(left.size());
  softmax(left.scores, scratch.warped);
  const auto limit = static_cast<float>(1.0 - top_p_);
  // Tokens so unlikely that all of them together stay below half the limit go without being ordered; their
  // mass counts.
  const float negligible = 0.5f * limit / static_cast<float>(left.size());
  float best = 0;
  for (const float p : scratch.warped) best = std::max(best, p);
  double mass = 0;
  scratch.items.clear();
  scratch.items.reserve(left.size());  // growing would take twice as much
  for (uint32_t i = 0; i < left.size(); ++i) {
    if (min_kept_ == 1 && scratch.warped[i] < negligible && scratch.warped[i] < best) {
      mass += static_cast<double>(scratch.warped[i]);
    } else {
      scratch.items.push_back({left.scores[i], i, scratch.warped[i]});
    }
  }
  size_t removed = walk_mass(scratch.items, mass, [&](float sum) { return sum <= limit; });
  const size_t most = scratch.items.size() - std::min(scratch.items.size(), min_kept_);
  if (removed > most) {
    removed = most;
    std::nth_element(
        scratch.items.begin(), scratch.items.begin() + removed, scratch.items.end(),
        [](const Item& a, const Item& b) { return a.key != b.key ? a.key < b.key : a.index < b.index; });
  }
  scratch.removed.assign(left.size(), true);
  for (size_t i = removed; i < scratch.items.size(); ++i) scratch.removed[scratch.items[i].index] = false;
  left.keep_if([&](size_t i) { return !scratch.removed[i]; });
}

float Warpers::mth_best(ChoiceScratch& scratch, const Candidates& left) const {
  if (left.size() <= min_kept_) return -std::numeric_limits<float>::infinity();
  scratch.ordered = left.scores;
  std::nth_element(scratch.ordered.begin(), scratch.ordered.begin() + (min_kept_ - 1), scratch.ordered.end(),
                   std::greater<>());
  return scratch.ordered[min_kept_ - 1];
}

void Warpers::min_p(ChoiceScratch& scratch, Candidates& left) const {
  scratch.warped.resize(left.size());
  softmax(left.scores, scratch.warped);
  const float best = *std::max_element(scratch.warped.begin(), scratch.warped.end());
  const float threshold = static_cast<float>(min_p_) * best;
  // The m best stay whatever their probability; among equals the lowest id.
  const float floor = mth_best(scratch, left);
  size_t above = 0;
  for (const float s : left.scores) above += s > floor;
  size_t ties = min_kept_ - std::min(min_kept_, above);
  left.keep_if([&](size_t i) {
    const bool among_best = left.scores[i] > floor || (left.scores[i] == floor && ties > 0 && ties--);
    return among_best || scratch.warped[i] >= threshold;
  });
}

void Warpers::typical_p(ChoiceScratch& scratch, Candidates& left) const {
  scratch.warped.resize(left.size());
  softmax(left.scores, scratch.warped);
  std::vector<float>& log_p = scratch.ordered;
  log_p = left.scores;
  log_softmax(log_p);
  double sum = 0;
  for (size_t i = 0; i < log_p.size(); ++i) sum -= static_cast<double>(log_p[i] * exp_nonpositive(log_p[i]));
  const auto expected = static_cast<float>(sum);
  scratch.items.clear();
  scratch.items.reserve(left.size());  // growing would take twice as much
  for (uint32_t i = 0; i < left.size(); ++i)
    scratch.items.push_back({std::fabs(-log_p[i] - expected), i, scratch.warped[i]});
  const auto mass = static_cast<float>(typical_p_);
  const size_t last = walk_mass(scratch.items, 0, [&](float cumulative) { return cumulative < mass; });
  if (last >= scratch.items.size()) return;
  const auto by_key = [](const Item& a, const Item& b) {
    return a.key != b.key ? a.key < b.key : a.index < b.index;
  };
  std::nth_element(scratch.items.begin(), scratch.items.begin() + last, scratch.items.end(), by_key);
  const float limit = scratch.items[last].key;
  const size_t kept = std::min(min_kept_, scratch.items.size());
  std::nth_element(scratch.items.begin(), scratch.items.begin() + (kept - 1), scratch.items.end(), by_key);
  scratch.removed.assign(left.size(), false);
  for (size_t i = kept; i < scratch.items.size(); ++i)
    scratch.removed[scratch.items[i].index] = scratch.items[i].key > limit;
  left.keep_if([&](size_t i) { return !scratch.removed[i]; });
}

// Removes what is less likely than `probability` and not among the m best; scratch.warped is up to date.
void Warpers::cut_below(float probability, ChoiceScratch& scratch, Candidates& left) const {
  const float floor = mth_best(scratch, left);
  left.keep_if([&](size_t i) { return scratch.warped[i] >= probability || left.scores[i] >= floor; });
}

void Warpers::eta(ChoiceScratch& scratch, Candidates& left) const {
  scratch.warped.resize(left.size());
  softmax(left.scores, scratch.warped);
  const auto epsilon = static_cast<float>(eta_);
  const auto h = static_cast<float>(entropy(left.scores, scratch.warped));
  cut_below(std::min(epsilon, std::sqrt(epsilon) * std::exp(-h)), scratch, left);
}

}  // namespace rhapsode::generation
