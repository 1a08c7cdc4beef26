// Attention to a bf16 cache by products of two dims at an instruction (AVX512-BF16). Needs vec_avx512.h and
// vec_table.h before it.
#pragma once

#include "kernels/isa/vec_bf16_pairs.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

// A piece of K, rows of tokens, as pairs of dims: out[dims / 2][kPieceColumns].
inline void pair_dims(const uint8_t* k, uint64_t stride, uint32_t dims, uint32_t* out, FetchedAhead& ahead) {
  for (uint32_t d = 0; d < dims; d += 2, k += 2 * stride, out += kPieceColumns) {
    ahead.fetch<2 * kPieceColumns * 2>();
    for (uint32_t token = 0; token < kPieceColumns; token += kWidth)
      store_dwords(out + token,
                   or_i(shift_left<16>(load_u16(k + token * 2)), load_u16(k + stride + token * 2)));
  }
}

// The query rows as pairs of dims, [groups][head_dim / 2][kGemmTokens], behind the scores: they stay there
// from block to block.
inline uint32_t* query_pairs(const AttendBlock& block, uint32_t group) {
  return reinterpret_cast<uint32_t*>(block.scratch) + uint64_t{block.queries} * kBlockTokens +
         group * (block.head_dim / 2 * kGemmTokens);
}

// Whether the rows are many enough to share what is put in order, and scratch has room for them.
inline bool goes_by_pairs(const AttendBlock& block) {
  const auto rows_of = [&](uint64_t unit) { return (block.queries + unit - 1) / unit * unit; };
  const uint64_t taken = uint64_t{block.queries} * kBlockTokens + rows_of(kGemmTokens) * (block.head_dim / 2);
  return block.queries > kDirectRows && block.head_dim % 2 == 0 &&
         taken <= rows_of(kAttendRows) * attend_scratch(block.head_dim);
}

// dot_scores of bf16 by pairs of dims.
void dot_pair_scores(const AttendBlock& block, Visible all) {
  constexpr uint64_t kStride = kBlockTokens * 2;
  constexpr uint32_t kPieces = kBlockTokens / kPieceColumns;
  alignas(64) uint32_t keys[kPieces][kPieceRows / 2 * kPieceColumns];
  FetchedAhead values{static_cast<const uint8_t*>(block.v)};
  const uint32_t first = all.begin / kPieceColumns, end = (all.end + kPieceColumns - 1) / kPieceColumns;
  for (uint32_t d = 0; d < block.head_dim; d += kPieceRows) {
    const uint32_t dims = block.head_dim - d < kPieceRows ? block.head_dim - d : kPieceRows;
    for (uint32_t piece = first; piece < end; ++piece)
      pair_dims(static_cast<const uint8_t*>(block.k) + d * kStride + piece * kPieceColumns * 2, kStride, dims,
                keys[piece], values);
    for_query_groups(block, [&](uint32_t group, uint32_t query, uint32_t rows) {
      for (uint32_t piece = first; piece < end; ++piece)
        tile_pairs(keys[piece], query_pairs(block, group) + d / 2 * kGemmTokens, rows, dims / 2,
                   block.scratch + uint64_t{query} * kBlockTokens + piece * kPieceColumns, kBlockTokens,
                   d == 0);
    });
  }
}

void attend_block_pairs(const AttendBlock& block) {
  if (block.kv_dtype != Dtype::bf16 || !goes_by_pairs(block)) return attend_block(block);
  if (!block.same_queries)
    for_query_groups(block, [&](uint32_t group, uint32_t query, uint32_t rows) {
      pack_pairs(block.q + query * block.q_stride, block.q_stride, rows, 0, block.head_dim,
                 query_pairs(block, group));
    });
  attend_cached<Dtype::bf16>(block, dot_pair_scores);
}

}  // namespace
}  // namespace rhapsode::kernels
