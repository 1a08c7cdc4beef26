// Products of many tokens by matrix tiles. Tokens lie in rows of bytes or bf16, in blocks of columns that a
// step takes: [block][token][bytes of the block, filled up to a line].
#include <algorithm>
#include <cstring>

#include "model/linear_routes.h"
#include "plan/footprint.h"

namespace rhapsode::model {
namespace {

using quant::kPanelRows;

// Of a panel 32 KiB, which stay in the first cache while the tokens pass by.
constexpr uint64_t kStepDwords = plan::kColumnBlock;
static_assert(kMatrixTokenBlock % kernels::kMatrixTokens == 0 && kMatrixTokenBlock <= plan::kTokenBlock);

constexpr uint64_t kLine = 64;
// Rows of fewer bytes, filled up to a line, could take more than their share of the packed tokens' area.
constexpr uint64_t kLeastColumns = 64;

uint64_t dword_columns(const Product& product) {
  return route_of(product) == Route::dense ? 2 : 4;
}
uint64_t row_bytes(const Product& product, uint64_t k) {
  const uint64_t columns = std::min(matrix_columns(product), product.part->padded_cols - k);
  return (columns * 4 / dword_columns(product) + kLine - 1) / kLine * kLine;
}
std::byte* row_at(const Product& product, uint64_t token, uint64_t k) {
  return reinterpret_cast<std::byte*>(product.worker->packed) +
         product.tokens * k * 4 / dword_columns(product) + token * row_bytes(product, k);
}

// place(row, k, columns) for each block of a token's columns; zeros behind them.
template <class Place>
void place(const Product& product, uint64_t token, Place place) {
  const uint64_t cols = product.part->padded_cols;
  for (uint64_t k = 0; k < cols; k += matrix_columns(product)) {
    const uint64_t columns = std::min(matrix_columns(product), cols - k);
    const uint64_t bytes = columns * 4 / dword_columns(product);
    std::byte* row = row_at(product, token, k);
    place(row, k, columns);
    std::memset(row + bytes, 0, row_bytes(product, k) - bytes);
  }
}

// The weights of a step as tiles take them.
const void* weights(const Product& product, const Step& step) {
  const kernels::Kernels& kernels = *product.worker->kernels;
  const std::byte* panel = product.part->panel(step.panel);
  float* expanded = product.worker->expand;
  switch (product.part->format.format) {
    case quant::Format::int8:
      return panel + quant::kInt8HeaderBytes + step.k * kPanelRows;
    case quant::Format::bf16:
      return panel + step.k * kPanelRows * 2;
    case quant::Format::ternary:
      kernels.expand_trits(panel, step.k, step.count, reinterpret_cast<uint8_t*>(expanded));
      return expanded;
    default:
      kernels.matrix->expand[format_index(product)](panel, product.part->padded_cols, step.k, step.count,
                                                    reinterpret_cast<uint32_t*>(expanded));
      return expanded;
  }
}

}  // namespace

bool takes_matrix(const Product& product) {
  if (product.worker->kernels->matrix == nullptr || product.tokens == 1) return false;
  switch (route_of(product)) {
    case Route::dense:
      return takes_pairs(product);
    case Route::int8:
      return product.part->padded_cols >= kLeastColumns;
    case Route::ternary:
      return product.part->padded_cols >= kLeastColumns && !has_code_rows(product);
    default:
      return false;
  }
}

uint64_t matrix_columns(const Product& product) {
  return kStepDwords * dword_columns(product);
}

void place_byte_rows(const Product& product, uint64_t first, uint32_t tokens, const int8_t* rows) {
  for (uint32_t t = 0; t < tokens; ++t)
    place(product, first + t, [&](std::byte* row, uint64_t k, uint64_t columns) {
      std::memcpy(row, rows + t * product.part->padded_cols + k, columns);
    });
}

void place_pairs(const Product& product, uint64_t first, uint32_t tokens) {
  for (uint64_t t = first; t < first + tokens; ++t)
    place(product, t, [&](std::byte* row, uint64_t k, uint64_t columns) {
      product.worker->kernels->store(Dtype::bf16, token(product, t) + k, columns, row);
    });
}

void add_matrix(const Product& product, Step& step) {
  const kernels::MatrixTiles& matrix = *product.worker->kernels->matrix;
  const bool pairs = route_of(product) == Route::dense;
  const void* b = weights(product, step);
  (pairs ? matrix.pairs : matrix.bytes)({.b = b,
                                         .a = row_at(product, step.block.first, step.k),
                                         .a_stride = row_bytes(product, step.k),
                                         .tokens = step.block.tokens,
                                         .dwords = step.count / dword_columns(product),
                                         .c = step.sums,
                                         .c_stride = kPanelRows,
                                         .first = step.k == 0,
                                         .ahead = step.upcoming.from(),
                                         .ahead_bytes = step.upcoming.bytes()});
}

}  // namespace rhapsode::model
