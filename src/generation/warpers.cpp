// See warpers.h.
#include "generation/warpers.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace rhapsode::generation {
namespace {

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

void Warpers::apply(std::span<const float> row, Candidates& left) {
  select_top_k(row, top_k_, static_cast<float>(temperature_), scratch_, left);
  if (top_p_ < 1.0) top_p(left);
  if (min_p_ >= 0.0) min_p(left);
  if (typical_p_ < 1.0) typical_p(left);
  if (epsilon_ > 0.0) {
    probabilities_.resize(left.size());
    softmax(left.scores, probabilities_);
    cut_below(static_cast<float>(epsilon_), left);
  }
  if (eta_ > 0.0) eta(left);
  if (renormalize_) log_softmax(left.scores);
}

template <class GoesOn>
size_t Warpers::walk_mass(double mass, GoesOn goes_on) {
  const auto before = [](const Item& a, const Item& b) {
    return a.key != b.key ? a.key < b.key : a.index < b.index;
  };
  // Quickselect by mass: halve the range that holds the boundary instead of sorting everything.
  constexpr ptrdiff_t kSortRange = 48;
  auto begin = items_.begin(), end = items_.end();
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
  return begin - items_.begin();
}

void Warpers::top_p(Candidates& left) {
  if (left.size() <= min_kept_) return;
  probabilities_.resize(left.size());
  softmax(left.scores, probabilities_);
  const auto limit = static_cast<float>(1.0 - top_p_);
  // Tokens so unlikely that all of them together stay below half the limit go without being ordered; their
  // mass counts.
  const float negligible = 0.5f * limit / static_cast<float>(left.size());
  float best = 0;
  for (const float p : probabilities_) best = std::max(best, p);
  double mass = 0;
  items_.clear();
  for (uint32_t i = 0; i < left.size(); ++i) {
    if (min_kept_ == 1 && probabilities_[i] < negligible && probabilities_[i] < best) {
      mass += static_cast<double>(probabilities_[i]);
    } else {
      items_.push_back({left.scores[i], i, probabilities_[i]});
    }
  }
  size_t removed = walk_mass(mass, [&](float sum) { return sum <= limit; });
  const size_t most = items_.size() - std::min(items_.size(), min_kept_);
  if (removed > most) {
    removed = most;
    std::nth_element(
        items_.begin(), items_.begin() + removed, items_.end(),
        [](const Item& a, const Item& b) { return a.key != b.key ? a.key < b.key : a.index < b.index; });
  }
  removed_.assign(left.size(), true);
  for (size_t i = removed; i < items_.size(); ++i) removed_[items_[i].index] = false;
  left.keep_if([&](size_t i) { return !removed_[i]; });
}

float Warpers::mth_best(const Candidates& left) {
  if (left.size() <= min_kept_) return -std::numeric_limits<float>::infinity();
  ordered_ = left.scores;
  std::nth_element(ordered_.begin(), ordered_.begin() + (min_kept_ - 1), ordered_.end(), std::greater<>());
  return ordered_[min_kept_ - 1];
}

void Warpers::min_p(Candidates& left) {
  probabilities_.resize(left.size());
  softmax(left.scores, probabilities_);
  const float best = *std::max_element(probabilities_.begin(), probabilities_.end());
  const float threshold = static_cast<float>(min_p_) * best;
  // The m best stay whatever their probability; among equals the lowest id.
  const float floor = mth_best(left);
  size_t above = 0;
  for (const float s : left.scores) above += s > floor;
  size_t ties = min_kept_ - std::min(min_kept_, above);
  left.keep_if([&](size_t i) {
    const bool among_best = left.scores[i] > floor || (left.scores[i] == floor && ties > 0 && ties--);
    return among_best || probabilities_[i] >= threshold;
  });
}

void Warpers::typical_p(Candidates& left) {
  probabilities_.resize(left.size());
  softmax(left.scores, probabilities_);
  std::vector<float>& log_p = ordered_;
  log_p = left.scores;
  log_softmax(log_p);
  double sum = 0;
  for (size_t i = 0; i < log_p.size(); ++i) sum -= static_cast<double>(log_p[i] * exp_nonpositive(log_p[i]));
  const auto expected = static_cast<float>(sum);
  items_.clear();
  for (uint32_t i = 0; i < left.size(); ++i)
    items_.push_back({std::fabs(-log_p[i] - expected), i, probabilities_[i]});
  const auto mass = static_cast<float>(typical_p_);
  const size_t last = walk_mass(0, [&](float cumulative) { return cumulative < mass; });
  if (last >= items_.size()) return;
  const auto by_key = [](const Item& a, const Item& b) {
    return a.key != b.key ? a.key < b.key : a.index < b.index;
  };
  std::nth_element(items_.begin(), items_.begin() + last, items_.end(), by_key);
  const float limit = items_[last].key;
  const size_t kept = std::min(min_kept_, items_.size());
  std::nth_element(items_.begin(), items_.begin() + (kept - 1), items_.end(), by_key);
  removed_.assign(left.size(), false);
  for (size_t i = kept; i < items_.size(); ++i) removed_[items_[i].index] = items_[i].key > limit;
  left.keep_if([&](size_t i) { return !removed_[i]; });
}

// Removes what is less likely than `probability` and not among the m best; probabilities_ is up to date.
void Warpers::cut_below(float probability, Candidates& left) {
  const float floor = mth_best(left);
  left.keep_if([&](size_t i) { return probabilities_[i] >= probability || left.scores[i] >= floor; });
}

void Warpers::eta(Candidates& left) {
  probabilities_.resize(left.size());
  softmax(left.scores, probabilities_);
  const auto epsilon = static_cast<float>(eta_);
  const auto h = static_cast<float>(entropy(left.scores, probabilities_));
  cut_below(std::min(epsilon, std::sqrt(epsilon) * std::exp(-h)), left);
}

}  // namespace rhapsode::generation
