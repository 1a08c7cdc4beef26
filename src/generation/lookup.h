// Drafts from the text itself: what followed the last few ids earlier. Owns the search rule (transformers'
// PromptLookupCandidateGenerator, 5.23); whether a draft is right is decided by the model's own scores.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace rhapsode::generation {

struct LookupLimits {
  uint64_t draft_tokens;    // at most so many
  uint64_t matching_ngram;  // longest suffix that is looked for, then shorter ones
  uint64_t max_length;      // of the whole row, prompt included
};

// True where `token` cannot follow `ids`.
using ForbidsToken = std::function<bool(std::span<const uint32_t> ids, uint32_t token)>;
using IsEos = std::function<bool(uint32_t token)>;

// The first match from the left wins whose continuation starts with an allowed token; the draft ends before a
// forbidden token, before an end-of-sequence id, and so that one more token fits. Empty = no draft.
std::vector<uint32_t> lookup_draft(std::span<const uint32_t> ids, const LookupLimits& limits,
                                   const ForbidsToken& forbids, const IsEos& is_eos);

}  // namespace rhapsode::generation
