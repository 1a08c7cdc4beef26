// How a checkpoint says that its projections are ternary, and where their scales lie: quantization_config
// with quant_method bitnet, on a model of any family.
#pragma once

#include "arch/config_json.h"
#include "arch/spec.h"

namespace rhapsode::arch {

// dense where quantization_config is absent or names another method.
LinearKind read_linear_kind(const ConfigJson& config, const Spec& spec);

// Marks the layers' projections as spec.linear says and names their scales.
void apply_linear_kind(const Spec& spec, ModelTensors& names);

}  // namespace rhapsode::arch
