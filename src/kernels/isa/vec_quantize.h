// Turning activations into integers, as reference_quantized.cpp has it. Needs a vec_<isa>.h before it.
#pragma once

#include "kernels/isa/vec_math.h"
#include "kernels/isa/vec_rows.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

// The largest lane by its bits: NaN is larger than infinity, and that than all else.
inline float largest_magnitude(I magnitudes) {
  int32_t lane[kWidth];
  store_dwords(lane, magnitudes);
  int32_t largest = 0;
  for (const int32_t value : lane) largest = value > largest ? value : largest;
  return __builtin_bit_cast(float, largest);
}

inline bool finite(float x) {
  return (__builtin_bit_cast(uint32_t, x) & 0x7fffffffu) < 0x7f800000u;
}

inline I magnitude_bits(F x) {
  return and_i(bits(x), splat_i(0x7fffffffu));
}

// x in f16, zero where it is an outlier.
inline F kept(F x, F threshold) {
  const F value = round_f16(x);
  return choose(at_least(absolute(value), threshold), zero(), value);
}

void quantize_int8(const float* x, uint64_t n, float threshold, int8_t* codes, float* scale) {
  const F limit = splat(threshold);
  I largest = splat_i(0);
  uint64_t k = 0;
  for (; k + kWidth <= n; k += kWidth) largest = larger_i(largest, magnitude_bits(kept(load(x + k), limit)));
  if (k < n) largest = larger_i(largest, magnitude_bits(kept(load_first(x + k, n - k), limit)));
  *scale = largest_magnitude(largest);
  if (*scale == 0.0f || !finite(*scale)) {
    __builtin_memset(codes, 0, (n + 3) / 4 * 4);
    return;
  }
  const F factor = splat((1.0f / *scale) * 127.0f);
  for (k = 0; k + kWidth <= n; k += kWidth) store_i8(codes + k, to_int(kept(load(x + k), limit) * factor));
  if (k == n) return;
  int8_t last[kWidth];
  store_i8(last, to_int(kept(load_first(x + k, n - k), limit) * factor));
  __builtin_memcpy(codes + k, last, (n - k + 3) / 4 * 4);
}

void mark_outliers(const float* x, uint64_t n, float threshold, uint32_t* marks) {
  const F limit = splat(threshold);
  const auto bits_at = [&](F value) { return lane_bits(at_least(absolute(round_f16(value)), limit)); };
  for (uint64_t word = 0; word * 32 < n; ++word) {
    uint32_t bits = 0;
    for (uint64_t k = word * 32; k < word * 32 + 32 && k < n; k += kWidth)
      bits |= (k + kWidth <= n ? bits_at(load(x + k)) : bits_at(load_first(x + k, n - k))) << k % 32;
    marks[word] = bits;
  }
  // Lanes beyond n are 0, which only a threshold of 0 or less would mark.
  if (n % 32 != 0) marks[n / 32] &= (1u << n % 32) - 1;
}

float largest_magnitude_of_row(const float* x, uint64_t n) {
  I largest = splat_i(0);
  uint64_t k = 0;
  for (; k + kWidth <= n; k += kWidth) largest = larger_i(largest, magnitude_bits(load(x + k)));
  if (k < n) largest = larger_i(largest, magnitude_bits(load_first(x + k, n - k)));
  return largest_magnitude(largest);
}

void round_codes(float* x, uint64_t n, float factor) {
  along(n, [=](auto at) {
    const F value = smaller(larger(at.load(x) * splat(factor), splat(-128.0f)), splat(127.0f));
    at.store(x, to_float(to_int(value)));
  });
}

// The largest magnitude of a block.
inline float block_magnitude(const float* x) {
  I magnitudes = splat_i(0);
  for (uint64_t k = 0; k < quant::kBlockCols; k += kWidth)
    magnitudes = larger_i(magnitudes, magnitude_bits(load(x + k)));
  return largest_magnitude(magnitudes);
}

inline int32_t total_of(I x) {
  int32_t lanes_of[kWidth], sum = 0;
  store_dwords(lanes_of, x);
  for (const int32_t lane : lanes_of) sum += lane;
  return sum;
}

int32_t narrow_codes(const float* x, uint64_t n, int8_t* codes) {
  I sums = splat_i(0);
  uint64_t k = 0;
  for (; k + kWidth <= n; k += kWidth) {
    const I values = to_int(load(x + k));
    store_i8(codes + k, values);
    sums = add_i(sums, values);
  }
  if (k < n) {
    const I values = to_int(load_first(x + k, n - k));
    int8_t last[kWidth];
    store_i8(last, values);
    __builtin_memcpy(codes + k, last, n - k);
    sums = add_i(sums, values);
  }
  return total_of(sums);
}

