// Attention over one block of 64 tokens on vectors: scores and values are the register tiles of vec_cache.h
// over pieces of K and V that are widened to float once and shared by all query rows. Needs a vec_<isa>.h
// before it.
#pragma once

#include "kernels/isa/vec_cache.h"
#include "kernels/isa/vec_softmax.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

// Many query rows share widened pieces of K. Behind the scores they lie as tiles read them, from block to
// block: dims d to d + kPieceRows of all rows, kPieceRows apart.
inline float* query_piece(const AttendBlock& block, uint32_t d) {
  return block.scratch + uint64_t{block.queries} * (kBlockTokens + d);
}
inline void lay_queries(const AttendBlock& block) {
  for (uint32_t d = 0; d < block.head_dim; d += kPieceRows) {
    const uint32_t dims = block.head_dim - d < kPieceRows ? block.head_dim - d : kPieceRows;
    for (uint32_t r = 0; r < block.queries; ++r)
      __builtin_memcpy(query_piece(block, d) + r * kPieceRows, block.q + r * block.q_stride + d,
                       dims * sizeof(float));
  }
}

// Query rows in as few groups as tiles can be, of about as many rows each: work(group, its first row, rows).
template <class Work>
inline void for_query_groups(const AttendBlock& block, Work work) {
  const uint32_t groups = (block.queries + kGemmTokens - 1) / kGemmTokens;
  for (uint32_t group = 0, query = 0; group < groups; ++group) {
    const uint32_t rows = (block.queries - query + groups - group - 1) / (groups - group);
    work(group, query, rows);
    query += rows;
  }
}

// scores[query][token] = dot(q, k), unscaled, at least for the tokens of `all`.
template <Dtype D>
inline void dot_scores(const AttendBlock& block, Visible all) {
  constexpr uint64_t kStride = kBlockTokens * kCachedBytes<D>;
  alignas(64) float piece[kPieceRows * kPieceColumns];
  FetchedAhead values{static_cast<const uint8_t*>(block.v)};
  for (uint32_t token = all.begin / kPieceColumns * kPieceColumns; token < all.end; token += kPieceColumns) {
    for (uint32_t d = 0; d < block.head_dim; d += kPieceRows) {
      const uint32_t dims = block.head_dim - d < kPieceRows ? block.head_dim - d : kPieceRows;
      const uint8_t* k = static_cast<const uint8_t*>(block.k) + d * kStride + token * kCachedBytes<D>;
      float* const scores = block.scratch + token;
      if (block.queries <= kDirectRows) {
        cache_tile<D, kDirectRows>(block.queries, {k, kStride, block.q + d, block.q_stride, dims, scores,
                                                   kBlockTokens, d == 0, &values});
        continue;
      }
      widen<D>(k, kStride, dims, kPieceColumns, piece, values);
      multiply_tile<kTileRows>(block.queries, {piece, dims, scores, kBlockTokens, d == 0},
                               EvenRows<kPieceRows>{query_piece(block, d)});
    }
  }
}

// Where tokens meet query rows: the columns [d, d + count) of V, either as they lie or widened.
template <Dtype D>
struct ValueColumns {
  const AttendBlock& block;
  const uint8_t* b;  // of token 0
  uint64_t b_stride;
  uint32_t d;
  uint32_t count;
  FetchedAhead* ahead;  // beside tokens that all rows see; null: nothing
};

template <Dtype D, uint32_t Most>
inline void add_values(const ValueColumns<D>& at, uint32_t query, uint32_t rows, Visible tokens) {
  if (tokens.empty()) return;
  const AttendBlock& block = at.block;
  float* o = block.o + uint64_t{query} * block.head_dim + at.d;
  if constexpr (Most > kDirectRows) {  // of a widened piece
    if (at.count == kPieceColumns)
      return multiply_tile<kTileRows>(
          rows,
          {reinterpret_cast<const float*>(at.b) + tokens.begin * kPieceColumns, tokens.end - tokens.begin, o,
           block.head_dim, false},
          EvenRows<kBlockTokens>{block.scratch + uint64_t{query} * kBlockTokens + tokens.begin});
  }
  CacheTile tile{at.b + tokens.begin * at.b_stride,
                 at.b_stride,
                 block.scratch + uint64_t{query} * kBlockTokens + tokens.begin,
                 kBlockTokens,
                 tokens.end - tokens.begin,
                 o,
                 block.head_dim,
                 false,
                 at.ahead};
  if (at.count == kPieceColumns) return cache_tile<D, Most>(rows, tile);
  alignas(64) float whole[kGemmTokens * kPieceColumns] = {};
  for (uint32_t r = 0; r < rows; ++r)
    __builtin_memcpy(whole + r * kPieceColumns, o + uint64_t{r} * block.head_dim, at.count * sizeof(float));
  tile.c = whole;
  tile.c_stride = kPieceColumns;
  cache_tile<D, Most>(rows, tile);
  for (uint32_t r = 0; r < rows; ++r)
    __builtin_memcpy(o + uint64_t{r} * block.head_dim, whole + r * kPieceColumns, at.count * sizeof(float));
}

