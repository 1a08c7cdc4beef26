// Matrix products of the reference set: one fma chain per output, k ascending.
#include <cmath>
#include <cstring>

#include "kernels/reference.h"

namespace rhapsode::kernels::reference {
namespace {

template <Format F>
float element(const void* panel, uint32_t row, uint64_t k) {
  if constexpr (F == Format::f32) {
    float x;
    std::memcpy(&x, static_cast<const std::byte*>(panel) + (k * kPanelRows + row) * 4, 4);
    return x;
  }
  const uint64_t at = F == Format::bf16 ? (k / 2 * kPanelRows + row) * 2 + k % 2 : k * kPanelRows + row;
  uint16_t bits;
  std::memcpy(&bits, static_cast<const std::byte*>(panel) + at * 2, 2);
  return F == Format::bf16 ? bf16_to_float(bits) : f16_to_float(bits);
}

}  // namespace

template <Format F>
void gemv(const void* panel_a, const void* panel_b, const float* x, uint64_t cols, float* y_a, float* y_b) {
  for (uint32_t row = 0; row < kPanelRows; ++row) {
    float sum = 0.0f;
    for (uint64_t k = 0; k < cols; ++k) sum = std::fma(element<F>(panel_a, row, k), x[k], sum);
    y_a[row] = sum;
  }
  if (panel_b != nullptr) gemv<F>(panel_b, nullptr, x, cols, y_b, nullptr);
}

template <Format F>
void expand(const void* panel, uint64_t, uint64_t k_begin, uint64_t k_count, float* out) {
  for (uint64_t k = 0; k < k_count; ++k)
    for (uint32_t row = 0; row < kPanelRows; ++row)
      out[k * kPanelRows + row] = element<F>(panel, row, k_begin + k);
}

void gemm_tile(const float* b, const float* a, uint32_t tokens, uint64_t k_count, float* c, uint64_t c_stride,
               bool first) {
  for (uint32_t t = 0; t < tokens; ++t) {
    for (uint32_t row = 0; row < kPanelRows; ++row) {
      float sum = first ? 0.0f : c[t * c_stride + row];
      for (uint64_t k = 0; k < k_count; ++k)
        sum = std::fma(a[k * kGemmTokens + t], b[k * kPanelRows + row], sum);
      c[t * c_stride + row] = sum;
    }
  }
}

template <Format F>
void few_dense(const void* panel, const float* a, uint32_t tokens, uint64_t cols, float* c,
               uint64_t c_stride) {
  for (uint32_t t = 0; t < tokens; ++t) {
    for (uint32_t row = 0; row < kPanelRows; ++row) {
      float sum = 0.0f;
      for (uint64_t k = 0; k < cols; ++k)
        sum = std::fma(element<F>(panel, row, k), a[k * kGemmTokens + t], sum);
      c[t * c_stride + row] = sum;
    }
  }
}

void pack_tokens(const float* x, uint64_t x_stride, uint32_t tokens, uint64_t k_begin, uint64_t k_count,
                 float* a) {
  for (uint64_t k = 0; k < k_count; ++k)
    for (uint32_t t = 0; t < kGemmTokens; ++t)
      a[k * kGemmTokens + t] = t < tokens ? x[t * x_stride + k_begin + k] : 0.0f;
}

template void gemv<Format::f32>(const void*, const void*, const float*, uint64_t, float*, float*);
template void gemv<Format::f16>(const void*, const void*, const float*, uint64_t, float*, float*);
template void gemv<Format::bf16>(const void*, const void*, const float*, uint64_t, float*, float*);
template void few_dense<Format::f32>(const void*, const float*, uint32_t, uint64_t, float*, uint64_t);
template void few_dense<Format::f16>(const void*, const float*, uint32_t, uint64_t, float*, uint64_t);
template void few_dense<Format::bf16>(const void*, const float*, uint32_t, uint64_t, float*, uint64_t);
template void expand<Format::f32>(const void*, uint64_t, uint64_t, uint64_t, float*);
template void expand<Format::f16>(const void*, uint64_t, uint64_t, uint64_t, float*);
template void expand<Format::bf16>(const void*, uint64_t, uint64_t, uint64_t, float*);

}  // namespace rhapsode::kernels::reference
