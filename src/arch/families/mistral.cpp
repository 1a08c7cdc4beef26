// Mistral: Llama's decoder with a window on every layer. An absent sliding_window means 4096, null means
// none.
#include "arch/families/families.h"

namespace rhapsode::arch {

Spec mistral_spec(const ConfigJson& config) {
  Spec spec = llama_spec(config);
  spec.qkv_bias = spec.o_bias = spec.mlp_bias = false;
  uint32_t window = 4096;
  if (config.present("sliding_window"))
    window =
        config.has("sliding_window") ? static_cast<uint32_t>(config.count("sliding_window", 1u << 31)) : 0;
  for (LayerSpec& layer : spec.layers) layer.window = window;
  return spec;
}

}  // namespace rhapsode::arch
