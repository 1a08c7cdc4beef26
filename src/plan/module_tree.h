// A model as transformers sees it before its weights are loaded: modules in their order with the bytes of
// their parameters and buffers. What `accounting: weights` counts; knows no machine and none of our packed
// formats.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "arch/spec.h"

namespace rhapsode::plan {

// Halves of bytes occur (4 bits a weight); every size stays exact in a double.
struct OwnTensor {
  std::string name;  // last part: "weight"
  double bytes = 0;  // 0 where it is tied to another
};

struct Module {
  std::string name;       // whole dotted name; the root's is empty
  bool no_split = false;  // a decoder block: never shared between devices
  std::vector<OwnTensor> parameters, buffers;
  std::vector<Module> children;
};

struct ModuleTree {
  Module root;
  std::vector<std::vector<std::string>> tied;  // groups of parameter names
};

// Bytes that transformers counts for a weight that bitsandbytes will quantize; scales are not counted there.
enum class CountedBits : uint8_t { dense, eight, four };

struct TreeOptions {
  Dtype dtype = Dtype::f32;  // that the model is loaded in
  CountedBits bits = CountedBits::dense;
  std::vector<std::string> skip_modules;  // llm_int8_skip_modules; the output head is always skipped
};

// Whether transformers gives this family's linears to bitsandbytes. Falcon's are a class of their own there,
// which it leaves as they are.
bool bitsandbytes_converts(const arch::Spec& spec);

// Whether transformers' quantizer keeps a share of every device for itself while it plans
// (adjust_max_memory).
bool has_reserving_quantizer(const arch::Spec& spec, const TreeOptions& options);

// What transformers calls the parts of a model of this family.
struct ModuleNames {
  std::string embed, layers, norm, head;
};
ModuleNames module_names(const arch::Spec& spec);

// Names are transformers' own, whatever the checkpoint calls its tensors.
ModuleTree module_tree(const arch::Spec& spec, const arch::ModelTensors& tensors, const TreeOptions& options);

// Bytes of every module, parameter and buffer by whole name ("" is all), and of the modules that own tensors.
struct TreeSizes {
  std::map<std::string, double> all;
  std::map<std::string, double> owners;
  double of(const std::string& name) const;  // 0 where there is none
};
TreeSizes tree_sizes(const ModuleTree& tree);

}  // namespace rhapsode::plan