// The number of bounds of a 4-bit code that lie below y, in four steps of a search.
class BoundsBelow {
 public:
  explicit BoundsBelow(const quant::FourBitCode& code)
      : middle_(splat(code.bounds[7])), low_(splat(code.bounds[3])), high_(splat(code.bounds[11])) {
    float quarters[8], eighths[8];
    for (uint32_t i = 0; i < 8; ++i) {
      quarters[i] = code.bounds[i < 4 ? 4 * i + 1 : 13];
      eighths[i] = code.bounds[2 * i];
    }
    quarters_ = table8(quarters);
    eighths_ = table8(eighths);
  }

  I operator()(F y) const {
    const Mask upper = less(middle_, y);
    I at = add_i(one_if(upper), one_if(upper));
    at = add_i(at, one_if(less(choose(upper, high_, low_), y)));
    at = add_i(shift_left<1>(at), one_if(less(look_up8(quarters_, at), y)));
    return add_i(shift_left<1>(at), one_if(less(look_up8(eighths_, at), y)));
  }

 private:
  static I one_if(Mask mask) { return bits(choose(mask, from_bits(splat_i(1)), zero())); }

  F middle_, low_, high_, quarters_, eighths_;
};

void quantize_blocks(Format format, const float* x, uint64_t blocks, uint8_t* codes, float* absmax) {
  const quant::FourBitCode& code = quant::four_bit_code(format);
  const BoundsBelow below(code);
  const I order = splat_table(code.order);
  for (uint64_t b = 0; b < blocks; ++b, x += quant::kBlockCols, codes += quant::kBlockCols) {
    absmax[b] = block_magnitude(x);
    if (!finite(absmax[b])) {
      __builtin_memset(codes, 0, quant::kBlockCols);
      continue;
    }
    const F inverse = splat(1.0f / (absmax[b] > 1e-38f ? absmax[b] : 1e-38f));
    for (uint64_t k = 0; k < quant::kBlockCols; k += kWidth) {
      I at = below(load(x + k) * inverse);
      if (!code.ascending) at = and_i(shuffle_bytes(order, at), splat_i(0xff));
      store_i8(reinterpret_cast<int8_t*>(codes) + k, at);
    }
  }
}

void quantize_bytes(Format format, const float* x, uint64_t n, int8_t* codes, Kernels::ByteBlock* blocks) {
  const auto act_max = static_cast<float>(quant::kByteActMax);
  const auto byte_max = static_cast<float>(quant::four_bit_code(format).byte_max);
  for (uint64_t k = 0; k < n; k += quant::kBlockCols, ++blocks) {
    const float largest = block_magnitude(x + k);
    if (!finite(largest) || largest < 1e-30f) {
      __builtin_memset(codes + k, 0, quant::kBlockCols);
      *blocks = {finite(largest) ? 0.0f : __builtin_nanf(""), 0};
      continue;
    }
    const F factor = splat(act_max / largest);
    I sums = splat_i(0);
    for (uint64_t i = k; i < k + quant::kBlockCols; i += kWidth) {
      const I values = to_int(load(x + i) * factor);
      store_i8(codes + i, values);
      sums = add_i(sums, values);
    }
    *blocks = {largest / (act_max * byte_max), -quant::kByteZero * total_of(sums)};
  }
}

void quantize_fixed(Format format, const float* x, uint64_t n, int16_t* codes, float* scales) {
  const quant::FourBitCode& code = quant::four_bit_code(format);
  const auto act_max = static_cast<float>(code.act_max);
  for (uint64_t k = 0; k < n; k += quant::kBlockCols) {
    const float largest = block_magnitude(x + k);
    const bool usable = finite(largest) && largest >= 1e-30f;
    scales[k / quant::kBlockCols] = usable ? largest / (act_max * static_cast<float>(code.fixed_max))
                                           : (finite(largest) ? 0.0f : __builtin_nanf(""));
    if (!usable) {
      __builtin_memset(codes + k, 0, quant::kBlockCols * sizeof(int16_t));
      continue;
    }
    const F factor = splat(act_max / largest);
    for (uint64_t i = k; i < k + quant::kBlockCols; i += kWidth)
      store_i16(codes + i, to_int(load(x + i) * factor));
  }
}

}  // namespace
}  // namespace rhapsode::kernels
