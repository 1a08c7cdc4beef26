// The functions of each family; registry.cpp lists them.
#pragma once

#include "arch/registry.h"

namespace rhapsode::arch {

Spec llama_spec(const ConfigJson& config);
ModelTensors llama_tensors(const Spec& spec, const HasTensor& has_tensor);

}  // namespace rhapsode::arch
