// Products of many tokens by matrix tiles. Tokens lie as tiles take them, a tile of 16 tokens after the
// other: [tokens / 16][dwords / 16][16 tokens][16 dwords].
#include <algorithm>
#include <cstring>

#include "model/linear_routes.h"
#include "plan/footprint.h"

namespace rhapsode::model {
namespace {

using kernels::kMatrixBytes;
using kernels::kMatrixDwords;
using kernels::kMatrixLine;
using kernels::kMatrixRows;
using quant::kPanelRows;

// Columns that a step takes, in dwords: expanded weights have an area of 32 KiB; of panels that are read as
// they are stored, half a MiB of their tokens stays in the second cache.
constexpr uint64_t kExpandedDwords = plan::kColumnBlock, kStoredDwords = 512;
// Of 4-bit codes whole blocks, behind which their absmax have room too.
constexpr uint64_t kCodeDwords = 7 * quant::kBlockCols / 2;
static_assert(kCodeDwords * kPanelRows + 7 * kPanelRows <= plan::kColumnBlock * kPanelRows);
static_assert(kMatrixTokenBlock % kernels::kMatrixTokens == 0 && kMatrixTokenBlock <= plan::kTokenBlock);
// Rows of fewer bytes, filled up to a line, could take more than their share of the packed tokens' area.
constexpr uint64_t kLeastColumns = 64;

uint64_t dword_columns(const Product& product) {
  return route_of(product) == Route::dense || takes_codes(product) ? 2 : 4;
}
bool is_stored(const Product& product) {
  return product.part->format.format == quant::Format::int8 ||
         product.part->format.format == quant::Format::bf16;
}
// Bytes from 16 tokens to the next.
uint64_t tokens_stride(const Product& product) {
  const uint64_t dwords = product.part->padded_cols / dword_columns(product);
  return (dwords + kMatrixDwords - 1) / kMatrixDwords * kMatrixBytes;
}
std::byte* tokens_at(const Product& product, uint64_t token, uint64_t k) {
  return reinterpret_cast<std::byte*>(product.worker->packed) + token / kMatrixRows * tokens_stride(product) +
         k / dword_columns(product) / kMatrixDwords * kMatrixBytes + token % kMatrixRows * kMatrixLine;
}

// A token's row of bytes becomes lines of tiles.
void place(const Product& product, uint64_t token, const void* row) {
  const auto* from = static_cast<const std::byte*>(row);
  std::byte* to = tokens_at(product, token, 0);
  uint64_t left = product.part->padded_cols / dword_columns(product) * 4;
  for (; left >= kMatrixLine; left -= kMatrixLine, from += kMatrixLine, to += kMatrixBytes)
    std::memcpy(to, from, kMatrixLine);
  if (left == 0) return;
  std::memcpy(to, from, left);
  std::memset(to + left, 0, kMatrixLine - left);
}

// Half of what comes next is fetched meanwhile: with few tokens it would take longer than their products.
void expand_codes(const Product& product, Step& step) {
  const Upcoming half = step.upcoming.first_half();
  float* expanded = product.worker->expand;
  product.worker->kernels->matrix->expand_codes[format_index(product)](
      {.panel = product.part->panel(step.panel),
       .cols = product.part->padded_cols,
       .k_begin = step.k,
       .k_count = step.count,
       .out = reinterpret_cast<int16_t*>(expanded),
       .absmax = expanded + kCodeDwords * kPanelRows,
       .ahead = half.from(),
       .ahead_bytes = half.bytes()});
}

// The weights of a step as tiles take them.
const void* weights(const Product& product, Step& step) {
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
      if (takes_codes(product))
        expand_codes(product, step);
      else
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
    case Route::fixed:
      return takes_codes(product);
    case Route::int8:
      return product.part->padded_cols >= kLeastColumns;
    case Route::ternary:
      return product.part->padded_cols >= kLeastColumns && !has_code_rows(product);
    default:
      return false;
  }
}

uint64_t matrix_columns(const Product& product) {
  if (takes_codes(product)) return kCodeDwords * dword_columns(product);
  return (is_stored(product) ? kStoredDwords : kExpandedDwords) * dword_columns(product);
}

void place_byte_rows(const Product& product, uint64_t first, uint32_t tokens, const int8_t* rows) {
  for (uint32_t t = 0; t < tokens; ++t) place(product, first + t, rows + t * product.part->padded_cols);
}

void place_pairs(const Product& product, uint64_t first, uint32_t tokens) {
  for (uint64_t t = first; t < first + tokens; ++t) {
    product.worker->kernels->store(Dtype::bf16, token(product, t), product.part->padded_cols,
                                   product.worker->rows);
    place(product, t, product.worker->rows);
  }
}

void add_matrix(const Product& product, Step& step) {
  const kernels::MatrixTiles& matrix = *product.worker->kernels->matrix;
  const auto multiply = takes_codes(product)                ? matrix.codes
                        : route_of(product) == Route::dense ? matrix.pairs
                                                            : matrix.bytes;
  const void* b = weights(product, step);
  multiply({.b = b,
            .a = tokens_at(product, step.block.first, step.k),
            .a_stride = tokens_stride(product),
            .tokens = step.block.tokens,
            .dwords = step.count / dword_columns(product),
            .c = step.sums,
            .c_stride = kPanelRows,
            .first = step.k == 0,
            .absmax = product.worker->expand + kCodeDwords * kPanelRows,
            .ahead = step.upcoming.from(),
            .ahead_bytes = step.upcoming.bytes()});
}

}  // namespace rhapsode::model
