#include "runtime/perplexity.h"

#include <algorithm>
#include <cmath>

namespace rhapsode::runtime {
namespace {

// log(sum(exp(row))) in double: the row may be long and its values far apart.
double log_sum_exp(std::span<const float> row) {
  const float highest = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (float x : row) sum += std::exp(static_cast<double>(x) - static_cast<double>(highest));
  return static_cast<double>(highest) + std::log(sum);
}

// Sum of the negative log-likelihoods of ids[first_scored .. end) given what precedes them in the window.
double score_window(Session& session, std::span<const uint32_t> window, uint64_t first_scored) {
  model::Decoder& decoder = session.decoder();
  const plan::StepLimits& limits = decoder.limits();
  const uint64_t step = std::min<uint64_t>(limits.chunk_tokens, limits.logits_rows);
  model::Sequence sequence;
  double nll = 0;
  // The last token predicts nothing that is scored, but it may hold an outlier column of int8.
  for (uint64_t done = 0; done < window.size();) {
    const uint64_t count = std::min(step, window.size() - done);
    const model::Span span{&sequence, window.subspan(done, count), static_cast<uint32_t>(count),
                           window.size()};
    decoder.forward({&span, 1});
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t target = done + i + 1;
      if (target < first_scored || target == window.size()) continue;
      const std::span<const float> row = decoder.logits(static_cast<uint32_t>(i));
      nll += log_sum_exp(row) - static_cast<double>(row[window[target]]);
    }
    done += count;
  }
  session.cache().release(sequence);
  return nll;
}

}  // namespace

Perplexity perplexity(Session& session, std::span<const uint32_t> ids, uint64_t window, uint64_t stride,
                      const std::function<void(uint64_t done, uint64_t total)>& progress) {
  Perplexity out;
  double nll = 0;
  uint64_t scored_end = 1;  // the first token of all has nothing before it
  for (uint64_t begin = 0; scored_end < ids.size(); begin += stride) {
    const uint64_t end = std::min<uint64_t>(begin + window, ids.size());
    const uint64_t first_scored = std::max(scored_end, begin + 1);
    if (first_scored < end) {
      nll += score_window(session, ids.subspan(begin, end - begin), first_scored - begin);
      out.tokens += end - first_scored;
      scored_end = end;
    }
    if (progress) progress(end, ids.size());
    if (end == ids.size()) break;
  }
  out.nll = nll / static_cast<double>(out.tokens);
  out.ppl = std::exp(out.nll);
  return out;
}

}  // namespace rhapsode::runtime
