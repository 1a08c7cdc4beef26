// The rules that narrow a distribution before it is sampled: temperature, top_k, top_p, min_p, typical_p,
// epsilon, eta, then renormalisation, in that order. Owns the order and the rule for ties (the lowest ids go
// first where a rule must choose); knows no ids but as positions.
#pragma once

#include <span>
#include <vector>

#include "generation/choice_scratch.h"

namespace rhapsode::generation {

class Warpers {
 public:
  // With beams a rule keeps at least one token more than there are end-of-sequence ids.
  explicit Warpers(const Params& params);

  void apply(std::span<const float> row, ChoiceScratch& scratch, Candidates& left) const;

 private:
  void top_p(ChoiceScratch& scratch, Candidates& left) const;
  void min_p(ChoiceScratch& scratch, Candidates& left) const;
  void typical_p(ChoiceScratch& scratch, Candidates& left) const;
  void cut_below(float probability, ChoiceScratch& scratch, Candidates& left) const;
  void eta(ChoiceScratch& scratch, Candidates& left) const;
  // Score of the m-th best candidate, m = min_kept_.
  float mth_best(ChoiceScratch& scratch, const Candidates& left) const;

  double temperature_, top_p_, min_p_, typical_p_, epsilon_, eta_;
  size_t top_k_, min_kept_;
  bool renormalize_;
};

}  // namespace rhapsode::generation
