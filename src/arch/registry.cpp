#include "arch/registry.h"

#include <fmt/format.h>

#include <array>
#include <map>
#include <set>

#include "arch/families/families.h"
#include "arch/linear_kind.h"
#include "arch/stored_weights.h"
#include "arch/tensor_names.h"
#include "arch/tying.h"
#include "base/error.h"

namespace rhapsode::arch {
namespace {

constexpr std::array kFamilies{
    Family{"llama", llama_spec, llama_tensors},        Family{"mistral", mistral_spec, llama_tensors},
    Family{"qwen2", qwen2_spec, llama_tensors},        Family{"qwen3", qwen3_spec, llama_tensors},
    Family{"smollm3", smollm3_spec, llama_tensors},    Family{"phi3", phi3_spec, phi3_tensors},
    Family{"gemma", gemma_spec, gemma_tensors},        Family{"gemma2", gemma2_spec, gemma_tensors},
    Family{"gemma3_text", gemma3_spec, gemma_tensors}, Family{"phi", phi_spec, phi_tensors},
    Family{"falcon", falcon_spec, falcon_tensors},     Family{"gpt_neox", gpt_neox_spec, gpt_neox_tensors},
    Family{"bitnet", bitnet_spec, llama_tensors},
};

std::string accepted_types() {
  std::string list;
  for (const Family& family : kFamilies) list += (list.empty() ? "" : ", ") + std::string(family.model_type);
  return list;
}

bool is_dense(Dtype dtype) {
  return dtype == Dtype::f32 || dtype == Dtype::f16 || dtype == Dtype::bf16 || dtype == Dtype::f64;
}

std::string shape_text(const std::vector<uint64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

// Collects what every role asks for, then compares with what the checkpoint has.
class Binder {
 public:
  explicit Binder(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  void linear(const LinearSource& source) {
    for (const LinearPart& part : source.parts) {
      for (const RowRun& run : part.weight) {
        ask(run, source.cols, part.is_packed());
        needs_[run.tensor].stored = part.stored;
      }
      for (const RowRun& run : part.bias) ask(run, 0);
      if (!part.weight_scale.empty()) ask({part.weight_scale, 0, 1}, 0);
    }
  }

  void norm(const NormSource& norm) {
    if (!norm.weight.empty()) ask({norm.weight, 0, norm.length}, 0);
    if (!norm.bias.empty()) ask({norm.bias, 0, norm.length}, 0);
  }

  void matrix(const std::string& tensor, uint64_t rows, uint64_t cols) { ask({tensor, 0, rows}, cols); }

  void finish(const std::vector<std::string>& ignored) const {
    std::set<std::string> companions;
    for (const auto& [name, need] : needs_) {
      if (need.stored.kind == StoredKind::none)
        check_tensor(name, need);
      else
        check_stored(checkpoint_, {name, need.rows, need.cols, need.stored}, companions);
    }
    for (const auto& [name, tensor] : checkpoint_.tensors())
      if (!needs_.contains(name) && !companions.contains(name) && !is_ignored(name, ignored))
        throw Error(ErrorKind::integrity, "unused-tensor",
                    "the checkpoint holds a tensor that the model has no use for")
            .in(checkpoint_.shards()[tensor.shard].path())
            .at(name)
            .saw(shape_text(tensor.shape))
            .hint(
                "config.json and the weights do not belong together, or the architecture is a variant of its "
                "own");
  }

 private:
  struct Need {
    uint64_t rows = 0;    // the largest row asked for; roles together cover all
    uint64_t cols = 0;    // 0 = a vector
    bool packed = false;  // four rows a byte
    StoredWeight stored;
  };

  void ask(const RowRun& run, uint64_t cols, bool packed = false) {
    Need& need = needs_[run.tensor];
    need.rows = std::max(need.rows, run.first_row + run.row_count);
    need.cols = cols;
    need.packed = packed;
  }

  void check_tensor(const std::string& name, const Need& need) const {
    std::vector<uint64_t> expected{need.packed ? need.rows / kPackedRows : need.rows};
    if (need.cols != 0) expected.push_back(need.cols);
    const TensorInfo* tensor = checkpoint_.find(name);
    if (tensor == nullptr)
      throw Error(ErrorKind::integrity, "missing-tensor",
                  "the checkpoint lacks a tensor that config.json calls for")
          .in(checkpoint_.directory())
          .at(name)
          .saw("no tensor of this name")
          .want(shape_text(expected))
          .hint("the download is incomplete, or config.json belongs to another checkpoint");
    if (tensor->shape != expected)
      throw Error(ErrorKind::integrity, "tensor-shape", "a tensor's shape contradicts config.json")
          .in(checkpoint_.shards()[tensor->shard].path())
          .at(name)
          .saw(shape_text(tensor->shape))
          .want(shape_text(expected));
    if (need.packed ? tensor->dtype != Dtype::u8 : !is_dense(tensor->dtype))
      throw Error(ErrorKind::unsupported, "tensor-dtype",
                  "a weight is stored in a type that cannot be loaded")
          .in(checkpoint_.shards()[tensor->shard].path())
          .at(name)
          .saw(std::string(dtype_name(tensor->dtype)))
          .want(need.packed ? "U8: four ternary rows a byte" : "F32, F16, BF16 or F64");
  }

  static bool is_ignored(const std::string& name, const std::vector<std::string>& ignored) {
    for (const std::string& pattern : ignored)
      if (name == pattern || (pattern.starts_with('.') && name.ends_with(pattern))) return true;
    return false;
  }

  const Checkpoint& checkpoint_;
  std::map<std::string, Need> needs_;
};

}  // namespace

std::span<const Family> families() {
  return kFamilies;
}

Architecture parse_architecture(std::string_view config_json, const std::string& file) {
  const ConfigJson config(parse_json(config_json, file), file);
  if (!config.has("model_type")) config.fail("model_type", "no such key", "one of: " + accepted_types());
  const std::string model_type = config.text("model_type");
  for (const Family& family : kFamilies)
    if (family.model_type == model_type) {
      Architecture architecture{family.spec(config), &family, file};
      architecture.spec.linear = read_linear_kind(config, architecture.spec);
      architecture.spec.linear_norm_eps = read_linear_norm_eps(config);
      architecture.spec.stored = read_stored_quantization(config);
      return architecture;
    }
  config.unsupported("model_type", "\"" + model_type + "\"", accepted_types());
}

Architecture read_architecture(const std::string& directory) {
  const std::string file = directory + "/config.json";
  return parse_architecture(read_file(file, 16'000'000), file);
}

ModelTensors bind_tensors(Architecture& architecture, const Checkpoint& checkpoint) {
  settle_tying(architecture, checkpoint);
  const Spec& spec = architecture.spec;
  ModelTensors names = architecture.family->tensors(
      spec, [&](const std::string& name) { return checkpoint.find(name) != nullptr; });
  find_tied_matrix(spec, checkpoint, untied_head(architecture, checkpoint), names);
  apply_linear_kind(
      spec,
      [&](const std::string& name) {
        const TensorInfo* tensor = checkpoint.find(name);
        return tensor == nullptr || tensor->shape.empty() ? 0 : tensor->shape[0];
      },
      names);
  mark_stored(spec, checkpoint, names);
  Binder binder(checkpoint);
  binder.matrix(names.embed_tensor, spec.vocab_size, spec.hidden_size);
  binder.linear(names.lm_head);
  binder.norm(names.final_norm);
  for (const LayerTensors& layer : names.layers) {
    for (const NormSource* norm : layer_norms(layer)) binder.norm(*norm);
    for (const LinearSource* linear : {&layer.qkv, &layer.o, &layer.up, &layer.down}) binder.linear(*linear);
  }
  binder.finish(names.ignored);
  return names;
}

}  // namespace rhapsode::arch
