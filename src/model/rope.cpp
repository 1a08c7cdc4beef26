#include "model/rope.h"

#include <algorithm>
#include <cmath>

namespace rhapsode::model {
namespace {

using arch::RopeKind;
using arch::RopeTable;

std::vector<float> plain(double theta, uint32_t rotary_dims) {
  std::vector<float> inv_freq(rotary_dims / 2);
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(rotary_dims);
    inv_freq[i] = 1.0f / std::pow(static_cast<float>(theta), exponent);
  }
  return inv_freq;
}

// Long wavelengths are slowed down by the factor, short ones kept, those between are blended.
void scale_llama3(const RopeTable& table, std::vector<float>& inv_freq) {
  const float factor = static_cast<float>(table.factor);
  const float original = static_cast<float>(table.original_max_position_embeddings);
  const float low = static_cast<float>(table.low_freq_factor),
              high = static_cast<float>(table.high_freq_factor);
  const float low_wavelength = original / low, high_wavelength = original / high;
  for (float& f : inv_freq) {
    const float wavelength = 2.0f * static_cast<float>(M_PI) / f;
    if (wavelength < high_wavelength) continue;
    if (wavelength > low_wavelength) {
      f = f / factor;
      continue;
    }
    const float smooth = (original / wavelength - low) / (high - low);
    f = (1.0f - smooth) * (f / factor) + smooth * f;
  }
}

double yarn_mscale(double scale, double mscale) {
  return scale <= 1.0 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0;
}

void scale_yarn(const RopeTable& table, RopeFrequencies& out) {
  const double r = table.rotary_dims, original = static_cast<double>(table.original_max_position_embeddings);
  const auto correction = [&](double rotations) {
    return r * std::log(original / (rotations * 2.0 * M_PI)) / (2.0 * std::log(table.theta));
  };
  double low = correction(table.beta_fast), high = correction(table.beta_slow);
  if (table.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, r - 1.0);
  if (low == high) high += 0.001;
  const float factor = static_cast<float>(table.factor);
  for (size_t i = 0; i < out.inv_freq.size(); ++i) {
    const float ramp =
        std::clamp(static_cast<float>((static_cast<double>(i) - low) / (high - low)), 0.0f, 1.0f);
    out.inv_freq[i] = out.inv_freq[i] / factor * ramp + out.inv_freq[i] * (1.0f - ramp);
  }
  if (table.attention_factor)
    out.attention_factor = static_cast<float>(*table.attention_factor);
  else if (table.mscale && table.mscale_all_dim && *table.mscale != 0.0 && *table.mscale_all_dim != 0.0)
    out.attention_factor = static_cast<float>(yarn_mscale(table.factor, *table.mscale) /
                                              yarn_mscale(table.factor, *table.mscale_all_dim));
  else
    out.attention_factor = static_cast<float>(yarn_mscale(table.factor, 1.0));
}

void scale_longrope(const RopeTable& table, uint64_t length, RopeFrequencies& out) {
  const auto& extension =
      length > table.original_max_position_embeddings ? table.long_factor : table.short_factor;
  for (size_t i = 0; i < out.inv_freq.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(table.rotary_dims);
    const float base = std::pow(static_cast<float>(table.theta), exponent);
    out.inv_freq[i] = 1.0f / (static_cast<float>(extension[i]) * base);
  }
  if (table.attention_factor)
    out.attention_factor = static_cast<float>(*table.attention_factor);
  else if (table.factor > 1.0)
    out.attention_factor = static_cast<float>(
        std::sqrt(1.0 + std::log(table.factor) /
                            std::log(static_cast<double>(table.original_max_position_embeddings))));
}

}  // namespace

bool depends_on_length(const RopeTable& table) {
  return table.kind == RopeKind::dynamic || table.kind == RopeKind::longrope;
}

RopeFrequencies rope_frequencies(const RopeTable& table, uint64_t length) {
  RopeFrequencies out;
  double theta = table.theta;
  if (table.kind == RopeKind::dynamic && length > table.max_position_embeddings) {
    const double r = table.rotary_dims;
    const float grown = static_cast<float>(table.factor) * static_cast<float>(length) /
                            static_cast<float>(table.max_position_embeddings) -
                        static_cast<float>(table.factor - 1.0);
    theta = static_cast<float>(table.theta) * std::pow(grown, static_cast<float>(r / (r - 2.0)));
  }
  out.inv_freq = plain(theta, table.rotary_dims);
  switch (table.kind) {
    case RopeKind::standard:
    case RopeKind::dynamic:
      break;
    case RopeKind::linear:
      for (float& f : out.inv_freq) f = f / static_cast<float>(table.factor);
      break;
    case RopeKind::llama3:
      scale_llama3(table, out.inv_freq);
      break;
    case RopeKind::yarn:
      scale_yarn(table, out);
      break;
    case RopeKind::longrope:
      scale_longrope(table, length, out);
      break;
  }
  return out;
}

void rope_row(const RopeFrequencies& frequencies, uint64_t position, Dtype dtype, float* cos, float* sin) {
  for (size_t i = 0; i < frequencies.inv_freq.size(); ++i) {
    const float angle = static_cast<float>(position) * frequencies.inv_freq[i];
    cos[i] = round_to(dtype, std::cos(angle) * frequencies.attention_factor);
    sin[i] = round_to(dtype, std::sin(angle) * frequencies.attention_factor);
  }
}

}  // namespace rhapsode::model
