// The ways of a matrix product at work. Internal to model/linear.
#pragma once

#include "model/linear.h"

namespace rhapsode::model {

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

// Tokens that a pass over the panels takes at once; `first` starts a group of the tile's.
struct TokenBlock {
  uint32_t first;
  uint32_t tokens;
};

inline const float* token(const Product& product, uint64_t t) {
  return product.x.data + t * product.x.stride;
}

inline Route route_of(const Product& product) {
  return route_of(product.part->format);
}

// One token needs no packing, but of dequantized 4-bit weights, where they are not multiplied by pairs.
bool takes_tiles(const Product& product);
// This member's share of packing the tokens; complete after a barrier.
void pack(const Product& product);
// Of one token that is not packed: this member's own codes and outlier bits.
void quantize_vector(const Product& product);
// The panels' finished products, outlier columns included.
void run(const Product& product, Range panels);

// Sums become the product: bias, scales and roundings. Of one token, in y; of many, from sums [tokens][32] to
// y.
void finish_row(const Product& product, Range panels);
void finish_block(const Product& product, uint64_t panel, TokenBlock block, float* sums);

// The outlier columns of int8, as bits in words of 32 columns.
inline uint64_t mark_words(const Product& product) {
  return (product.linear->cols + 31) / 32;
}
uint32_t* token_marks(const Product& product, uint64_t t);  // shared, complete after a barrier
bool marks_outliers(const Product& product);                // false where the threshold is off
Call call_of(const Product& product, uint32_t t);
bool is_one_call(const Product& product);  // whose marks are gathered once, while tokens are packed
void mark_tokens(const Product& product, Range tokens);
// worker.marks = the columns that are outliers for any token of the call.
void gather_marks(const Product& product, Call call);
// Codes of the columns in worker.marks become 0.
void clear_marked(const Product& product, int8_t* codes);
// Adds the outlier columns to finished rows: y = R(y + sum). Of one token, worker.marks holds their bits.
void add_outliers(const Product& product, Range panels);

}  // namespace rhapsode::model
