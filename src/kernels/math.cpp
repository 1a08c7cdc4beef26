// The functions of one float. Owns the sequence of operations; the coefficients are in polynomials.h.
#include "kernels/math.h"

#include <bit>
#include <cmath>
#include <span>

#include "kernels/polynomials.h"

namespace rhapsode::kernels {
namespace {

// Horner's scheme by fused multiply-adds, highest power first.
float horner(std::span<const float> c, float x) {
  float y = c.back();
  for (size_t i = c.size() - 1; i-- > 0;) y = std::fma(y, x, c[i]);
  return y;
}

float power_of_two(int32_t n) {
  return std::bit_cast<float>(static_cast<uint32_t>(n + 127) << 23);
}

}  // namespace

float exp_f32(float x) {
  // Comparisons are written so that NaN passes through.
  float y = kExpLowest > x ? kExpLowest : x;
  y = kExpHighest < y ? kExpHighest : y;
  const float t = std::fma(y, kLog2E, kRoundMagic);
  const float n = t - kRoundMagic;
  float r = std::fma(n, -kLn2High, y);
  r = std::fma(n, -kLn2Low, r);
  const float p = std::fma(r * r, horner(kExp, r), r) + 1.0f;
  // Two factors: n reaches -150, where a single power of two would not be a normal number.
  const int32_t i = static_cast<int32_t>(std::bit_cast<uint32_t>(t) - std::bit_cast<uint32_t>(kRoundMagic));
  if (x != x) return x + x;
  const int32_t half = i >> 1;
  return p * power_of_two(half) * power_of_two(i - half);
}

float weight_f32(float x) {
  return x < kWeightLowest ? 0.0f : exp_f32(x);
}

float tanh_f32(float x) {
  const float a = std::fabs(x);
  float y;
  if (a < kTanhSplit) {
    const float u = a * a;
    y = std::fma(a * u, horner(kTanh, u), a);
  } else {
    y = 1.0f - 2.0f / (exp_f32(2.0f * a) + 1.0f);
  }
  return std::copysign(y, x);
}

float erf_f32(float x) {
  const float a = std::fabs(x);
  float y;
  if (a < kErfSplit) {
    y = std::fma(a, horner(kErfSmall, a * a), a);
  } else {
    y = 1.0f - exp_f32(horner(kErfLarge, kErfLast < a ? kErfLast : a));
  }
  return std::copysign(y, x);
}

float activation_f32(Activation act, float x) {
  switch (act) {
    case Activation::silu:
      return x / (1.0f + exp_f32(-x));
    case Activation::gelu_new:
    case Activation::gelu_tanh: {
      const float inner = kSqrt2OverPi * std::fma(kGeluCubic, x * x * x, x);
      return 0.5f * x * (1.0f + tanh_f32(inner));
    }
    case Activation::gelu_erf:
      return 0.5f * x * (1.0f + erf_f32(x * kSqrtHalf));
    case Activation::relu2: {
      const float r = 0.0f > x ? 0.0f : x;
      return r * r;
    }
    case Activation::relu:
      return 0.0f > x ? 0.0f : x;
  }
  return x;
}

float gelu_new_in(Dtype D, float x) {
  // torch's pow(x, 3) is base * base * base; its bf16 vectors round each product, its f16 path only the last.
  const float square = D == Dtype::bf16 ? round_to(D, x * x) : x * x;
  const float cube = round_to(D, square * x);
  const float sum = round_to(D, x + round_to(D, kGeluCubic * cube));
  const float t = round_to(D, tanh_f32(round_to(D, kSqrt2OverPi * sum)));
  return round_to(D, round_to(D, 0.5f * x) * round_to(D, 1.0f + t));
}

float activate_in(Activation act, Dtype D, float x) {
  return act == Activation::gelu_new ? gelu_new_in(D, x) : round_to(D, activation_f32(act, x));
}

}  // namespace rhapsode::kernels
