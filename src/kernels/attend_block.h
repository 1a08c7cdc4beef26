// What attention to one block of cached keys and values works with.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace rhapsode::kernels {

// Tokens of one KV block; K is stored as [d][kBlockTokens], V as [kBlockTokens][d].
constexpr uint32_t kBlockTokens = 64;
// Floats of scratch a query row: weights in three parts of bf16, and q in bf16; or scores, and q in whole
// pieces of 64 dims.
constexpr uint32_t kAttendScratch = kBlockTokens * 3 / 2;
constexpr uint64_t attend_scratch(uint64_t head_dim) {
  const uint64_t parts = kAttendScratch + (head_dim + 31) / 32 * 16;
  const uint64_t floats = kBlockTokens + (head_dim + 63) / 64 * 64;
  return parts > floats ? parts : floats;
}
// There is room for a multiple of so many rows of o and scratch; what the rows behind the last one hold is
// unspecified.
constexpr uint32_t kAttendRows = 32;

// One kv head's block of keys and values and the query rows that look at it.
struct AttendBlock {
  const void* k;   // [head_dim][kBlockTokens] of kv_dtype
  const void* v;   // [kBlockTokens][head_dim] of kv_dtype
  Dtype kv_dtype;  // f32, f16, bf16, or i8: codes of a scale a token
  // i8 only, [kBlockTokens] each: score = (dot(q, codes of k) * k_scale) * scale; a token's weight is
  // multiplied by its v_scale before the codes of v are, and enters the sum l without it.
  const float* k_scales;
  const float* v_scales;
  const void* next_k;  // keys of the block that comes next, to be fetched ahead, or null
  uint32_t head_dim;
  uint32_t queries;  // rows of q
  const float* q;    // [queries][q_stride], the scale is not yet applied; beside keys of bf16, bf16 values
  uint64_t q_stride;
  float scale;            // score = dot(q, k) * scale
  float softcap;          // 0 = off, else score = softcap * tanh(score / softcap)
  const uint32_t* begin;  // [queries] visible tokens of this block: begin <= j < end; may be empty
  const uint32_t* end;    // [queries]
  // Running softmax state, updated in place: m the maximum so far (-inf at first), l the sum (0 at first),
  // o [queries][head_dim] (0 at first). With m' = max(m, scores): l = l * w(m - m') + sum of w(score - m');
  // o = o * w(m - m') with w = weight_f32 of math.h, then continues by fma over the visible tokens. A row
  // that sees no token is left untouched.
  float* m;
  float* l;
  float* o;
  float* scratch;     // [queries][attend_scratch]; unspecified afterwards
  bool same_queries;  // as in the call before, which left its scratch here
};

}  // namespace rhapsode::kernels
