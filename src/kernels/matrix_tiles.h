// Products of many tokens by an instruction that multiplies whole tiles (AMX), and what one token needs to be
// multiplied alike. Part of the table in kernels.h, for sets that have it.
#pragma once

#include <cstdint>

#include "quant/formats.h"

namespace rhapsode::kernels {

// c[t][r] (+)= sum over columns of b times a. A dword is 4 bytes or 2 bf16 of adjacent columns, the earlier
// one first.
struct MatrixTile {
  const void* b;      // [dwords][32 rows], as panels of int8 and of bf16 have them; fast in lines of 64 bytes
  const void* a;      // [tokens / 16][dwords / 16][16 tokens][16 dwords]; zeros behind the last dword
  uint64_t a_stride;  // bytes from 16 tokens to the next
  uint32_t tokens;    // any number
  uint64_t dwords;
  float* c;  // rows of 32 values; bytes: bits of int32
  uint64_t c_stride;
  bool first;           // c begins at 0
  const float* absmax;  // of codes: [dwords / 32][32 rows]
  // Fetched into the second cache meanwhile: what will be read next.
  const void* ahead;
  uint64_t ahead_bytes;
};

constexpr uint64_t kMatrixDwords = 16;  // that an instruction takes: 64 bytes, or 32 bf16
constexpr uint32_t kMatrixRows = 16;    // of tokens that it takes
constexpr uint64_t kMatrixLine = kMatrixDwords * 4;
constexpr uint64_t kMatrixBytes = kMatrixRows * kMatrixLine;  // of such tokens and dwords
constexpr uint32_t kMatrixTokens = 2 * kMatrixRows;           // whole pairs of them are fastest

// Attention to a bf16 cache has the order of `pairs` in sets with tiles: scores over 32 dims at a time;
// values over 32 tokens, those that a row does not see being zeros, by the first 8 bits of their weights,
// then by the next 8 and by the last 8. Before that, o = fma(o, exp(m - m'), 0).
struct MatrixTiles {
  // Signed bytes; exact sums.
  void (*bytes)(const MatrixTile& tile);

  // bf16, in an order of its own, which all products of bf16 pairs follow in a set that has this: for each 32
  // columns, the last ones filled up with zeros, one fma chain over the even and one over the odd ones, each
  // from 0; their sum is added to c. What is below 2^-126 counts as zero.
  void (*pairs)(const MatrixTile& tile);
  // 4-bit weights as they are coded, by bf16: b holds c.bf16 of their codes, and c[t][r] continues by fma
  // over blocks of 64 columns, the sum of pairs from 0 times absmax.
  void (*codes)(const MatrixTile& tile);
  // Columns as `b` of codes, and the absmax of their blocks, each times 1 / c.bf16_max; ahead as in
  // MatrixTile.
  struct CodeColumns {
    const void* panel;
    uint64_t cols, k_begin, k_count;
    int16_t* out;
    float* absmax;
    const void* ahead;
    uint64_t ahead_bytes;
  };
  void (*expand_codes[quant::kFormatCount])(const CodeColumns& columns);
  // Kernels::gemv of bf16 values, in the order of codes.
  void (*gemv_codes[quant::kFormatCount])(const void* panel_a, const void* panel_b, const float* x,
                                          uint64_t cols, float* y_a, float* y_b);
  // 4-bit weights rounded to bf16 as `b` of pairs; k_begin and k_count are multiples of 64. Null elsewhere.
  void (*expand[quant::kFormatCount])(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count,
                                      uint32_t* out);
  // Kernels::gemv of bf16 and 4-bit weights by bf16 values, in the order of pairs. Null elsewhere.
  void (*gemv[quant::kFormatCount])(const void* panel_a, const void* panel_b, const float* x, uint64_t cols,
                                    float* y_a, float* y_b);
};

}  // namespace rhapsode::kernels
