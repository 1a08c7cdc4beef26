// Row kernels on vectors, as reference_rows.cpp has them. Needs a vec_<isa>.h before it.
#pragma once

#include "kernels/isa/vec_math.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

// Where a kernel stands in its row: kWidth elements from i on, or the last few.
struct Whole {
  uint64_t i;
  F load(const float* p) const { return kernels::load(p + i); }
  void store(float* p, F x) const { kernels::store(p + i, x); }
  F cut(F x) const { return x; }
};
struct Rest {
  uint64_t i;
  uint64_t count;
  F load(const float* p) const { return load_first(p + i, count); }
  void store(float* p, F x) const { store_first(p + i, count, x); }
  F cut(F x) const { return choose(lanes_between(0, 0, static_cast<uint32_t>(count)), x, zero()); }
};

template <class Body>
inline void along(uint64_t n, Body body) {
  uint64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) body(Whole{i});
  if (i < n) body(Rest{i, n - i});
}

// Sum over the row of what `add` makes of a partial sum and a position; absent elements must add nothing.
template <class Add>
inline float sum_along(uint64_t n, Add add) {
  F partials[kPartialVectors];
  for (F& partial : partials) partial = zero();
  uint64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (uint32_t v = 0; v < kPartialVectors; ++v) partials[v] = add(partials[v], Whole{i + v * kWidth});
  for (uint32_t v = 0; v < kPartialVectors && i < n; ++v, i += kWidth)
    partials[v] = n - i < kWidth ? add(partials[v], Rest{i, n - i}) : add(partials[v], Whole{i});
  return total(partials);
}

inline float inverse_rms(const float* x, uint64_t n, float eps) {
  const float squares =
      sum_along(n, [x](F partial, auto at) { return fma(at.load(x), at.load(x), partial); });
  return 1.0f / sqrt_of(squares / static_cast<float>(n) + eps);
}

void round_row(Dtype D, float* x, uint64_t n) {
  along(n, [=](auto at) { at.store(x, round_in(D, at.load(x))); });
}

void round_sums(Dtype D, const float* sums, uint32_t tokens, float* y, uint64_t y_stride) {
  for (uint32_t t = 0; t < tokens; ++t, sums += kPanelRows, y += y_stride)
    for (uint32_t row = 0; row < kPanelRows; row += kWidth) store(y + row, round_in(D, load(sums + row)));
}

void add(Dtype D, float* x, const float* y, uint64_t n) {
  along(n, [=](auto at) { at.store(x, round_in(D, at.load(x) + at.load(y))); });
}

void add_bias(float* x, const float* bias, uint64_t n) {
  along(n, [=](auto at) { at.store(x, at.load(x) + at.load(bias)); });
}

void scale(Dtype D, float* x, float factor, uint64_t n) {
  along(n, [=](auto at) { at.store(x, round_in(D, at.load(x) * splat(factor))); });
}

void rms_norm_l(Dtype D, const float* x, const float* w, uint64_t n, float eps, float* out) {
  const F inverse = splat(inverse_rms(x, n, eps));
  along(n, [=](auto at) { at.store(out, round_in(D, at.load(w) * round_in(D, at.load(x) * inverse))); });
}

void rms_norm_g(Dtype D, const float* x, const float* w, uint64_t n, float eps, float* out) {
  const F inverse = splat(inverse_rms(x, n, eps));
  along(n, [=](auto at) { at.store(out, round_in(D, at.load(x) * inverse * (splat(1.0f) + at.load(w)))); });
}

void layer_norm(Dtype D, const float* x, const float* w, const float* b, uint64_t n, float eps, float* out) {
  const float sum = sum_along(n, [x](F partial, auto at) { return partial + at.load(x); });
  const F mean = splat(sum / static_cast<float>(n));
  const float squares = sum_along(n, [=](F partial, auto at) {
    const F d = at.cut(at.load(x) - mean);
    return fma(d, d, partial);
  });
  const F inverse = splat(1.0f / sqrt_of(squares / static_cast<float>(n) + eps));
  along(n, [=](auto at) {
    const F y = (at.load(x) - mean) * inverse * at.load(w);
    at.store(out, round_in(D, b == nullptr ? y : y + at.load(b)));
  });
}

