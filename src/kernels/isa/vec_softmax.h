// What of attention stands between the products of queries by keys and those of weights by values: scores,
// and weights by a running softmax. Needs a vec_<isa>.h before it.
#pragma once

#include "kernels/isa/vec_math.h"
#include "kernels/isa/vec_rows.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

constexpr float kMinusInfinity = -__builtin_inff();

struct Visible {
  uint32_t begin;
  uint32_t end;
  bool empty() const { return begin >= end; }
  bool whole() const { return begin == 0 && end == kBlockTokens; }
};

inline Visible visible(const AttendBlock& block, uint32_t query) {
  return {block.begin[query], block.end[query]};
}

// The tokens that any query sees.
inline Visible visible_to_any(const AttendBlock& block) {
  Visible all{kBlockTokens, 0};
  for (uint32_t query = 0; query < block.queries; ++query) {
    const Visible one = visible(block, query);
    if (one.empty()) continue;
    all.begin = one.begin < all.begin ? one.begin : all.begin;
    all.end = one.end > all.end ? one.end : all.end;
  }
  return all;
}

// A dot product becomes a score.
template <bool Int8, bool Capped>
inline F score_of(const AttendBlock& block, uint32_t token, F dot) {
  if constexpr (Int8) dot = dot * load(block.k_scales + token);
  F score = dot * splat(block.scale);
  if constexpr (Capped) score = splat(block.softcap) * tanh_of(score / splat(block.softcap));
  return score;
}

// Scores of one row where it sees them, -inf elsewhere; returns the highest.
template <bool Int8, bool Capped>
inline float score_row(const AttendBlock& block, Visible seen, float* p) {
  F top = splat(kMinusInfinity);
  if (seen.whole()) {
    for (uint32_t j = 0; j < kBlockTokens; j += kWidth) {
      const F score = score_of<Int8, Capped>(block, j, load(p + j));
      store(p + j, score);
      top = larger(score, top);
    }
    return largest(top);
  }
  for (uint32_t j = seen.begin / kWidth * kWidth; j < seen.end; j += kWidth) {
    const F score = choose(lanes_between(j, seen.begin, seen.end),
                           score_of<Int8, Capped>(block, j, load(p + j)), splat(kMinusInfinity));
    store(p + j, score);
    top = larger(score, top);
  }
  return largest(top);
}

// What the values are multiplied by: floats.
template <bool Int8>
struct FloatWeights {
  static constexpr bool kInt8 = Int8;
  static constexpr uint32_t kStride = kBlockTokens;  // of rows of scratch
  static constexpr uint32_t kScores = 0;             // where a row's scores begin

  static F corrected(F o, F factor) { return o * factor; }
  static void see_nothing(float*) {}
  // Scores become weights of score - maximum where they are seen; returns their sum. Of int8, what is
  // stored is multiplied by the values' scales already.
  static float weigh_row(const AttendBlock& block, Visible seen, float maximum, float* p) {
    F partials[kPartialVectors];
    for (F& partial : partials) partial = zero();
    const auto keep = [&](uint32_t j, F weight) {
      F& partial = partials[j / kWidth % kPartialVectors];
      partial = partial + weight;
      if constexpr (Int8) weight = weight * load(block.v_scales + j);
      store(p + j, weight);
    };
    if (seen.whole()) {
      for (uint32_t j = 0; j < kBlockTokens; j += kWidth) keep(j, weight_of(load(p + j) - splat(maximum)));
      return total(partials);
    }
    for (uint32_t j = seen.begin / kWidth * kWidth; j < seen.end; j += kWidth)
      keep(j,
           choose(lanes_between(j, seen.begin, seen.end), weight_of(load(p + j) - splat(maximum)), zero()));
    return total(partials);
  }
};

// Dot products of all rows become weights; m, l and o are brought up to them. Row by row the steps depend on
// one another, so each step runs over many rows.
template <class Weights, bool Capped>
inline void weigh(const AttendBlock& block) {
  constexpr uint32_t kRows = 64;
  alignas(64) float before[kRows], correction[kRows];
  for (uint32_t first = 0; first < block.queries; first += kRows) {
    const uint32_t rows = block.queries - first < kRows ? block.queries - first : kRows;
    float* m = block.m + first;
    float* p = block.scratch + uint64_t{first} * Weights::kStride + Weights::kScores;
    for (uint32_t r = 0; r < rows; ++r) {
      before[r] = 0.0f;
      const Visible seen = visible(block, first + r);
      if (seen.empty()) continue;
      const float highest = score_row<Weights::kInt8, Capped>(block, seen, p + r * Weights::kStride);
      before[r] = m[r];
      m[r] = (highest > before[r] ? highest : before[r]) + 0.0f;
      before[r] = before[r] - m[r];
    }
    for (uint32_t r = rows; r % kWidth != 0; ++r) before[r] = 0.0f;
    for (uint32_t r = 0; r < rows; r += kWidth) store(correction + r, weight_of(load(before + r)));
    for (uint32_t r = 0; r < rows; ++r) {
      const Visible seen = visible(block, first + r);
      if (seen.empty()) {
        Weights::see_nothing(p + r * Weights::kStride);
        continue;
      }
      float& l = block.l[first + r];
      l = l * correction[r] + Weights::weigh_row(block, seen, m[r], p + r * Weights::kStride);
      if (correction[r] == 1.0f) continue;
      const F factor = splat(correction[r]);
      float* o = block.o + uint64_t{first + r} * block.head_dim;
      along(block.head_dim, [=](auto at) { at.store(o, Weights::corrected(at.load(o), factor)); });
    }
  }
}
template <class Weights>
inline void weigh(const AttendBlock& block) {
  if (block.softcap != 0.0f)
    weigh<Weights, true>(block);
  else
    weigh<Weights, false>(block);
}

}  // namespace
}  // namespace rhapsode::kernels
