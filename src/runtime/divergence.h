// How far a model's answers are from those that it should give: the mean Kullback-Leibler divergence of the
// next-token distribution, in nats a token, on a text. Owns the distributions to compare with; knows no
// formats.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "runtime/session.h"

namespace rhapsode::runtime {

// Called after each pass with the tokens of it; may throw to stop.
using MeasuredTokens = std::function<void(uint64_t tokens)>;

class Divergence {
 public:
  // Runs the text through `reference`, in windows of so many tokens, each a context of its own. Holds
  // ids.size() * vocab_size probabilities.
  Divergence(Session& reference, std::vector<uint32_t> ids, uint64_t window, MeasuredTokens measured);

  static uint64_t bytes(uint64_t tokens, uint64_t vocab_size) { return tokens * vocab_size * sizeof(float); }

  // On the first so many tokens of the text. 0 where `session` gives the same distributions, bit for bit.
  double of(Session& session, uint64_t tokens) const;
  uint64_t tokens() const { return ids_.size(); }

 private:
  std::vector<uint32_t> ids_;
  uint64_t window_;
  MeasuredTokens measured_;
  std::vector<float> probabilities_;  // [ids][vocab_size]
  std::vector<double> entropies_;     // [ids], negative: sum of p log p
};

}  // namespace rhapsode::runtime
