// Qwen 2 and 2.5 (biases on q, k, v) and Qwen 3 (norms on each head's query and key).
#include <algorithm>

#include "arch/families/families.h"
#include "arch/layer_types.h"

namespace rhapsode::arch {

namespace {

// Without layer_types the layers from max_window_layers on have the window.
Spec windowed(const ConfigJson& config, std::optional<uint64_t> head_dim) {
  Spec spec = llama_like_spec(config, {}, head_dim);
  spec.mlp_bias = false;
  const uint32_t window = config.boolean_or("use_sliding_window", false) ? read_window(config, 4096) : 0;
  const uint64_t full_layers = config.whole_or("max_window_layers", 1 << 16, 28);
  std::vector<bool> sliding(spec.num_hidden_layers);
  for (uint64_t i = 0; i < spec.num_hidden_layers; ++i) sliding[i] = window > 0 && i >= full_layers;
  apply_windows(config, sliding, window, spec);
  return spec;
}

}  // namespace

Spec qwen2_spec(const ConfigJson& config) {
  Spec spec = windowed(config, {});
  spec.qkv_bias = true;
  spec.o_bias = false;
  return spec;
}

Spec qwen3_spec(const ConfigJson& config) {
  Spec spec = windowed(config, 128);
  const bool bias = config.boolean_or("attention_bias", false);
  spec.qkv_bias = spec.o_bias = bias;
  spec.qk_norm = NormKind::rms_l;
  return spec;
}

}  // namespace rhapsode::arch
