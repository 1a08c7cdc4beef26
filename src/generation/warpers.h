// The rules that narrow a distribution before it is sampled: temperature, top_k, top_p, min_p, typical_p,
// epsilon, eta, then renormalisation, in that order. Owns the order and the rule for ties (the lowest ids go
// first where a rule must choose); knows no ids but as positions.
#pragma once

#include <span>
#include <vector>

#include "generation/candidates.h"
#include "generation/params.h"
#include "generation/row_math.h"

namespace rhapsode::generation {

class Warpers {
 public:
  // With beams a rule keeps at least one token more than there are end-of-sequence ids.
  explicit Warpers(const Params& params);

  void apply(std::span<const float> row, Candidates& left);

 private:
  struct Item {
    float key;
    uint32_t index;  // into the candidates
    float probability;
  };
  // Walks items by (key, index) ascending, adding up probabilities, while `goes_on(float32 sum)`; returns how
  // many were walked. Items before that point are in front, in no order.
  template <class GoesOn>
  size_t walk_mass(double mass, GoesOn goes_on);
  void top_p(Candidates& left);
  void min_p(Candidates& left);
  void typical_p(Candidates& left);
  void cut_below(float probability, Candidates& left);
  void eta(Candidates& left);
  // Score of the m-th best candidate, m = min_kept_.
  float mth_best(const Candidates& left);

  double temperature_, top_p_, min_p_, typical_p_, epsilon_, eta_;
  size_t top_k_, min_kept_;
  bool renormalize_;
  TopKScratch scratch_;
  std::vector<float> probabilities_, ordered_;
  std::vector<Item> items_;
  std::vector<bool> removed_;
};

}  // namespace rhapsode::generation
