// The reference of kernels/matrix_tiles.h, and the reference set with it: what sets with matrix tiles are
// tested against. Sums below 2^-126 are kept here.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/reference.h"

namespace rhapsode::kernels {
namespace reference {
namespace {

template <class T>
T at(const void* data, uint64_t index) {
  T value;
  std::memcpy(&value, static_cast<const std::byte*>(data) + index * sizeof value, sizeof value);
  return value;
}

// step(sum so far, token, row) for all sums of a tile.
template <class Step>
void for_sums(const MatrixTile& tile, Step step) {
  for (uint32_t t = 0; t < tile.tokens; ++t)
    for (uint32_t row = 0; row < kPanelRows; ++row) {
      float& c = tile.c[t * tile.c_stride + row];
      c = step(tile.first ? 0.0f : c, t, row);
    }
}

// Where a byte of a token's row of dwords stands.
uint64_t place(const MatrixTile& tile, uint32_t token, uint64_t byte) {
  return token / kMatrixRows * tile.a_stride + byte / kMatrixLine * kMatrixBytes +
         token % kMatrixRows * kMatrixLine + byte % kMatrixLine;
}

void matrix_bytes(const MatrixTile& tile) {
  for_sums(tile, [&](float before, uint32_t t, uint32_t row) {
    auto sum = std::bit_cast<int32_t>(before);
    for (uint64_t i = 0; i < tile.dwords * 4; ++i)
      sum +=
          at<int8_t>(tile.a, place(tile, t, i)) * at<int8_t>(tile.b, (i / 4 * kPanelRows + row) * 4 + i % 4);
    return std::bit_cast<float>(sum);
  });
}

void matrix_pairs(const MatrixTile& tile) {
  for_sums(tile, [&](float sum, uint32_t t, uint32_t row) {
    const auto value = [&](uint64_t i) {
      return bf16_to_float(at<uint16_t>(tile.a, place(tile, t, i * 2) / 2));
    };
    const auto weight = [&](uint64_t i) {
      return bf16_to_float(at<uint16_t>(tile.b, (i / 2 * kPanelRows + row) * 2 + i % 2));
    };
    for (uint64_t k = 0; k < tile.dwords * 2; k += kPairColumns)
      sum = add_pair_columns(
          sum, std::min(kPairColumns, tile.dwords * 2 - k), [&](uint64_t i) { return weight(k + i); },
          [&](uint64_t i) { return value(k + i); });
    return sum;
  });
}

void matrix_codes(const MatrixTile& tile) {
  for_sums(tile, [&](float y, uint32_t t, uint32_t row) {
    for (uint64_t block = 0; block < tile.dwords * 2 / quant::kBlockCols; ++block) {
      float sum = 0.0f;
      for (uint64_t k = block * quant::kBlockCols; k < (block + 1) * quant::kBlockCols; k += kPairColumns)
        sum = add_pair_columns(
            sum, kPairColumns,
            [&](uint64_t i) {
              return bf16_to_float(at<uint16_t>(tile.b, ((k + i) / 2 * kPanelRows + row) * 2 + (k + i) % 2));
            },
            [&](uint64_t i) { return bf16_to_float(at<uint16_t>(tile.a, place(tile, t, (k + i) * 2) / 2)); });
      y = std::fma(sum, tile.absmax[block * kPanelRows + row], y);
    }
    return y;
  });
}

float scale_of_codes(Format format, const void* panel, uint64_t cols, uint32_t row, uint64_t block) {
  return scale_of(format, panel, cols, row, block) * (1.0f / quant::four_bit_code(format).bf16_max);
}

template <Format F>
void expand_codes(const MatrixTiles::CodeColumns& at) {
  const quant::FourBitCode& code = quant::four_bit_code(F);
  for (uint64_t k = 0; k < at.k_count; ++k)
    for (uint32_t row = 0; row < kPanelRows; ++row)
      at.out[(k / 2 * kPanelRows + row) * 2 + k % 2] =
          static_cast<int16_t>(code.bf16[four_bit_index(F, at.panel, at.cols, row, at.k_begin + k)]);
  for (uint64_t block = 0; block < at.k_count / quant::kBlockCols; ++block)
    for (uint32_t row = 0; row < kPanelRows; ++row)
      at.absmax[block * kPanelRows + row] =
          scale_of_codes(F, at.panel, at.cols, row, at.k_begin / quant::kBlockCols + block);
}

template <Format F>
void gemv_codes(const void* panel_a, const void* panel_b, const float* x, uint64_t cols, float* y_a,
                float* y_b) {
  const quant::FourBitCode& code = quant::four_bit_code(F);
  for (uint32_t row = 0; row < kPanelRows; ++row) {
    float y = 0.0f;
    for (uint64_t block = 0; block < cols / quant::kBlockCols; ++block) {
      float sum = 0.0f;
      for (uint64_t k = block * quant::kBlockCols; k < (block + 1) * quant::kBlockCols; k += kPairColumns)
        sum = add_pair_columns(
            sum, kPairColumns,
            [&](uint64_t i) {
              return bf16_to_float(code.bf16[four_bit_index(F, panel_a, cols, row, k + i)]);
            },
            [&](uint64_t i) { return x[k + i]; });
      y = std::fma(sum, scale_of_codes(F, panel_a, cols, row, block), y);
    }
    y_a[row] = y;
  }
  if (panel_b != nullptr) gemv_codes<F>(panel_b, nullptr, x, cols, y_b, nullptr);
}

template <Format F>
void expand_pairs(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count, uint32_t* out) {
  float values[quant::kBlockCols * kPanelRows];
  auto* words = reinterpret_cast<uint16_t*>(out);
  for (uint64_t k = 0; k < k_count; ++k) {
    if (k % quant::kBlockCols == 0)
      expand_dequantized<F>(Dtype::bf16, panel, cols, k_begin + k, quant::kBlockCols, values);
    for (uint32_t row = 0; row < kPanelRows; ++row)
      words[(k / 2 * kPanelRows + row) * 2 + k % 2] =
          float_to_bf16(values[k % quant::kBlockCols * kPanelRows + row]);
  }
}

template <Format F>
void gemv_pairs(const void* panel_a, const void* panel_b, const float* x, uint64_t cols, float* y_a,
                float* y_b) {
  float values[kPairColumns * kPanelRows];
  for (uint32_t row = 0; row < kPanelRows; ++row) y_a[row] = 0.0f;
  for (uint64_t k = 0; k < cols; k += kPairColumns) {
    const uint64_t count = std::min(kPairColumns, cols - k);
    if constexpr (F == Format::bf16) {
      expand<F>(panel_a, cols, k, count, values);
    } else {
      float block[quant::kBlockCols * kPanelRows];
      expand_dequantized<F>(Dtype::bf16, panel_a, cols, k / quant::kBlockCols * quant::kBlockCols,
                            quant::kBlockCols, block);
      std::copy_n(block + k % quant::kBlockCols * kPanelRows, count * kPanelRows, values);
    }
    for (uint32_t row = 0; row < kPanelRows; ++row)
      y_a[row] = add_pair_columns(
          y_a[row], count, [&](uint64_t i) { return values[i * kPanelRows + row]; },
          [&](uint64_t i) { return x[k + i]; });
  }
  if (panel_b != nullptr) gemv_pairs<F>(panel_b, nullptr, x, cols, y_b, nullptr);
}

constexpr MatrixTiles kTiles = {
    .bytes = matrix_bytes,
    .pairs = matrix_pairs,
    .codes = matrix_codes,
    .expand_codes = {nullptr, nullptr, nullptr, nullptr, expand_codes<Format::nf4>,
                     expand_codes<Format::nf4_nested>, expand_codes<Format::fp4>,
                     expand_codes<Format::fp4_nested>},
    .gemv_codes = {nullptr, nullptr, nullptr, nullptr, gemv_codes<Format::nf4>,
                   gemv_codes<Format::nf4_nested>, gemv_codes<Format::fp4>, gemv_codes<Format::fp4_nested>},
    .expand = {nullptr, nullptr, nullptr, nullptr, expand_pairs<Format::nf4>,
               expand_pairs<Format::nf4_nested>, expand_pairs<Format::fp4>, expand_pairs<Format::fp4_nested>},
    .gemv = {nullptr, nullptr, gemv_pairs<Format::bf16>, nullptr, gemv_pairs<Format::nf4>,
             gemv_pairs<Format::nf4_nested>, gemv_pairs<Format::fp4>, gemv_pairs<Format::fp4_nested>},
};

}  // namespace
}  // namespace reference

const Kernels& reference_with_tiles() {
  static const Kernels set = [] {
    Kernels kernels = kReference;
    kernels.name = "reference-amx";
    kernels.matrix = &reference::kTiles;
    kernels.attend_block = reference::attend_block_tiles;
    return kernels;
  }();
  return set;
}

}  // namespace rhapsode::kernels
