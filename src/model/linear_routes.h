// The three ways of a matrix product. Internal to model/linear.
//   dense: fp32 sums of the stored (or dequantized) values
//   int8:  LLM.int8(): int32 sums of codes, outlier columns apart
//   ternary: int8 activations, exact sums
//   fixed: 4-bit weights by 16-bit fixed point, exact sums of each block
#pragma once

#include "model/linear.h"

namespace rhapsode::model {

enum class Route : uint8_t { dense, int8, fixed, ternary };

// One part of a multiply call, as one member sees it.
struct Product {
  const Worker* worker;
  const Linear* linear;
  const Linear::Part* part;
  Dtype dtype;
  Rows x;
  uint32_t tokens;
  float* y;
  uint64_t y_stride;

  float* out(uint32_t token, uint64_t panel) const {
    return y + token * y_stride + (part->first_panel + panel) * quant::kPanelRows;
  }
};

// One token of dense or quantized values needs no packing; dequantized 4-bit always goes through the tiles.
bool takes_tiles(const Product& product, Route route);
// This member's share of packing the tokens; complete after a barrier.
void pack(const Product& product, Route route);
// The panels' products. `ready`: a single token's codes are in worker.expand from the part before.
void run(const Product& product, Route route, Range panels, bool ready);
// int8: adds the outlier columns to finished rows: y = R(y + sum).
void add_outliers(const Product& product, Range panels);

}  // namespace rhapsode::model
