// Multiplying by packed matrices on all threads. Knows panels and blocks of columns, no instruction set: the
// inner loops are the kernel table's.
#pragma once

#include <functional>
#include <span>

#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "model/weights.h"

namespace rhapsode::model {

// What one member of the team works with.
struct Worker {
  const kernels::Kernels* kernels;
  ThreadPool* pool;
  uint32_t member;
  uint32_t members;
  // This member's own areas, as plan::WorkspaceLayout sizes them.
  float* expand;    // a block of expanded columns
  float* sums;      // [plan::tile_shape().panels][plan::kTokenBlock][32]
  float* rows;      // codes of a tile of tokens on their way into `packed`, or one token's codes and scales
  uint32_t* marks;  // a bit a column
  float* packed;    // shared: tokens packed for the tile kernels
};

// Tokens that share their int8 outlier columns: those of one sequence in one pass. Ascending, without gaps.
struct Call {
  uint32_t first_token;
  uint32_t tokens;
};

struct Rows {
  const float* data;  // [tokens][stride]
  uint64_t stride;
  std::span<const Call> calls;     // cover all tokens; empty: each token is a call of its own
  const float* factors = nullptr;  // [tokens], of rows that quantize_row left as integers
};

// The ways of a matrix product.
//   dense: fp32 sums of the stored (or dequantized) values
//   int8:  LLM.int8(): int32 sums of codes, outlier columns apart
//   ternary: int8 activations, exact sums
//   fixed: 4-bit weights by 16-bit fixed point, exact sums of each block
//   bytes: 4-bit weights by int8 activations, exact sums of each block; coarser
enum class Route : uint8_t { dense, int8, fixed, bytes, ternary };
Route route_of(const plan::WeightFormat& format);
// Of the dense route: weights (as stored, or dequantized) and tokens of bf16, where the kernels have an
// instruction for them.
bool multiplies_pairs(const kernels::Kernels& kernels, const plan::WeightFormat& format, Dtype dtype);

// Of the fixed route: weights as their codes rounded to bf16, and tokens of bf16, where there are matrix
// tiles.
bool multiplies_codes(const kernels::Kernels& kernels, const plan::WeightFormat& format, Dtype dtype);

// Called by the member that finished the rows [begin, end) of all parts for some tokens, as soon as it did.
using Finished = std::function<void(Range rows, Range tokens)>;

// y[t][r] = R(sum_k w[r][k] * x[t][k] + bias[r]) for all padded rows r of the matrix; y [tokens][y_stride].
// All members call it together; who computes which rows is settled while they work. Results are complete for
// the others only after the caller's next barrier; for more than one token it crosses barriers inside.
// `finished` needs parts of equal length (gate and up, or one part), and covers the rows of the first.
void multiply(const Worker& worker, Dtype dtype, const Linear& linear, Rows x, uint32_t tokens, float* y,
              uint64_t y_stride, const Finished& finished = {});

// The same of one part alone, whose input is not that of the others.
void multiply_part(const Worker& worker, Dtype dtype, const Linear& linear, const Linear::Part& part, Rows x,
                   uint32_t tokens, float* y, uint64_t y_stride);

// Of a dense linear of one part without ternary factors: the columns of the listed panels alone.
void multiply_panels(const Worker& worker, Dtype dtype, const Linear& linear,
                     std::span<const uint32_t> panels, Rows x, uint32_t tokens, float* y, uint64_t y_stride);

// In place, a row as a ternary linear multiplies it: its int8 values, or (hf-exact) these divided by their
// factor and rounded. Returns the factor.
float quantize_row(const kernels::Kernels& kernels, Dtype dtype, const Linear& linear, float* x);

}  // namespace rhapsode::model
