// Dequantized 4-bit weights of the reference set.
#include <cmath>

#include "kernels/reference.h"

namespace rhapsode::kernels::reference {

template <Format F>
void expand_dequantized(Dtype D, const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count,
                        float* out) {
  const quant::FourBitCode& code = quant::four_bit_code(F);
  for (uint64_t k = 0; k < k_count; ++k)
    for (uint32_t row = 0; row < kPanelRows; ++row)
      out[k * kPanelRows + row] =
          round_to(D, code.values[four_bit_index(F, panel, cols, row, k_begin + k)] *
                          scale_of(F, panel, cols, row, (k_begin + k) / quant::kBlockCols));
}

template <Format F>
void gemv_dequantized(Dtype D, const void* panel_a, const void* panel_b, const float* x, uint64_t cols,
                      float* y_a, float* y_b) {
  float weights[quant::kBlockCols * kPanelRows];
  for (uint32_t row = 0; row < kPanelRows; ++row) y_a[row] = 0.0f;
  for (uint64_t k = 0; k < cols; ++k) {
    const uint64_t i = k % quant::kBlockCols;
    if (i == 0) expand_dequantized<F>(D, panel_a, cols, k, quant::kBlockCols, weights);
    for (uint32_t row = 0; row < kPanelRows; ++row)
      y_a[row] = std::fma(weights[i * kPanelRows + row], x[k], y_a[row]);
  }
  if (panel_b != nullptr) gemv_dequantized<F>(D, panel_b, nullptr, x, cols, y_b, nullptr);
}

#define RHAPSODE_DEQUANTIZED(F)                                                                      \
  template void gemv_dequantized<F>(Dtype, const void*, const void*, const float*, uint64_t, float*, \
                                    float*);                                                         \
  template void expand_dequantized<F>(Dtype, const void*, uint64_t, uint64_t, uint64_t, float*);
RHAPSODE_DEQUANTIZED(Format::nf4)
RHAPSODE_DEQUANTIZED(Format::nf4_nested)
RHAPSODE_DEQUANTIZED(Format::fp4)
RHAPSODE_DEQUANTIZED(Format::fp4_nested)
#undef RHAPSODE_DEQUANTIZED

}  // namespace rhapsode::kernels::reference
