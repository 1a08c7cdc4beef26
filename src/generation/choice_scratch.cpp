#include "generation/choice_scratch.h"

#include <algorithm>

#include "generation/processors.h"

namespace rhapsode::generation {
namespace {

constexpr uint64_t kScore = sizeof(float), kId = sizeof(uint32_t);

}  // namespace

uint64_t scratch_bytes(const Params& params, uint64_t vocab_size, bool traced) {
  // Trace: an order of all that could be chosen.
  if (!is_sampling(params)) return traced ? vocab_size * (kScore + kId) : 0;
  const uint64_t kept =
      params.top_k == 0 ? vocab_size : std::min(vocab_size, static_cast<uint64_t>(params.top_k));
  const auto below_one = [](const std::optional<double>& value) { return value && *value < 1.0; };
  const bool typical = below_one(params.typical_p);
  const bool cut = params.min_p || params.epsilon_cutoff.value_or(0) > 0 || params.eta_cutoff.value_or(0) > 0;
  uint64_t each = kId + 2 * kScore;  // candidates and their probabilities
  if (params.top_p < 1.0 || typical || cut) each += kScore;
  if (params.top_p < 1.0 || typical) each += sizeof(ChoiceScratch::Item);
  if (typical || cut) each += kScore;
  if (traced) each += kId;
  return kept * each + vocab_size / kRowBlock * kScore;
}

uint64_t beam_bytes(const Params& params, uint64_t vocab_size) {
  const uint64_t rows = is_sampling(params) ? static_cast<uint64_t>(params.num_beams) : 2;
  return rows * vocab_size * kScore;
}

}  // namespace rhapsode::generation
