// The functions of each family; registry.cpp lists them.
#pragma once

#include "arch/registry.h"

namespace rhapsode::arch {

Spec llama_spec(const ConfigJson& config);
// Llama's decoder under another name: with that family's rotary keys, and its heads' size where no key says
// it.
Spec llama_like_spec(const ConfigJson& config, const RopeStyle& rope, std::optional<uint64_t> head_dim = {});
ModelTensors llama_tensors(const Spec& spec, const HasTensor& has_tensor);

Spec bitnet_spec(const ConfigJson& config);
Spec mistral_spec(const ConfigJson& config);
Spec qwen2_spec(const ConfigJson& config);
Spec qwen3_spec(const ConfigJson& config);
Spec smollm3_spec(const ConfigJson& config);

Spec phi3_spec(const ConfigJson& config);
ModelTensors phi3_tensors(const Spec& spec, const HasTensor& has_tensor);

Spec gemma_spec(const ConfigJson& config);
Spec gemma2_spec(const ConfigJson& config);
Spec gemma3_spec(const ConfigJson& config);
ModelTensors gemma_tensors(const Spec& spec, const HasTensor& has_tensor);

Spec phi_spec(const ConfigJson& config);
ModelTensors phi_tensors(const Spec& spec, const HasTensor& has_tensor);

Spec falcon_spec(const ConfigJson& config);
ModelTensors falcon_tensors(const Spec& spec, const HasTensor& has_tensor);

Spec gpt_neox_spec(const ConfigJson& config);
ModelTensors gpt_neox_tensors(const Spec& spec, const HasTensor& has_tensor);

}  // namespace rhapsode::arch
