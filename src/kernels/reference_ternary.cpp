// Ternary panels of the reference set.
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

void dot_ternary(const void* panel, const int8_t* codes, uint64_t codes_stride, uint32_t tokens,
                 uint64_t cols, float* y, uint64_t y_stride) {
  for (uint32_t t = 0; t < tokens; ++t) {
    for (uint32_t row = 0; row < kPanelRows; ++row) {
      int32_t sum = 0;
      for (uint64_t k = 0; k < cols; ++k) sum += ternary_value(panel, row, k) * codes[t * codes_stride + k];
      y[t * y_stride + row] = static_cast<float>(sum);
    }
  }
}

}  // namespace rhapsode::kernels::reference
