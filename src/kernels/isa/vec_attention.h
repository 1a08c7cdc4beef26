// Attention over one block of 64 tokens on vectors: scores and values are the register tiles of vec_matmul.h
// over pieces of K and V that are widened to float once and shared by all query rows. Needs a vec_<isa>.h,
// vec_math.h, vec_rows.h and vec_matmul.h before it.
#pragma once

#include "kernels/isa/vec_math.h"
#include "kernels/isa/vec_matmul.h"
#include "kernels/isa/vec_rows.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

constexpr uint32_t kPieceRows = 64;     // rows of a widened piece of K (head dims) or V (tokens)
constexpr uint32_t kPieceColumns = 32;  // as wide as a register tile
constexpr float kMinusInfinity = -__builtin_inff();

struct RowSteps {
  uint64_t stride;
  uint64_t at(uint32_t r, uint64_t k) const { return r * stride + k; }
};

// rows x count values of D, `stride` elements apart, to piece[row][32]; columns beyond count become zero.
inline void widen(Dtype D, const uint8_t* from, uint64_t stride, uint32_t rows, uint32_t count,
                  float* piece) {
  const uint64_t width = width_of(D);
  for (uint32_t row = 0; row < rows; ++row, from += stride * width, piece += kPieceColumns) {
    if (count == kPieceColumns) {
      for (uint32_t i = 0; i < kPieceColumns; i += kWidth) store(piece + i, load_as(D, from + i * width));
    } else {
      for (uint32_t i = 0; i < kPieceColumns; i += kWidth) store(piece + i, zero());
      load_row(D, from, count, piece);
    }
  }
}

