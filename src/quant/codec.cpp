#include "quant/codec.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace rhapsode::quant {
namespace {

// Four at a time, by the compiler's own vectors: every machine has them, and no wide flags are needed.
using Floats = float __attribute__((vector_size(16)));
using Ints = int32_t __attribute__((vector_size(16)));
constexpr size_t kLanes = 4;

inline Floats load(const float* from) {
  Floats x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
inline Floats splat(float x) {
  return Floats{x, x, x, x};
}

// The low bytes of four lanes that hold nothing else.
inline uint32_t low_bytes(Ints lanes) {
  uint64_t half[2];
  std::memcpy(half, &lanes, sizeof half);
  const uint64_t low = (half[0] | half[0] >> 24) & 0xffffu, high = (half[1] | half[1] >> 24) & 0xffffu;
  return static_cast<uint32_t>(low | high << 16);
}

// By their bits: NaN is larger than infinity, and that than all else.
float largest_magnitude(std::span<const float> x) {
  Ints most = {0, 0, 0, 0};
  size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes) {
    Ints bits;
    std::memcpy(&bits, x.data() + i, sizeof bits);
    bits &= 0x7fffffff;
    const Ints more = bits > most;
    most = (bits & more) | (most & ~more);
  }
  int32_t largest = std::max(std::max(most[0], most[1]), std::max(most[2], most[3]));
  for (; i < x.size(); ++i)
    largest = std::max(largest, static_cast<int32_t>(std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu));
  return std::bit_cast<float>(largest);
}

// Number of bounds strictly below y: a tie goes to the lower side. N is a power of two less one; each step is
// taken without a branch, which would be guessed wrong half of the time.
template <size_t N>
uint32_t bounds_below(const float (&bounds)[N], float y) {
  static_assert(std::has_single_bit(N + 1));
  uint32_t below = 0;
  for (uint32_t step = (N + 1) / 2; step > 0; step /= 2) below += bounds[below + step - 1] < y ? step : 0;
  return below;
}

// Adding 1.5 * 2^23 leaves an integer, rounded half to even, in the low bits.
constexpr float kIntegerBits = 12582912.0f;

}  // namespace

float int8_row(std::span<const float> x, int8_t* codes) {
  const float scb = largest_magnitude(x);
  if (!std::isfinite(scb)) return scb;
  const float scale = scb == 0.0f ? 0.0f : (1.0f / scb) * 127.0f;
  size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes) {
    const Floats rounded = load(x.data() + i) * splat(scale) + splat(kIntegerBits);
    Ints bits;
    std::memcpy(&bits, &rounded, sizeof bits);
    const uint32_t bytes = low_bytes(bits & 0xff);
    std::memcpy(codes + i, &bytes, sizeof bytes);
  }
  for (; i < x.size(); ++i) codes[i] = static_cast<int8_t>(std::nearbyint(x[i] * scale));
  return scb;
}

float four_bit_block(const FourBitCode& code, std::span<const float> x, bool whole, uint8_t* codes) {
  const float absmax = largest_magnitude(x);
  if (!std::isfinite(absmax)) return absmax;
  const float divisor = std::max(absmax, 1e-38f);
  const float inverse = 1.0f / divisor;
  // All bounds lie between -1 and 1, so values need no clamping.
  for (size_t i = 0; i < x.size(); ++i)
    codes[i] = code.order[bounds_below(code.bounds, whole ? x[i] * inverse : x[i] / divisor)];
  return whole ? absmax : divisor;
}

void unpack_codes(std::span<const std::byte> packed, uint64_t first, std::span<uint8_t> codes) {
  for (size_t i = 0; i < codes.size(); ++i) {
    const uint64_t element = first % 2 + i;
    const auto byte = std::to_integer<unsigned>(packed[element / 2]);
    codes[i] = static_cast<uint8_t>(element % 2 == 0 ? byte >> 4 : byte & 15u);
  }
}

void pack_codes(std::span<const uint8_t> codes, std::span<std::byte> packed) {
  for (size_t i = 0; i < packed.size(); ++i)
    packed[i] = static_cast<std::byte>(codes[2 * i] << 4 | codes[2 * i + 1]);
}

float nested_offset(std::span<const float> absmax) {
  double sum = 0.0;
  for (const float value : absmax) sum += value;
  return static_cast<float>(sum / static_cast<double>(absmax.size()));
}

float nest_block(std::span<const float> absmax, float offset, uint8_t* codes) {
  float centred[kNestedBlocks];
  for (size_t i = 0; i < absmax.size(); ++i) centred[i] = absmax[i] - offset;
  const float largest = largest_magnitude({centred, absmax.size()});
  const float inverse = 1.0f / std::max(largest, 1e-38f);
  for (size_t i = 0; i < absmax.size(); ++i) {
    const float y = std::clamp(centred[i] * inverse, -1.0f, 1.0f);
    codes[i] = static_cast<uint8_t>(bounds_below(kNestedMap.bounds, y));
  }
  return largest;
}

NestedScales nest_scales(std::span<const float> absmax) {
  NestedScales nested;
  nested.offset = nested_offset(absmax);
  nested.codes.resize(absmax.size());
  for (size_t begin = 0; begin < absmax.size(); begin += kNestedBlocks) {
    const size_t count = std::min<size_t>(absmax.size() - begin, kNestedBlocks);
    nested.absmax.push_back(
        nest_block(absmax.subspan(begin, count), nested.offset, nested.codes.data() + begin));
  }
  return nested;
}

}  // namespace rhapsode::quant
