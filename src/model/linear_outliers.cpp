// The outlier columns of LLM.int8(): found as bits while tokens are packed, then multiplied apart, as a
// narrow product of the columns that carry them.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "model/linear_routes.h"
#include "plan/footprint.h"

namespace rhapsode::model {
namespace {

using quant::kPanelRows;

// Calls f(column) for each marked column, ascending.
template <class F>
void for_marked(const Product& product, F f) {
  for (uint64_t word = 0; word < mark_words(product); ++word)
    for (uint32_t bits = product.worker->marks[word]; bits != 0; bits &= bits - 1)
      f(static_cast<uint32_t>(word * 32 + static_cast<uint32_t>(std::countr_zero(bits))));
}

bool any_marked(const Product& product) {
  const uint32_t* marks = product.worker->marks;
  return std::any_of(marks, marks + mark_words(product), [](uint32_t word) { return word != 0; });
}

// One panel's product of up to kColumnBlock columns continues the sums of the call's tokens.
void add_columns(const Product& product, Call call, uint64_t panel, std::span<const uint32_t> columns,
                 bool first) {
  const kernels::Kernels& kernels = *product.worker->kernels;
  const uint32_t tile = kernels.gemm_tokens;
  kernels.expand_int8_columns(product.dtype, product.part->panel(panel), columns.data(), columns.size(),
                              product.worker->expand);
  for (uint32_t t = 0; t < call.tokens; t += tile)
    kernels.tile_columns({product.worker->expand, token(product, call.first_token + t), product.x.stride,
                          columns.data(), columns.size(), std::min(tile, call.tokens - t)},
                         product.worker->sums + uint64_t{t} * kPanelRows, kPanelRows, first);
}

// y = R(y + sum over columns of x * dequantized weight), the sum by fma in ascending order.
void add_to_panel(const Product& product, Call call, uint64_t panel) {
  uint32_t columns[plan::kColumnBlock];
  uint64_t count = 0;
  bool first = true;
  const auto flush = [&] {
    add_columns(product, call, panel, {columns, count}, first);
    first = false;
    count = 0;
  };
  for_marked(product, [&](uint32_t column) {
    columns[count++] = column;
    if (count == plan::kColumnBlock) flush();
  });
  if (count != 0) flush();
  for (uint32_t t = 0; t < call.tokens; ++t)
    product.worker->kernels->add(product.dtype, product.out(call.first_token + t, panel),
                                 product.worker->sums + uint64_t{t} * kPanelRows, kPanelRows);
}

}  // namespace

bool marks_outliers(const Product& product) {
  return !std::isnan(product.linear->int8_threshold);
}

Call call_of(const Product& product, uint32_t t) {
  if (!product.linear->int8_row_outliers)
    for (const Call& call : product.x.calls)
      if (t - call.first_token < call.tokens) return call;
  return {t, 1};
}

bool is_one_call(const Product& product) {
  return call_of(product, 0).tokens == product.tokens;
}

void mark_tokens(const Product& product, Range tokens) {
  for (uint64_t t = tokens.begin; t < tokens.end; ++t)
    product.worker->kernels->mark_outliers(token(product, t), product.linear->cols,
                                           product.linear->int8_threshold, token_marks(product, t));
}

void gather_marks(const Product& product, Call call) {
  const uint64_t words = mark_words(product);
  uint32_t* marks = product.worker->marks;
  std::memcpy(marks, token_marks(product, call.first_token), words * sizeof *marks);
  for (uint32_t t = call.first_token + 1; t < call.first_token + call.tokens; ++t) {
    const uint32_t* row = token_marks(product, t);
    for (uint64_t word = 0; word < words; ++word) marks[word] |= row[word];
  }
}

void clear_marked(const Product& product, int8_t* codes) {
  for_marked(product, [&](uint32_t column) { codes[column] = 0; });
}

void add_outliers(const Product& product, Range panels, TokenBlock part) {
  if (!marks_outliers(product)) return;
  // The sums of a pass hold kTokenBlock tokens; a longer call adds its columns piece by piece.
  for (uint32_t t = part.first; t < part.end();) {
    const Call call = call_of(product, t);
    if (!is_one_call(product)) gather_marks(product, call);
    const uint32_t first = t;
    t = std::min(call.first_token + call.tokens, part.end());
    if (!any_marked(product)) continue;
    for (uint64_t panel = panels.begin; panel < panels.end; ++panel)
      for (uint32_t piece = first; piece < t; piece += plan::kTokenBlock)
        add_to_panel(product, {piece, std::min(plan::kTokenBlock, t - piece)}, panel);
  }
}

}  // namespace rhapsode::model
