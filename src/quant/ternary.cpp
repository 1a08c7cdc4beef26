// See ternary.h.
#include "quant/ternary.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "quant/formats.h"
#include "quant/quantized_panels.h"

namespace rhapsode::quant {
namespace {

constexpr float kSmallest = 1e-5f;

// Half to even: adding 1.5 * 2^23 leaves no bits behind the point. low and high are integers of at most 7
// bits, so clamping first gives the same.
float rounded(float x, float low, float high) {
  constexpr float kNoFraction = 12582912.0f;
  return std::clamp(x, low, high) + kNoFraction - kNoFraction;
}

}  // namespace

bool unpack_ternary_row(const TernaryRows& tensor, uint64_t row, std::span<int8_t> out) {
  assert(out.size() == tensor.cols && row < tensor.packed_rows * kTernaryRowsPerByte);
  const uint64_t packed_row = row % tensor.packed_rows;
  const unsigned shift = 2 * static_cast<unsigned>(row / tensor.packed_rows);
  assert(packed_row >= tensor.first);
  assert((packed_row - tensor.first + 1) * tensor.cols <= tensor.packed.size());
  const std::byte* from = tensor.packed.data() + (packed_row - tensor.first) * tensor.cols;
  bool valid = true;
  for (uint64_t k = 0; k < tensor.cols; ++k) {
    const int field = std::to_integer<int>(from[k] >> shift) & 3;
    valid = valid && field != 3;
    out[k] = static_cast<int8_t>(field - 1);
  }
  return valid;
}

void pack_ternary(std::span<const int8_t> values, uint64_t rows, uint64_t cols, std::span<std::byte> out) {
  assert(rows % kTernaryRowsPerByte == 0 && values.size() == rows * cols);
  assert(out.size() == rows / kTernaryRowsPerByte * cols);
  const uint64_t packed_rows = rows / kTernaryRowsPerByte;
  for (uint64_t p = 0; p < packed_rows; ++p) {
    for (uint64_t k = 0; k < cols; ++k) {
      unsigned byte = 0;
      for (unsigned j = 0; j < kTernaryRowsPerByte; ++j)
        byte |= static_cast<unsigned>(values[(p + j * packed_rows) * cols + k] + 1) << (2 * j);
      out[p * cols + k] = static_cast<std::byte>(byte);
    }
  }
}

void pack_ternary_panel(std::span<const int8_t> values, uint32_t row_count, uint64_t cols,
                        std::span<std::byte> panel) {
  assert(row_count <= kPanelRows && values.size() == row_count * cols);
  assert(panel.size() == panel_bytes(Format::ternary, cols));
  std::fill(panel.begin(), panel.end(), std::byte{0b01010101});
  for (uint32_t row = 0; row < row_count; ++row) {
    const int8_t* from = values.data() + row * cols;
    for (uint64_t k = 0; k < cols; k += kTernaryCols) {
      const uint64_t count = std::min(kTernaryCols, cols - k);
      uint32_t dword = 0x55555555u;  // sixteen zeros; a field differs from its value + 1 by an xor with 1
      for (uint64_t c = 0; c < count; ++c)
        dword ^= static_cast<uint32_t>((from[k + c] + 1) ^ 1) << (c % 4 * 8 + c / 4 * 2);
      std::memcpy(panel.data() + (k / kTernaryCols * kPanelRows + row) * 4, &dword, sizeof dword);
    }
  }
}

void unpack_ternary_row(const std::byte* panel, uint32_t row, uint64_t cols, float* out) {
  for (uint64_t k = 0; k < cols; ++k) {
    const uint64_t column = k % kTernaryCols;
    const std::byte byte = panel[(k / kTernaryCols * kPanelRows + row) * 4 + column % 4];
    out[k] = static_cast<float>((std::to_integer<int>(byte >> (column / 4 * 2)) & 3) - 1);
  }
}

float ternary_factor(double sum, uint64_t count) {
  assert(count > 0);
  return 1.0f / std::max(static_cast<float>(sum / static_cast<double>(count)), kSmallest);
}

int8_t ternary_value(float w, float factor) {
  return static_cast<int8_t>(rounded(w * factor, -1.0f, 1.0f));
}

float activation_factor(float largest) {
  return 1.0f / std::max(largest, kSmallest) * 127.0f;
}

int8_t activation_value(float x, float factor) {
  return static_cast<int8_t>(rounded(x * factor, -128.0f, 127.0f));
}

}  // namespace rhapsode::quant
