// The tokens that may still be drawn and their scores. Owns nothing but the two arrays: ids ascend, scores[i]
// belongs to ids[i]; every id that is absent has the score -inf. Knows no rule that removes tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rhapsode::generation {

struct Candidates {
  std::vector<uint32_t> ids;
  std::vector<float> scores;

  size_t size() const { return ids.size(); }
  void reserve(size_t count) { ids.reserve(count), scores.reserve(count); }
  void clear() { ids.clear(), scores.clear(); }
  void add(uint32_t id, float score) { ids.push_back(id), scores.push_back(score); }

  // Keeps the entries i with keep(i), in order.
  template <class Keep>
  void keep_if(Keep keep) {
    size_t kept = 0;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (!keep(i)) continue;
      ids[kept] = ids[i], scores[kept] = scores[i];
      ++kept;
    }
    ids.resize(kept), scores.resize(kept);
  }
};

}  // namespace rhapsode::generation
