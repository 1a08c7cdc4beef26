// The functions of kernels/math.cpp for a vector, operation by operation. Needs a vec_<isa>.h before it.
#pragma once

#include "kernels/kernels.h"
#include "kernels/polynomials.h"

namespace rhapsode::kernels {
namespace {

inline F absolute(F x) {
  return from_bits(and_i(bits(x), splat_i(0x7fffffffu)));
}
inline F with_sign_of(F magnitude, F sign) {
  return from_bits(or_i(bits(magnitude), and_i(bits(sign), splat_i(0x80000000u))));  // magnitude has no sign
}

inline I bf16_bits(F x) {  // in the low half of each dword
  const I b = bits(x);
  const I odd = and_i(shift_right<16>(b), splat_i(1));
  const I rounded = add_i(add_i(b, splat_i(0x7fffu)), odd);
  const I quiet = or_i(b, splat_i(0x400000u));
  return shift_right<16>(bits(choose(is_nan(x), from_bits(quiet), from_bits(rounded))));
}
inline F round_bf16(F x) {
  return from_bits(shift_left<16>(bf16_bits(x)));
}

inline F round_in(Dtype D, F x) {
  if (D == Dtype::bf16) return round_bf16(x);
  if (D == Dtype::f16) return round_f16(x);
  return x;
}

template <uint32_t N>
inline F horner(const float (&c)[N], F x) {
  F y = splat(c[N - 1]);
  for (uint32_t i = N - 1; i-- > 0;) y = fma(y, x, splat(c[i]));
  return y;
}

// exp(x) = p * 2^n.
struct Exponential {
  F p;
  F n;
};
[[gnu::always_inline]] inline Exponential exponential(F x) {
  const F t = fma(x, splat(kLog2E), splat(kRoundMagic));
  const F n = t - splat(kRoundMagic);
  F r = fma(n, splat(-kLn2High), x);
  r = fma(n, splat(-kLn2Low), r);
  return {fma(r * r, horner(kExp, r), r) + splat(1.0f), n};
}

[[gnu::always_inline]] inline F exp_of(F x) {
  const Exponential e = exponential(smaller(splat(kExpHighest), larger(splat(kExpLowest), x)));
  return times_power_of_two(e.p, e.n);
}

// Of x <= 0.
[[gnu::always_inline]] inline F weight_of(F x) {
  const Exponential e = exponential(x);
  return only(not_less(x, splat(kWeightLowest)), times_normal_power_of_two(e.p, e.n));
}

inline F tanh_of(F x) {
  const F a = absolute(x);
  const F u = a * a;
  const F small = fma(a * u, horner(kTanh, u), a);
  const F large = splat(1.0f) - splat(2.0f) / (exp_of(splat(2.0f) * a) + splat(1.0f));
  return with_sign_of(choose(less(a, splat(kTanhSplit)), small, large), x);
}

inline F erf_of(F x) {
  const F a = absolute(x);
  const F small = fma(a, horner(kErfSmall, a * a), a);
  const F large = splat(1.0f) - exp_of(horner(kErfLarge, smaller(splat(kErfLast), a)));
  return with_sign_of(choose(less(a, splat(kErfSplit)), small, large), x);
}

template <Activation A>
inline F activation_in(Dtype D, F x) {
  if constexpr (A == Activation::silu) return round_in(D, x / (splat(1.0f) + exp_of(zero() - x)));
  if constexpr (A == Activation::gelu_tanh) {
    const F inner = splat(kSqrt2OverPi) * fma(splat(kGeluCubic), x * x * x, x);
    return round_in(D, splat(0.5f) * x * (splat(1.0f) + tanh_of(inner)));
  }
  if constexpr (A == Activation::gelu_new) {
    const F square = D == Dtype::bf16 ? round_bf16(x * x) : x * x;
    const F cube = round_in(D, square * x);
    const F sum = round_in(D, x + round_in(D, splat(kGeluCubic) * cube));
    const F t = round_in(D, tanh_of(round_in(D, splat(kSqrt2OverPi) * sum)));
    return round_in(D, round_in(D, splat(0.5f) * x) * round_in(D, splat(1.0f) + t));
  }
  if constexpr (A == Activation::gelu_erf)
    return round_in(D, splat(0.5f) * x * (splat(1.0f) + erf_of(x * splat(kSqrtHalf))));
  const F positive = larger(zero(), x);
  return round_in(D, A == Activation::relu2 ? positive * positive : positive);
}

}  // namespace
}  // namespace rhapsode::kernels
