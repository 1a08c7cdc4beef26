// Attention to a bf16 cache by products of two dims at an instruction (AVX512-BF16). Needs vec_avx512.h and
// vec_table.h before it.
#pragma once

#include "kernels/isa/vec_bf16_pairs.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

// A piece of K, rows of tokens, as pairs of dims: out[dims / 2][kPieceColumns].
inline void pair_dims(const uint8_t* k, uint64_t stride, uint32_t dims, uint32_t* out) {
  for (uint32_t d = 0; d < dims; d += 2, k += 2 * stride, out += kPieceColumns)
    for (uint32_t token = 0; token < kPieceColumns; token += kWidth)
      store_dwords(out + token,
                   or_i(shift_left<16>(load_u16(k + token * 2)), load_u16(k + stride + token * 2)));
}

// dot_scores of bf16 by pairs of dims, where the rows are many enough to share what is put in order.
void dot_pair_scores(const AttendBlock& block, Visible all) {
  if (block.queries <= kDirectRows || block.head_dim % 2 != 0) return dot_scores<Dtype::bf16>(block, all);
  constexpr uint64_t kStride = kBlockTokens * 2;
  constexpr uint32_t kPieces = kBlockTokens / kPieceColumns;
  alignas(64) uint32_t keys[kPieces][kPieceRows / 2 * kPieceColumns], rows[kPieceRows / 2 * kGemmTokens];
  const uint32_t first = all.begin / kPieceColumns, end = (all.end + kPieceColumns - 1) / kPieceColumns;
  for (uint32_t d = 0; d < block.head_dim; d += kPieceRows) {
    const uint32_t dims = block.head_dim - d < kPieceRows ? block.head_dim - d : kPieceRows;
    for (uint32_t piece = first; piece < end; ++piece)
      pair_dims(static_cast<const uint8_t*>(block.k) + d * kStride + piece * kPieceColumns * 2, kStride, dims,
                keys[piece]);
    for (uint32_t query = 0; query < block.queries; query += kGemmTokens) {
      const uint32_t count = block.queries - query < kGemmTokens ? block.queries - query : kGemmTokens;
      pack_pairs(block.q + query * block.q_stride, block.q_stride, count, d, dims, rows);
      for (uint32_t piece = first; piece < end; ++piece)
        tile_pairs(keys[piece], rows, count, dims / 2,
                   block.scratch + uint64_t{query} * kBlockTokens + piece * kPieceColumns, kBlockTokens,
                   d == 0);
    }
  }
}

void attend_block_pairs(const AttendBlock& block) {
  if (block.kv_dtype != Dtype::bf16) return attend_block(block);
  attend_cached<Dtype::bf16>(block, dot_pair_scores);
}

}  // namespace
}  // namespace rhapsode::kernels
