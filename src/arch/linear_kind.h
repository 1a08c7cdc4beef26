// How a checkpoint says that its projections are ternary, and where their scales lie: quantization_config
// with quant_method bitnet, on a model of any family.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "arch/config_json.h"
#include "arch/spec.h"

namespace rhapsode::arch {

// dense where quantization_config is absent or names another method.
LinearKind read_linear_kind(const ConfigJson& config, const Spec& spec);

// Epsilon of the norms that use_rms_norm puts before each projection; null where there are none.
std::optional<float> read_linear_norm_eps(const ConfigJson& config);

// Rows of a tensor as the checkpoint holds it; 0 where there is none.
using StoredRows = std::function<uint64_t(const std::string& tensor)>;

// Marks the layers' projections as spec.linear says and names their scales.
void apply_linear_kind(const Spec& spec, const StoredRows& stored_rows, ModelTensors& names);

}  // namespace rhapsode::arch