struct Visible {
  uint32_t begin;
  uint32_t end;
  bool empty() const { return begin >= end; }
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

// scores[query][token] = dot(q, k), unscaled, at least for the tokens of `all`.
inline void dot_scores(const AttendBlock& block, Visible all) {
  const uint8_t* k = static_cast<const uint8_t*>(block.k);
  alignas(64) float piece[kPieceRows * kPieceColumns];
  for (uint32_t token = all.begin / kPieceColumns * kPieceColumns; token < all.end; token += kPieceColumns) {
    for (uint32_t d = 0; d < block.head_dim; d += kPieceRows) {
      const uint32_t dims = block.head_dim - d < kPieceRows ? block.head_dim - d : kPieceRows;
      widen(block.kv_dtype, k + (uint64_t{d} * kBlockTokens + token) * width_of(block.kv_dtype), kBlockTokens,
            dims, kPieceColumns, piece);
      for (uint32_t query = 0; query < block.queries; query += kGemmTokens) {
        const uint32_t rows = block.queries - query < kGemmTokens ? block.queries - query : kGemmTokens;
        tile_of<kGemmTokens>(
            rows,
            Tile{piece, block.q + query * block.q_stride + d, dims,
                 block.scores + uint64_t{query} * kBlockTokens + token, kBlockTokens, d == 0},
            RowSteps{block.q_stride});
      }
    }
  }
}

// Turns one row of dot products into weights exp(score - m), masked tokens 0, and brings m, l and o up to it.
inline void weigh(const AttendBlock& block, uint32_t query) {
  const Visible seen = visible(block, query);
  if (seen.empty()) return;
  float* p = block.scores + uint64_t{query} * kBlockTokens;
  F top = splat(kMinusInfinity);
  for (uint32_t j = 0; j < kBlockTokens; j += kWidth) {
    if (j + kWidth <= seen.begin || j >= seen.end) continue;
    F s = load(p + j) * splat(block.scale);
    if (block.softcap != 0.0f) s = splat(block.softcap) * tanh_of(s / splat(block.softcap));
    s = choose(lanes_between(j, seen.begin, seen.end), s, splat(kMinusInfinity));
    store(p + j, s);
    top = larger(s, top);
  }
  const float before = block.m[query];
  const float highest = largest(top);
  const float maximum = (highest > before ? highest : before) + 0.0f;
  F partials[kPartialVectors];
  for (F& partial : partials) partial = zero();
  for (uint32_t j = 0; j < kBlockTokens; j += kWidth) {
    F weight = zero();
    if (j + kWidth > seen.begin && j < seen.end)
      weight = choose(lanes_between(j, seen.begin, seen.end), exp_of(load(p + j) - splat(maximum)), zero());
    store(p + j, weight);
    F& partial = partials[j / kWidth % kPartialVectors];
    partial = partial + weight;
  }
  block.m[query] = maximum;
  float correction[kWidth];
  store(correction, exp_of(splat(before - maximum)));
  block.l[query] = block.l[query] * correction[0] + total(partials);
  if (correction[0] == 1.0f) return;
  float* o = block.o + uint64_t{query} * block.head_dim;
  along(block.head_dim, [=](auto at) { at.store(o, at.load(o) * splat(correction[0])); });
}

// Where a run of tokens meets a group of query rows: values of these tokens are added to these rows of o.
struct ValueTile {
  const AttendBlock& block;
  const float* piece;  // [64 tokens][32], the head dims [d, d + count) of V
  uint32_t d;
  uint32_t count;
};

inline void add_values(const ValueTile& at, uint32_t query, uint32_t rows, Visible tokens) {
  if (tokens.empty()) return;
  const AttendBlock& block = at.block;
  float* o = block.o + uint64_t{query} * block.head_dim + at.d;
  Tile tile{at.piece + tokens.begin * kPieceColumns,
            block.scores + uint64_t{query} * kBlockTokens + tokens.begin,
            tokens.end - tokens.begin,
            o,
            block.head_dim,
            false};
  if (at.count == kPieceColumns) return tile_of<kGemmTokens>(rows, tile, RowSteps{kBlockTokens});
  alignas(64) float whole[kGemmTokens * kPieceColumns] = {};
  for (uint32_t r = 0; r < rows; ++r)
    __builtin_memcpy(whole + r * kPieceColumns, o + uint64_t{r} * block.head_dim, at.count * sizeof(float));
  tile.c = whole;
  tile.c_stride = kPieceColumns;
  tile_of<kGemmTokens>(rows, tile, RowSteps{kBlockTokens});
  for (uint32_t r = 0; r < rows; ++r)
    __builtin_memcpy(o + uint64_t{r} * block.head_dim, whole + r * kPieceColumns, at.count * sizeof(float));
}

// A group of rows shares the tokens that all of them see; what only some see comes before and after, row by
// row, so that each chain still runs over ascending tokens and a masked token takes no part in it.
inline void add_values_of_group(const ValueTile& at, uint32_t query, uint32_t rows) {
  Visible shared{0, kBlockTokens};
  bool any_empty = false;
  for (uint32_t r = 0; r < rows; ++r) {
    const Visible one = visible(at.block, query + r);
    any_empty = any_empty || one.empty();
    shared.begin = one.begin > shared.begin ? one.begin : shared.begin;
    shared.end = one.end < shared.end ? one.end : shared.end;
  }
  if (any_empty || shared.empty()) {
    for (uint32_t r = 0; r < rows; ++r) add_values(at, query + r, 1, visible(at.block, query + r));
    return;
  }
  for (uint32_t r = 0; r < rows; ++r) add_values(at, query + r, 1, {at.block.begin[query + r], shared.begin});
  add_values(at, query, rows, shared);
  for (uint32_t r = 0; r < rows; ++r) add_values(at, query + r, 1, {shared.end, at.block.end[query + r]});
}

void attend_block(const AttendBlock& block) {
  const Visible all = visible_to_any(block);
  if (all.empty()) return;
  dot_scores(block, all);
  for (uint32_t query = 0; query < block.queries; ++query) weigh(block, query);
  const uint8_t* v = static_cast<const uint8_t*>(block.v);
  alignas(64) float piece[kPieceRows * kPieceColumns];
  for (uint32_t d = 0; d < block.head_dim; d += kPieceColumns) {
    const uint32_t count = block.head_dim - d < kPieceColumns ? block.head_dim - d : kPieceColumns;
    widen(block.kv_dtype, v + (uint64_t{all.begin} * block.head_dim + d) * width_of(block.kv_dtype),
          block.head_dim, all.end - all.begin, count, piece + all.begin * kPieceColumns);
    const ValueTile at{block, piece, d, count};
    for (uint32_t query = 0; query < block.queries; query += kGemmTokens)
      add_values_of_group(at, query,
                          block.queries - query < kGemmTokens ? block.queries - query : kGemmTokens);
  }
}

void attend_merge(uint32_t head_dim, float* m, float* l, float* o, float m2, float l2, const float* o2) {
  if (m2 == kMinusInfinity) return;
  const float maximum = (m2 > *m ? m2 : *m) + 0.0f;
  const F mine = exp_of(splat(*m - maximum)), theirs = exp_of(splat(m2 - maximum));
  float sum[kWidth];
  store(sum, fma(splat(l2), theirs, splat(*l) * mine));
  *m = maximum;
  *l = sum[0];
  along(head_dim, [=](auto at) { at.store(o, fma(at.load(o2), theirs, at.load(o) * mine)); });
}

void attend_finish(Dtype D, uint32_t head_dim, float l, const float* o, float* out) {
  along(head_dim, [=](auto at) { at.store(out, round_in(D, at.load(o) / splat(l))); });
}

}  // namespace
}  // namespace rhapsode::kernels