// A group of rows shares the tokens that all of them see; what only some see comes before and after, row by
// row, so that each chain still runs over ascending tokens and a masked token takes no part in it.
template <Dtype D, uint32_t Most>
inline void add_values_of_group(const ValueColumns<D>& at, uint32_t query, uint32_t rows) {
  Visible shared{0, kBlockTokens};
  bool any_empty = false;
  ValueColumns<D> alone = at;
  alone.ahead = nullptr;
  for (uint32_t r = 0; r < rows; ++r) {
    const Visible one = visible(at.block, query + r);
    any_empty = any_empty || one.empty();
    shared.begin = one.begin > shared.begin ? one.begin : shared.begin;
    shared.end = one.end < shared.end ? one.end : shared.end;
  }
  if (shared.whole()) return add_values<D, Most>(at, query, rows, shared);
  if (any_empty || shared.empty()) {
    for (uint32_t r = 0; r < rows; ++r) add_values<D, 1>(alone, query + r, 1, visible(at.block, query + r));
    return;
  }
  for (uint32_t r = 0; r < rows; ++r)
    add_values<D, 1>(alone, query + r, 1, {at.block.begin[query + r], shared.begin});
  add_values<D, Most>(at, query, rows, shared);
  for (uint32_t r = 0; r < rows; ++r)
    add_values<D, 1>(alone, query + r, 1, {shared.end, at.block.end[query + r]});
}

inline bool all_see_all(const AttendBlock& block) {
  for (uint32_t query = 0; query < block.queries; ++query)
    if (!visible(block, query).whole()) return false;
  return true;
}

template <Dtype D>
inline void add_all_values(const AttendBlock& block, Visible all) {
  const bool whole = all_see_all(block);
  const uint64_t stride = block.head_dim * kCachedBytes<D>;
  alignas(64) float piece[kPieceRows * kPieceColumns];
  FetchedAhead keys{static_cast<const uint8_t*>(block.next_k)};
  for (uint32_t d = 0; d < block.head_dim; d += kPieceColumns) {
    const uint32_t count = block.head_dim - d < kPieceColumns ? block.head_dim - d : kPieceColumns;
    const uint8_t* v = static_cast<const uint8_t*>(block.v) + d * kCachedBytes<D>;
    if (block.queries <= kDirectRows && count == kPieceColumns) {
      add_values_of_group<D, kDirectRows>({block, v, stride, d, count, &keys}, 0, block.queries);
      continue;
    }
    widen<D>(v + all.begin * stride, stride, all.end - all.begin, count, piece + all.begin * kPieceColumns,
             keys);
    const ValueColumns<Dtype::f32> at{
        block, reinterpret_cast<const uint8_t*>(piece), kPieceColumns * sizeof(float), d, count, nullptr};
    for_query_groups(block, [&](uint32_t, uint32_t query, uint32_t rows) {
      if (whole)
        add_values<Dtype::f32, kGemmTokens>(at, query, rows, all);
      else
        add_values_of_group<Dtype::f32, kGemmTokens>(at, query, rows);
    });
  }
}

// `dot` is dot_scores, or another way to its very bits.
template <Dtype D>
inline void attend_cached(const AttendBlock& block, void (*dot)(const AttendBlock&, Visible)) {
  const Visible all = visible_to_any(block);
  if (all.empty()) return;
  dot(block, all);
  weigh<FloatWeights<D == Dtype::i8>>(block);
  add_all_values<D>(block, all);
}

void attend_block(const AttendBlock& block) {
  if (block.queries > kDirectRows && !block.same_queries) lay_queries(block);
  if (block.kv_dtype == Dtype::bf16) return attend_cached<Dtype::bf16>(block, dot_scores<Dtype::bf16>);
  if (block.kv_dtype == Dtype::f16) return attend_cached<Dtype::f16>(block, dot_scores<Dtype::f16>);
  if (block.kv_dtype == Dtype::i8) return attend_cached<Dtype::i8>(block, dot_scores<Dtype::i8>);
  attend_cached<Dtype::f32>(block, dot_scores<Dtype::f32>);
}

void attend_merge(uint32_t head_dim, float* m, float* l, float* o, float m2, float l2, const float* o2) {
  if (m2 == kMinusInfinity) return;
  if (*m == kMinusInfinity) {
    *m = m2, *l = l2;
    __builtin_memcpy(o, o2, head_dim * sizeof(float));
    return;
  }
  const float maximum = (m2 > *m ? m2 : *m) + 0.0f;
  const F mine = weight_of(splat(*m - maximum)), theirs = weight_of(splat(m2 - maximum));
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
