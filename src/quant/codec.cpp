#include "quant/codec.h"

#include <algorithm>
#include <cmath>

namespace rhapsode::quant {
namespace {

// By their bits: NaN is larger than infinity, and that than all else.
float largest_magnitude(std::span<const float> x) {
  uint32_t largest = 0;
  for (const float value : x) largest = std::max(largest, std::bit_cast<uint32_t>(value) & 0x7fffffffu);
  return std::bit_cast<float>(largest);
}

// Number of bounds strictly below y: a tie goes to the lower side.
template <size_t N>
uint32_t bounds_below(const float (&bounds)[N], float y) {
  return static_cast<uint32_t>(std::lower_bound(bounds, bounds + N, y) - bounds);
}

}  // namespace

float int8_row(std::span<const float> x, int8_t* codes) {
  const float scb = largest_magnitude(x);
  if (!std::isfinite(scb)) return scb;
  const float scale = scb == 0.0f ? 0.0f : (1.0f / scb) * 127.0f;
  for (size_t i = 0; i < x.size(); ++i) codes[i] = static_cast<int8_t>(std::nearbyint(x[i] * scale));
  return scb;
}

float four_bit_block(const FourBitCode& code, std::span<const float> x, bool whole, uint8_t* codes) {
  const float absmax = largest_magnitude(x);
  if (!std::isfinite(absmax)) return absmax;
  const float divisor = std::max(absmax, 1e-38f);
  const float inverse = 1.0f / divisor;
  for (size_t i = 0; i < x.size(); ++i) {
    const float y = std::clamp(whole ? x[i] * inverse : x[i] / divisor, -1.0f, 1.0f);
    codes[i] = code.order[bounds_below(code.bounds, y)];
  }
  return whole ? absmax : divisor;
}

NestedScales nest_scales(std::span<const float> absmax) {
  NestedScales nested;
  double sum = 0.0;
  for (const float value : absmax) sum += value;
  nested.offset = static_cast<float>(sum / static_cast<double>(absmax.size()));
  nested.codes.resize(absmax.size());
  std::vector<float> centred;
  for (size_t begin = 0; begin < absmax.size(); begin += kNestedBlocks) {
    const size_t end = std::min<size_t>(absmax.size(), begin + kNestedBlocks);
    centred.assign(absmax.begin() + static_cast<ptrdiff_t>(begin),
                   absmax.begin() + static_cast<ptrdiff_t>(end));
    for (float& value : centred) value -= nested.offset;
    const float largest = largest_magnitude(centred);
    const float inverse = 1.0f / std::max(largest, 1e-38f);
    for (size_t i = begin; i < end; ++i) {
      const float y = std::clamp(centred[i - begin] * inverse, -1.0f, 1.0f);
      nested.codes[i] = static_cast<uint8_t>(bounds_below(kNestedMap.bounds, y));
    }
    nested.absmax.push_back(largest);
  }
  return nested;
}

}  // namespace rhapsode::quant
