// Row kernels of the reference set: rounding, norms, rotation, activations, conversions.
#include <array>
#include <cmath>
#include <cstring>

#include "kernels/math.h"
#include "kernels/reference.h"

namespace rhapsode::kernels::reference {
namespace {

// The 16 partial sums of a row reduction.
struct Partials {
  std::array<float, 16> sums{};

  void add(uint64_t i, float x) { sums[i % 16] += x; }
  void add_product(uint64_t i, float x, float y) { sums[i % 16] = std::fma(x, y, sums[i % 16]); }
  float total() {
    for (uint32_t width = 8; width > 0; width /= 2)
      for (uint32_t j = 0; j < width; ++j) sums[j] += sums[j + width];
    return sums[0];
  }
};

// 1 / sqrt(mean(x^2) + eps)
float inverse_rms(const float* x, uint64_t n, float eps) {
  Partials squares;
  for (uint64_t i = 0; i < n; ++i) squares.add_product(i, x[i], x[i]);
  return 1.0f / std::sqrt(squares.total() / static_cast<float>(n) + eps);
}

}  // namespace

void round_row(Dtype D, float* x, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) x[i] = round_to(D, x[i]);
}

void round_sums(Dtype D, const float* sums, uint32_t tokens, float* y, uint64_t y_stride) {
  for (uint32_t t = 0; t < tokens; ++t)
    for (uint32_t row = 0; row < kPanelRows; ++row)
      y[t * y_stride + row] = round_to(D, sums[t * kPanelRows + row]);
}

void add(Dtype D, float* x, const float* y, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) x[i] = round_to(D, x[i] + y[i]);
}

void add_bias(float* x, const float* bias, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) x[i] = x[i] + bias[i];
}

void scale(Dtype D, float* x, float factor, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) x[i] = round_to(D, x[i] * factor);
}

void rms_norm_l(Dtype D, const float* x, const float* w, uint64_t n, float eps, float* out) {
  const float inverse = inverse_rms(x, n, eps);
  for (uint64_t i = 0; i < n; ++i) out[i] = round_to(D, w[i] * round_to(D, x[i] * inverse));
}

void rms_norm_g(Dtype D, const float* x, const float* w, uint64_t n, float eps, float* out) {
  const float inverse = inverse_rms(x, n, eps);
  for (uint64_t i = 0; i < n; ++i) out[i] = round_to(D, x[i] * inverse * (1.0f + w[i]));
}

void layer_norm(Dtype D, const float* x, const float* w, const float* b, uint64_t n, float eps, float* out) {
  Partials sum;
  for (uint64_t i = 0; i < n; ++i) sum.add(i, x[i]);
  const float mean = sum.total() / static_cast<float>(n);
  Partials squares;
  for (uint64_t i = 0; i < n; ++i) squares.add_product(i, x[i] - mean, x[i] - mean);
  const float inverse = 1.0f / std::sqrt(squares.total() / static_cast<float>(n) + eps);
  for (uint64_t i = 0; i < n; ++i) {
    const float y = (x[i] - mean) * inverse * w[i];
    out[i] = round_to(D, b == nullptr ? y : y + b[i]);
  }
}

void rope(Dtype D, float* x, const float* cos, const float* sin, uint32_t rotary) {
  const uint32_t half = rotary / 2;
  for (uint32_t i = 0; i < half; ++i) {
    const float x1 = x[i], x2 = x[i + half];
    x[i] = round_to(D, round_to(D, x1 * cos[i]) + round_to(D, -x2 * sin[i]));
    x[i + half] = round_to(D, round_to(D, x2 * cos[i]) + round_to(D, x1 * sin[i]));
  }
}

void activate(Activation act, Dtype D, float* x, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) x[i] = activate_in(act, D, x[i]);
}

void activate_mul(Activation act, Dtype D, float* gate, const float* up, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) gate[i] = round_to(D, activate_in(act, D, gate[i]) * up[i]);
}

void softcap(Dtype D, float* x, float cap, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) x[i] = round_to(D, round_to(D, tanh_f32(round_to(D, x[i] / cap))) * cap);
}

void store(Dtype D, const float* x, uint64_t n, void* out) {
  std::byte* to = static_cast<std::byte*>(out);
  if (D == Dtype::f32) {
    for (uint64_t i = 0; i < n; ++i) std::memcpy(to + 4 * i, x + i, 4);
    return;
  }
  for (uint64_t i = 0; i < n; ++i) {
    const uint16_t bits = D == Dtype::bf16 ? float_to_bf16(x[i]) : float_to_f16(x[i]);
    std::memcpy(to + 2 * i, &bits, 2);
  }
}

void load(Dtype D, const void* in, uint64_t n, float* out) {
  const std::byte* from = static_cast<const std::byte*>(in);
  if (D == Dtype::f32) {
    for (uint64_t i = 0; i < n; ++i) std::memcpy(out + i, from + 4 * i, 4);
    return;
  }
  for (uint64_t i = 0; i < n; ++i) {
    uint16_t bits;
    std::memcpy(&bits, from + 2 * i, 2);
    out[i] = D == Dtype::bf16 ? bf16_to_float(bits) : f16_to_float(bits);
  }
}

}  // namespace rhapsode::kernels::reference
