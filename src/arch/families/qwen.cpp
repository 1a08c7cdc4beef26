// Qwen 2 and 2.5 (biases on q, k, v) and Qwen 3 (norms on each head's query and key).
#include <algorithm>

#include "arch/families/families.h"
#include "arch/layer_types.h"

namespace rhapsode::arch {

Spec qwen2_spec(const ConfigJson& config) {
  Spec spec = llama_spec(config);
  spec.qkv_bias = true;
  spec.o_bias = spec.mlp_bias = false;
  if (!config.boolean_or("use_sliding_window", false)) return spec;
  const uint32_t window = static_cast<uint32_t>(config.count_or("sliding_window", 1u << 31, 4096));
  // Without layer_types the layers from max_window_layers on have the window.
  const uint64_t full_layers =
      config.has("max_window_layers") ? config.count("max_window_layers", 1 << 16) : 28;
  std::vector<bool> sliding(spec.num_hidden_layers);
  for (uint64_t i = 0; i < spec.num_hidden_layers; ++i) sliding[i] = i >= full_layers;
  apply_windows(config, sliding, window, spec);
  return spec;
}

Spec qwen3_spec(const ConfigJson& config) {
  Spec spec = qwen2_spec(config);
  const bool bias = config.boolean_or("attention_bias", false);
  spec.qkv_bias = spec.o_bias = bias;
  spec.qk_norm = NormKind::rms_l;
  return spec;
}

}  // namespace rhapsode::arch
