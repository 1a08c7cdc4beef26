// Checkpoints whose linears are stored quantized (bitsandbytes, GPTQ, AWQ): what config.json says of them,
// which tensors hold one weight, and that their shapes fit together. Knows headers only, no codes.
#pragma once

#include <set>
#include <string>

#include "arch/config_json.h"
#include "arch/spec.h"
#include "checkpoint/checkpoint.h"

namespace rhapsode::arch {

// kind none where quantization_config is absent or another reader's. Error(unsupported) for methods that
// nobody reads, Error(integrity) for values that contradict each other.
StoredQuantization read_stored_quantization(const ConfigJson& config);

// Marks the parts that `checkpoint` holds quantized.
void mark_stored(const Spec& spec, const Checkpoint& checkpoint, ModelTensors& names);

// The tensors beside a stored weight.
struct FourBitNames {
  std::string absmax, quant_map, nested_absmax, nested_quant_map, state;
};
FourBitNames four_bit_names(const std::string& weight, const StoredWeight& stored);
struct Int8Names {
  std::string scb, format;  // the format is not in every file
};
Int8Names int8_names(const std::string& weight);

struct GroupedNames {
  std::string codes, zeros, scales, group_index;  // gptq and awq; the index is not in every file
};
GroupedNames grouped_names(const std::string& weight);

// Checks the tensors of one weight of [rows, cols] and adds the names of those beside it to `companions`.
struct StoredNeed {
  std::string tensor;
  uint64_t rows, cols;
  StoredWeight stored;
};
void check_stored(const Checkpoint& checkpoint, const StoredNeed& need, std::set<std::string>& companions);

}  // namespace rhapsode::arch
