// Phi-3 and 3.5 mini: Llama's decoder with fused projections and longrope.
#include "arch/families/families.h"
#include "arch/tensor_names.h"

namespace rhapsode::arch {

Spec phi3_spec(const ConfigJson& config) {
  Spec spec = llama_spec(config);
  spec.qkv_bias = spec.o_bias = spec.mlp_bias = false;
  if (config.has("sliding_window"))
    for (LayerSpec& layer : spec.layers)
      layer.window = static_cast<uint32_t>(config.count("sliding_window", 1u << 31));
  return spec;
}

ModelTensors phi3_tensors(const Spec& spec, const HasTensor&) {
  NamingStyle style;
  style.fused_qkv = style.fused_gate_up = true;
  return standard_tensors(spec, style);
}

}  // namespace rhapsode::arch
