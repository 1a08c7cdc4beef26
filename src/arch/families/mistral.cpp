// Mistral: Llama's decoder with a window on every layer. An absent sliding_window means 4096, null means
// none.
#include "arch/families/families.h"
#include "arch/layer_types.h"

namespace rhapsode::arch {

Spec mistral_spec(const ConfigJson& config) {
  Spec spec = llama_spec(config);
  spec.qkv_bias = spec.o_bias = spec.mlp_bias = false;
  const uint32_t window = read_window(config, 4096);
  for (LayerSpec& layer : spec.layers) layer.window = window;
  return spec;
}

}  // namespace rhapsode::arch
