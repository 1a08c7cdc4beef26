// The ways of a matrix product at work. Internal to model/linear.
#pragma once

#include <algorithm>

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

// Tokens, of which `first` starts a group of the tile's.
struct TokenBlock {
  uint32_t first;
  uint32_t tokens;

  uint32_t end() const { return first + tokens; }
};

inline const float* token(const Product& product, uint64_t t) {
  return product.x.data + t * product.x.stride;
}

inline Route route_of(const Product& product) {
  return route_of(product.part->format);
}

inline uint32_t tile_of(const Product& product) {
  return product.worker->kernels->gemm_tokens;
}
inline size_t format_index(const Product& product) {
  return static_cast<size_t>(product.part->format.format);
}
inline bool takes_pairs(const Product& product) {
  return multiplies_pairs(*product.worker->kernels, product.part->format, product.dtype);
}
inline bool takes_codes(const Product& product) {
  return multiplies_codes(*product.worker->kernels, product.part->format, product.dtype);
}
// So few tokens of the ternary route are multiplied straight from rows of codes.
inline bool has_code_rows(const Product& product) {
  return product.tokens <= kernels::kTernaryTokens;
}

// Weights that the next step reads, fetched into the second cache while this one computes: a piece at each
// tile.
class Upcoming {
 public:
  Upcoming() = default;
  Upcoming(const std::byte* from, uint64_t bytes, uint64_t tiles)
      : at_(from), end_(from + bytes), piece_((bytes / tiles + kLine) / kLine * kLine) {}

  void fetch() {
    const std::byte* stop = at_ + std::min<uint64_t>(piece_, static_cast<uint64_t>(end_ - at_));
    for (; at_ < stop; at_ += kLine) __builtin_prefetch(at_, 0, 2);
  }

  // To be fetched by others.
  Upcoming first_half() {
    Upcoming half = *this;
    half.end_ = at_ += bytes() / 2 / kLine * kLine;
    return half;
  }

  // Not fetched yet.
  const std::byte* from() const { return at_; }
  uint64_t bytes() const { return static_cast<uint64_t>(end_ - at_); }

 private:
  static constexpr uint64_t kLine = 64;
  const std::byte* at_ = nullptr;
  const std::byte* end_ = nullptr;
  uint64_t piece_ = 0;
};

// The columns [k, k + count) of one panel times a block of tokens.
struct Step {
  uint64_t panel;
  uint64_t k;
  uint64_t count;
  TokenBlock block;
  float* sums;  // [tokens][32], continued where k > 0
  Upcoming upcoming;

  // Calls work(first token, tokens) for each tile of the block.
  template <class Work>
  void for_tiles(uint32_t tile, Work work) {
    for (uint32_t t = 0; t < block.tokens; t += tile) {
      upcoming.fetch();
      work(t, std::min(tile, block.tokens - t));
    }
  }
};

// Where kernels have matrix tiles (linear_matrix.cpp): whether a product of many tokens is made of them; the
// columns that a step takes; tokens brought into place, from their rows of codes, or as bf16; and a step,
// whose sums of codes are not finished yet.
constexpr uint32_t kMatrixTokenBlock = 256;
bool takes_matrix(const Product& product);
uint64_t matrix_columns(const Product& product);
void place_byte_rows(const Product& product, uint64_t first, uint32_t tokens, const int8_t* rows);
void place_pairs(const Product& product, uint64_t first, uint32_t tokens);
void add_matrix(const Product& product, Step& step);

// One token needs no packing.
inline bool takes_tiles(const Product& product) {
  return product.tokens > 1;
}
// This member's share of packing the tokens; complete after a barrier.
void pack(const Product& product);
// Of one token that is not packed: this member's own codes and outlier bits.
void quantize_vector(const Product& product);
// The tokens in parts that are multiplied one after the other: one for each member, or one.
uint32_t token_parts(const Product& product);
TokenBlock token_part(const Product& product, uint32_t index);
// The finished products of such a part with the panels, outlier columns included.
void run(const Product& product, Range panels, TokenBlock part);

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
// Adds the outlier columns to finished rows of some tokens: y = R(y + sum). Of one token, worker.marks holds
// their bits.
void add_outliers(const Product& product, Range panels, TokenBlock part);

}  // namespace rhapsode::model
