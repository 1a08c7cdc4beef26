// Phi-3 and 3.5 mini: Llama's decoder with fused projections and longrope.
#include "arch/families/families.h"
#include "arch/layer_types.h"
#include "arch/tensor_names.h"

namespace rhapsode::arch {

Spec phi3_spec(const ConfigJson& config) {
  Spec spec = llama_like_spec(config, {.partial = 1.0, .longrope_alone = 4096});
  spec.qkv_bias = spec.o_bias = spec.mlp_bias = false;
  const uint32_t window = read_window(config, 0);
  for (LayerSpec& layer : spec.layers) layer.window = window;
  return spec;
}

ModelTensors phi3_tensors(const Spec& spec, const HasTensor&) {
  NamingStyle style;
  style.fused_qkv = style.fused_gate_up = true;
  return standard_tensors(spec, style);
}

}  // namespace rhapsode::arch
