#include "plan/module_tree.h"

#include <algorithm>

#include "arch/tensor_names.h"
#include "config/skip_entry.h"

namespace rhapsode::plan {
namespace {

// Order of the children of the base model, and those that hold nothing but appear in a device map.
struct Skeleton {
  std::string base, embed, layers, norm;
  std::vector<std::string> order;  // "embed", "layers", "norm", "rotary_emb", or the name of an empty module
};

Skeleton skeleton_of(const std::string& model_type) {
  if (model_type == "falcon")
    return {"transformer", "word_embeddings", "h", "ln_f", {"embed", "layers", "norm", "rotary_emb"}};
  if (model_type == "gpt_neox")
    return {"gpt_neox",
            "embed_in",
            "layers",
            "final_layer_norm",
            {"embed", "emb_dropout", "layers", "norm", "rotary_emb"}};
  if (model_type == "phi")
    return {"model",
            "embed_tokens",
            "layers",
            "final_layernorm",
            {"embed", "layers", "rotary_emb", "embed_dropout", "norm"}};
  return {"model", "embed_tokens", "layers", "norm", {"embed", "layers", "norm", "rotary_emb"}};
}

class Builder {
 public:
  Builder(const arch::Spec& spec, const arch::ModelTensors& tensors, const TreeOptions& options)
      : spec_(spec), tensors_(tensors), options_(options), width_(dtype_bytes(options.dtype)) {}

  ModuleTree build() const {
    const Skeleton names = skeleton_of(spec_.model_type);
    Module base;
    base.name = names.base;
    for (const std::string& child : names.order) {
      if (child == "embed")
        base.children.push_back(embed(base.name + "." + names.embed));
      else if (child == "layers")
        base.children.push_back(layers(base.name + "." + names.layers));
      else if (child == "norm")
        base.children.push_back(norm(base.name + "." + names.norm, tensors_.final_norm));
      else if (child == "rotary_emb")
        base.children.push_back(rotary(base.name + ".rotary_emb"));
      else
        base.children.push_back(Module{base.name + "." + child, false, {}, {}, {}});
    }
    ModuleTree tree;
    if (spec_.tie_word_embeddings)
      tree.tied = {{"lm_head.weight", base.name + "." + names.embed + ".weight"}};
    tree.root.children = {std::move(base), head()};
    return tree;
  }

 private:
  double dense(uint64_t elements) const { return static_cast<double>(elements) * width_; }

  Module embed(const std::string& name) const {
    Module module{name, false, {{"weight", dense(spec_.vocab_size * spec_.hidden_size)}}, {}, {}};
    if (spec_.embed_scale != 1.0f) module.buffers = {{"embed_scale", dense(1)}};
    return module;
  }

  Module head() const {
    Module module{"lm_head",
                  false,
                  {{"weight", spec_.tie_word_embeddings ? 0.0 : dense(spec_.vocab_size * spec_.hidden_size)}},
                  {},
                  {}};
    if (spec_.head_bias) module.parameters.push_back({"bias", dense(spec_.vocab_size)});
    return module;
  }

  // Frequencies and the copy of them that length-dependent tables start from, in fp32. Of several tables,
  // those that some layer uses.
  Module rotary(const std::string& name) const {
    Module module{name, false, {}, {}, {}};
    for (size_t i = 0; i < spec_.rope_tables.size(); ++i) {
      const auto uses = [&](const arch::LayerSpec& layer) {
        return layer.rope_table == static_cast<int32_t>(i);
      };
      if (spec_.rope_tables.size() > 1 && std::none_of(spec_.layers.begin(), spec_.layers.end(), uses))
        continue;
      const double bytes = spec_.rope_tables[i].rotary_dims / 2 * 4.0;
      const std::string table = std::to_string(i);
      module.buffers.push_back({"inv_freq." + table, bytes});
      module.buffers.push_back({"original_inv_freq." + table, bytes});
    }
    return module;
  }

  Module norm(const std::string& name, const arch::NormSource& source) const {
    Module module{name, false, {{"weight", dense(source.length)}}, {}, {}};
    if (!source.bias.empty()) module.parameters.push_back({"bias", dense(source.length)});
    return module;
  }

  Module layers(const std::string& name) const {
    Module list{name, false, {}, {}, {}};
    for (size_t i = 0; i < tensors_.layers.size(); ++i)
      list.children.push_back(block(name + "." + std::to_string(i), tensors_.layers[i]));
    return list;
  }

