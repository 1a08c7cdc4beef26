// Perplexity of a token sequence in windows: each window is a fresh context; tokens already scored by the
// previous window (stride < window) only serve as context, as in transformers' documentation of perplexity.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "runtime/session.h"

namespace rhapsode::runtime {

struct Perplexity {
  uint64_t tokens = 0;  // scored
  double nll = 0;       // mean negative log-likelihood, natural logarithm
  double ppl = 0;
};

// window >= 2, 1 <= stride <= window; at least two ids.
Perplexity perplexity(Session& session, std::span<const uint32_t> ids, uint64_t window, uint64_t stride,
                      const std::function<void(uint64_t done, uint64_t total)>& progress);

}  // namespace rhapsode::runtime
