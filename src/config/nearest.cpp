// Owns the edit distance; refuses to know what the words are.
#include "config/nearest.h"

#include <algorithm>
#include <cstdint>

namespace rhapsode::config {
namespace {

std::string folded(std::string_view word) {
  std::string out(word);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (c == '-' || c == ' ') c = '_';
  }
  return out;
}

uint32_t distance(const std::string& a, const std::string& b) {
  std::vector<uint32_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = static_cast<uint32_t>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = static_cast<uint32_t>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0u : 1u)});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = last;
    last = row;
  }
  return last[b.size()];
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& known) {
  const std::string wanted = folded(word);
  if (wanted.empty() || wanted.size() > 64) return "";
  std::string best;
  uint32_t best_distance = UINT32_MAX;
  for (const std::string& candidate : known) {
    if (candidate.size() > 64) continue;
    const uint32_t d = distance(wanted, folded(candidate));
    if (d < best_distance) best_distance = d, best = candidate;
  }
  const uint32_t allowed =
      std::max<uint32_t>(1, static_cast<uint32_t>(std::max(wanted.size(), best.size())) * 2 / 5);
  return best_distance <= allowed ? best : "";
}

}  // namespace rhapsode::config