  // The inside of a block has no order that matters: it is never split.
  Module block(const std::string& name, const arch::LayerTensors& layer) const {
    Module module{name, true, {}, {}, {}};
    const auto own_name = [&](const std::string& in_checkpoint) {
      return name + in_checkpoint.substr(layer.module.size());
    };
    for (const arch::NormSource* source : arch::layer_norms(layer))
      if (!source->weight.empty())
        module.children.push_back(
            norm(own_name(source->weight.substr(0, source->weight.rfind('.'))), *source));
    for (const arch::LinearSource* source : {&layer.qkv, &layer.o, &layer.up, &layer.down}) {
      // Parts of one module (fused rows) count as one.
      std::map<std::string, std::pair<uint64_t, bool>> modules;
      for (const arch::LinearPart& part : source->parts) {
        auto& [rows, bias] = modules[part.module];
        rows += part.rows;
        bias = bias || !part.bias.empty();
      }
      for (const auto& [in_checkpoint, shape] : modules)
        module.children.push_back(linear(own_name(in_checkpoint), shape.first, source->cols, shape.second));
    }
    return module;
  }

  Module linear(const std::string& name, uint64_t rows, uint64_t cols, bool bias) const {
    if (spec_.linear == arch::LinearKind::ternary_over) return bit_linear(name, rows, cols, bias);
    const double elements = static_cast<double>(rows * cols);
    double bytes = elements * width_;
    if (is_quantized(name)) bytes = options_.bits == CountedBits::eight ? elements : elements / 2;
    Module module{name, false, {{"weight", bytes}}, {}, {}};
    if (bias) module.parameters.push_back({"bias", dense(rows)});
    if (spec_.linear == arch::LinearKind::ternary_times) module.buffers = {{"weight_scale", dense(1)}};
    return module;
  }

  // BitLinear, which transformers puts there before it plans: four rows in a byte, and nothing is a
  // parameter. Its AutoBitLinear is planned at full width, whatever the file holds.
  Module bit_linear(const std::string& name, uint64_t rows, uint64_t cols, bool bias) const {
    const double packed = static_cast<double>(rows / arch::kPackedRows * cols);
    Module module{name, false, {}, {{"weight", packed}, {"weight_scale", dense(1)}}, {}};
    if (bias) module.buffers.push_back({"bias", dense(rows)});
    return module;
  }

  bool is_quantized(const std::string& name) const {
    if (options_.bits == CountedBits::dense) return false;
    if (!bitsandbytes_converts(spec_)) return false;
    return std::none_of(options_.skip_modules.begin(), options_.skip_modules.end(),
                        [&](const std::string& entry) { return config::skip_matches(entry, name); });
  }

  const arch::Spec& spec_;
  const arch::ModelTensors& tensors_;
  const TreeOptions& options_;
  double width_;
};

void add_sizes(const Module& module, const std::vector<std::string>& above, TreeSizes& sizes) {
  std::vector<std::string> owners = above;
  owners.push_back(module.name);
  for (const auto* tensors : {&module.parameters, &module.buffers})
    for (const OwnTensor& tensor : *tensors) {
      for (const std::string& owner : owners) sizes.all[owner] += tensor.bytes;
      if (!module.name.empty()) sizes.owners[module.name] += tensor.bytes;
      sizes.all[module.name.empty() ? tensor.name : module.name + "." + tensor.name] += tensor.bytes;
    }
  for (const Module& child : module.children) add_sizes(child, owners, sizes);
}

}  // namespace

bool bitsandbytes_converts(const arch::Spec& spec) {
  return spec.model_type != "falcon";
}

bool has_reserving_quantizer(const arch::Spec& spec, const TreeOptions& options) {
  return options.bits != CountedBits::dense || spec.linear != arch::LinearKind::dense;
}

ModuleNames module_names(const arch::Spec& spec) {
  const Skeleton names = skeleton_of(spec.model_type);
  const std::string base = names.base + ".";
  return {base + names.embed, base + names.layers, base + names.norm, "lm_head"};
}

ModuleTree module_tree(const arch::Spec& spec, const arch::ModelTensors& tensors,
                       const TreeOptions& options) {
  return Builder(spec, tensors, options).build();
}

double TreeSizes::of(const std::string& name) const {
  const auto found = all.find(name);
  return found == all.end() ? 0.0 : found->second;
}

TreeSizes tree_sizes(const ModuleTree& tree) {
  TreeSizes sizes;
  add_sizes(tree.root, {}, sizes);
  return sizes;
}

}  // namespace rhapsode::plan
