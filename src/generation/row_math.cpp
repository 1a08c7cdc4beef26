// See row_math.h. Loops run over fixed numbers of lanes so that the compiler turns them into vector code.
#include "generation/row_math.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

#include "base/error.h"

namespace rhapsode::generation {
namespace {

constexpr size_t kLanes = 16;
constexpr float kInf = std::numeric_limits<float>::infinity();

[[noreturn]] void throw_nan() {
  throw Error(ErrorKind::runtime, "scores-nan", "the scores of the next token contain a NaN")
      .saw("NaN")
      .want("numbers or infinities")
      .hint("use a wider dtype, or set remove_invalid_values: true");
}

// Largest of kRowBlock scores; sets `ordered` to 0 if one of them is a NaN.
float whole_block_max(const float* block, int32_t& ordered) {
  float best[kLanes];
  int32_t good[kLanes];
  for (size_t l = 0; l < kLanes; ++l) best[l] = block[l], good[l] = block[l] == block[l];
  for (size_t i = kLanes; i < kRowBlock; i += kLanes) {
    for (size_t l = 0; l < kLanes; ++l) {
      const float x = block[i + l];
      best[l] = x > best[l] ? x : best[l];
      good[l] &= x == x;
    }
  }
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t l = 0; l < half; ++l) {
      best[l] = best[l + half] > best[l] ? best[l + half] : best[l];
      good[l] &= good[l + half];
    }
  }
  ordered &= good[0];
  return best[0];
}

float part_block_max(std::span<const float> block, int32_t& ordered) {
  float best = -kInf;
  for (const float x : block) {
    best = x > best ? x : best;
    ordered &= x == x;
  }
  return best;
}

template <class Visit>
void for_each_block(std::span<const float> row, Visit visit) {
  int32_t ordered = 1;
  size_t start = 0;
  for (; start + kRowBlock <= row.size(); start += kRowBlock)
    visit(start, whole_block_max(row.data() + start, ordered));
  if (start < row.size()) visit(start, part_block_max(row.subspan(start), ordered));
  if (!ordered) throw_nan();
}

// The k-th largest score, 1 <= k <= size.
float kth_largest(std::span<const float> row, size_t k, TopKScratch& scratch) {
  std::vector<float>& ordered = scratch.ordered;
  if (k > scratch.maxima.size()) {
    ordered.assign(row.begin(), row.end());
  } else {
    // k blocks have a maximum of at least `bound`, so the k largest scores are among those that reach it.
    ordered.assign(scratch.maxima.begin(), scratch.maxima.end());
    std::nth_element(ordered.begin(), ordered.begin() + (k - 1), ordered.end(), std::greater<>());
    const float bound = ordered[k - 1];
    ordered.clear();
    for (size_t b = 0; b < scratch.maxima.size(); ++b) {
      if (!(scratch.maxima[b] >= bound)) continue;
      for (const float x : row.subspan(b * kRowBlock, std::min(kRowBlock, row.size() - b * kRowBlock)))
        if (x >= bound) ordered.push_back(x);
    }
  }
  std::nth_element(ordered.begin(), ordered.begin() + (k - 1), ordered.end(), std::greater<>());
  return ordered[k - 1];
}

float finite_max(std::span<const float> row) {
  float best = -kInf;
  for_each_block(row, [&](size_t, float m) { best = std::max(best, m); });
  if (!std::isfinite(best)) {
    throw Error(ErrorKind::runtime, "no-distribution", "the scores of the next token are no distribution")
        .saw(best > 0 ? "an infinite score" : "every token forbidden (-inf)")
        .want("at least one finite score and none that is +inf")
        .hint(
            "relax the rules that forbid tokens (bad_words_ids, suppress_tokens, no_repeat_ngram_size, ...)");
  }
  return best;
}

// out[i] = exp(row[i] - max); returns the sum.
double exponentials(std::span<const float> row, float max, float* out) {
  constexpr size_t kStep = 8;
  double sums[kStep] = {};
  float values[kStep];
  size_t i = 0;
  for (; i + kStep <= row.size(); i += kStep) {
    for (size_t l = 0; l < kStep; ++l) values[l] = exp_nonpositive(row[i + l] - max);
    for (size_t l = 0; l < kStep; ++l) sums[l] += values[l];
    if (out != nullptr) std::copy_n(values, kStep, out + i);
  }
  for (; i < row.size(); ++i) {
    const float value = exp_nonpositive(row[i] - max);
    sums[0] += value;
    if (out != nullptr) out[i] = value;
  }
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace

uint32_t argmax(std::span<const float> row) {
  float best = -kInf;
  size_t block = 0;
  for_each_block(row, [&](size_t start, float m) {
    if (m > best) best = m, block = start;
  });
  while (block < row.size() && row[block] != best) ++block;
  return static_cast<uint32_t>(block);
}

void block_maxima(std::span<const float> row, std::vector<float>& maxima) {
  maxima.clear();
  for_each_block(row, [&](size_t, float m) { maxima.push_back(m); });
}

void select_top_k(std::span<const float> row, size_t k, float temperature, TopKScratch& scratch,
                  Candidates& out) {
  out.clear();
  block_maxima(row, scratch.maxima);
  const bool all = k >= row.size();
  if (all) out.reserve(row.size());  // growing would take twice as much
  const float kth = all ? -kInf : kth_largest(row, k, scratch);
  const float threshold = kth / temperature;
  // Division may round a slightly smaller score onto the threshold: look a little below the k-th score, then
  // compare the quotients themselves.
  const float cut = std::isfinite(kth) ? kth - std::fabs(kth) * 0x1p-21f - 0x1p-126f : kth;
  for (size_t b = 0; b < scratch.maxima.size(); ++b) {
    if (!(scratch.maxima[b] >= cut)) continue;
    const size_t end = std::min(row.size(), (b + 1) * kRowBlock);
    for (size_t i = b * kRowBlock; i < end; ++i) {
      if (row[i] < cut || row[i] == -kInf) continue;
      const float scaled = row[i] / temperature;
      if (scaled >= threshold) out.add(static_cast<uint32_t>(i), scaled);
    }
  }
}

float exp_nonpositive(float x) {
  constexpr float kLowest = -87.0f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float y = x > kLowest ? x : kLowest;
  const float n = (y * 1.44269504f + kRound) - kRound;
  // ln 2 in two parts, the first with few enough bits that n * first is exact.
  const float r = (y - n * 0.693145752f) - n * 1.42860677e-6f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const float power = std::bit_cast<float>((static_cast<int32_t>(n) + 127) * (1 << 23));
  return x > kLowest ? p * power : 0.0f;
}

void softmax(std::span<const float> row, std::span<float> out) {
  const auto sum = static_cast<float>(exponentials(row, finite_max(row), out.data()));
  for (float& x : out) x /= sum;
}

void log_softmax(std::span<float> row) {
  const float max = finite_max(row);
  const auto log_sum = static_cast<float>(std::log(exponentials(row, max, nullptr)));
  for (float& x : row) x = x - max - log_sum;
}

}  // namespace rhapsode::generation
