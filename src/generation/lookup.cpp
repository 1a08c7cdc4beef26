// See lookup.h.
#include "generation/lookup.h"

#include <algorithm>

namespace rhapsode::generation {
namespace {

// How much of `draft` the rules allow after `ids`.
size_t allowed_tokens(std::span<const uint32_t> ids, std::span<const uint32_t> draft,
                      const ForbidsToken& forbids) {
  std::vector<uint32_t> row(ids.begin(), ids.end());
  for (size_t i = 0; i < draft.size(); ++i) {
    if (forbids(row, draft[i])) return i;
    row.push_back(draft[i]);
  }
  return draft.size();
}

}  // namespace

std::vector<uint32_t> lookup_draft(std::span<const uint32_t> ids, const LookupLimits& limits,
                                   const ForbidsToken& forbids, const IsEos& is_eos) {
  if (ids.empty() || ids.size() + 1 >= limits.max_length) return {};
  // The last of the tokens that fit is the model's own.
  const size_t most = std::min<size_t>(limits.draft_tokens, limits.max_length - ids.size() - 1);
  for (size_t size = std::min<size_t>(limits.matching_ngram, ids.size() - 1); size > 0; --size) {
    const auto suffix = ids.last(size);
    // Equal at its own end too, where nothing follows.
    for (size_t i = 0; i + size < ids.size(); ++i) {
      if (!std::equal(suffix.begin(), suffix.end(), ids.begin() + i)) continue;
      auto draft = ids.subspan(i + size, std::min(most, ids.size() - i - size));
      draft = draft.first(allowed_tokens(ids, draft, forbids));
      if (draft.empty()) continue;
      return {draft.begin(), std::find_if(draft.begin(), draft.end(), is_eos)};
    }
  }
  return {};
}

}  // namespace rhapsode::generation