void rope(Dtype D, float* x, const float* cos, const float* sin, uint32_t rotary) {
  float* const upper = x + rotary / 2;
  along(rotary / 2, [=](auto at) {
    const F x1 = at.load(x), x2 = at.load(upper), c = at.load(cos), s = at.load(sin);
    at.store(x, round_in(D, round_in(D, x1 * c) - round_in(D, x2 * s)));
    at.store(upper, round_in(D, round_in(D, x2 * c) + round_in(D, x1 * s)));
  });
}

template <Activation A>
inline void activate_as(Dtype D, float* x, const float* up, uint64_t n) {
  along(n, [=](auto at) {
    const F y = activation_in<A>(D, at.load(x));
    at.store(x, up == nullptr ? y : round_in(D, y * at.load(up)));
  });
}

inline void activate_row(Activation act, Dtype D, float* x, const float* up, uint64_t n) {
  switch (act) {
    case Activation::silu:
      return activate_as<Activation::silu>(D, x, up, n);
    case Activation::gelu_tanh:
      return activate_as<Activation::gelu_tanh>(D, x, up, n);
    case Activation::gelu_new:
      return activate_as<Activation::gelu_new>(D, x, up, n);
    case Activation::gelu_erf:
      return activate_as<Activation::gelu_erf>(D, x, up, n);
    case Activation::relu2:
      return activate_as<Activation::relu2>(D, x, up, n);
    case Activation::relu:
      return activate_as<Activation::relu>(D, x, up, n);
  }
}

void activate(Activation act, Dtype D, float* x, uint64_t n) {
  activate_row(act, D, x, nullptr, n);
}

void activate_mul(Activation act, Dtype D, float* gate, const float* up, uint64_t n) {
  activate_row(act, D, gate, up, n);
}

void softcap(Dtype D, float* x, float cap, uint64_t n) {
  along(n, [=](auto at) {
    const F t = tanh_of(round_in(D, at.load(x) / splat(cap)));
    at.store(x, round_in(D, round_in(D, t) * splat(cap)));
  });
}

// kWidth elements of D at p, as float, and back.
inline F load_as(Dtype D, const uint8_t* p) {
  if (D == Dtype::bf16) return from_bits(shift_left<16>(load_u16(p)));
  if (D == Dtype::f16) return load_f16(p);
  return load(reinterpret_cast<const float*>(p));
}

inline void store_as(Dtype D, uint8_t* p, F x) {
  if (D == Dtype::bf16) return store_u16(p, bf16_bits(x));
  if (D == Dtype::f16) return store_f16(p, x);
  store(reinterpret_cast<float*>(p), x);
}

inline uint64_t width_of(Dtype D) {
  return D == Dtype::f32 ? 4 : 2;
}

void store_row(Dtype D, const float* x, uint64_t n, void* out) {
  uint8_t* to = static_cast<uint8_t*>(out);
  along(n, [=](auto at) {
    if constexpr (requires { at.count; }) {
      uint8_t last[4 * kWidth];
      store_as(D, last, at.load(x));
      __builtin_memcpy(to + at.i * width_of(D), last, at.count * width_of(D));
    } else {
      store_as(D, to + at.i * width_of(D), at.load(x));
    }
  });
}

void load_row(Dtype D, const void* in, uint64_t n, float* out) {
  const uint8_t* from = static_cast<const uint8_t*>(in);
  along(n, [=](auto at) {
    if constexpr (requires { at.count; }) {
      uint8_t last[4 * kWidth] = {};
      __builtin_memcpy(last, from + at.i * width_of(D), at.count * width_of(D));
      at.store(out, load_as(D, last));
    } else {
      at.store(out, load_as(D, from + at.i * width_of(D)));
    }
  });
}

}  // namespace
}  // namespace rhapsode::kernels
