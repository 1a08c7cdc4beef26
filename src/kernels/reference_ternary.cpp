// Ternary panels of the reference set.
#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/reference.h"
#include "quant/formats.h"

namespace rhapsode::kernels::reference {
namespace {

int32_t ternary_value(const void* panel, uint32_t row, uint64_t k) {
  const uint64_t column = k % quant::kTernaryCols;
  const auto* bytes = static_cast<const uint8_t*>(panel);
  const uint8_t byte = bytes[(k / quant::kTernaryCols * kPanelRows + row) * 4 + column % 4];
  return static_cast<int32_t>(byte >> (column / 4 * 2) & 3) - 1;
}

}  // namespace

void expand_ternary(const void* panel, uint64_t, uint64_t k_begin, uint64_t k_count, float* out) {
  for (uint64_t k = 0; k < k_count; ++k)
    for (uint32_t row = 0; row < kPanelRows; ++row)
      out[k * kPanelRows + row] = static_cast<float>(ternary_value(panel, row, k_begin + k));
}

void gemv_trits(const void* panel_a, const void* panel_b, const float* x, uint64_t cols, float* y_a,
                float* y_b) {
  for (uint32_t row = 0; row < kPanelRows; ++row) {
    y_a[row] = 0.0f;
    for (uint64_t k = 0; k < cols; ++k)
      y_a[row] = std::fma(static_cast<float>(ternary_value(panel_a, row, k)), x[k], y_a[row]);
  }
  if (panel_b != nullptr) gemv_trits(panel_b, nullptr, x, cols, y_b, nullptr);
}

float largest_magnitude(const float* x, uint64_t n) {
  uint32_t largest = 0;
  for (uint64_t k = 0; k < n; ++k) largest = std::max(largest, std::bit_cast<uint32_t>(x[k]) & 0x7fffffffu);
  return std::bit_cast<float>(largest);
}

void round_codes(float* x, uint64_t n, float factor) {
  for (uint64_t k = 0; k < n; ++k) {
    const float value = x[k] * factor;
    x[k] = std::nearbyint(value > -128.0f ? std::min(value, 127.0f) : -128.0f);
  }
}

int32_t narrow_codes(const float* x, uint64_t n, int8_t* codes) {
  int32_t sum = 0;
  for (uint64_t k = 0; k < n; ++k) sum += codes[k] = static_cast<int8_t>(x[k]);
  return sum;
}

void dot_ternary(const void* panel, const int8_t* codes, uint64_t codes_stride, const int32_t*,
                 uint32_t tokens, uint64_t cols, float* y, uint64_t y_stride) {
  for (uint32_t t = 0; t < tokens; ++t) {
    for (uint32_t row = 0; row < kPanelRows; ++row) {
      int32_t sum = 0;
      for (uint64_t k = 0; k < cols; ++k) sum += ternary_value(panel, row, k) * codes[t * codes_stride + k];
      y[t * y_stride + row] = static_cast<float>(sum);
    }
  }
}

void gemv_ternary(const void* panel_a, const void* panel_b, const void* codes, const float*, uint64_t cols,
                  float* y_a, float* y_b) {
  const auto* x = static_cast<const int8_t*>(codes);
  dot_ternary(panel_a, x, cols, nullptr, 1, cols, y_a, kPanelRows);
  if (panel_b != nullptr) dot_ternary(panel_b, x, cols, nullptr, 1, cols, y_b, kPanelRows);
}

void expand_trits(const void* panel, uint64_t k_begin, uint64_t k_count, uint8_t* out) {
  for (uint64_t k = 0; k < k_count; ++k)
    for (uint32_t row = 0; row < kPanelRows; ++row)
      out[(k / 4 * kPanelRows + row) * 4 + k % 4] =
          static_cast<uint8_t>(ternary_value(panel, row, k_begin + k) + 1);
}

void tile_trits(const uint8_t* b, const int8_t* a, uint32_t tokens, uint64_t quads, float* c,
                uint64_t c_stride, bool first) {
  for (uint32_t t = 0; t < tokens; ++t) {
    for (uint32_t row = 0; row < kPanelRows; ++row) {
      float& at = c[t * c_stride + row];
      int32_t sum = first ? 0 : std::bit_cast<int32_t>(at);
      for (uint64_t q = 0; q < quads; ++q)
        for (uint32_t i = 0; i < 4; ++i)
          sum += b[(q * kPanelRows + row) * 4 + i] * a[(q * kGemmTokens + t) * 4 + i];
      at = std::bit_cast<float>(sum);
    }
  }
}

void finish_trits(int32_t code_sum, float* c) {
  for (uint32_t row = 0; row < kPanelRows; ++row)
    c[row] = static_cast<float>(std::bit_cast<int32_t>(c[row]) - code_sum);
}

}  // namespace rhapsode::kernels::reference
