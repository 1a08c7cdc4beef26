#include "plan/units.h"

#include "plan/module_tree.h"

namespace rhapsode::plan {

std::vector<Unit> model_units(const UnitRequest& request) {
  const arch::Spec& spec = *request.spec;
  const arch::ModelTensors& tensors = *request.tensors;
  const Formats& formats = *request.formats;
  const ModuleNames names = module_names(spec);
  const uint64_t layer_kv = request.sequences *
                            kv_bytes(spec, formats.kv_dtype, request.limits.context_tokens) /
                            spec.num_hidden_layers;
  const bool tied = spec.tie_word_embeddings;
  std::vector<Unit> units;
  Unit embed{tied ? UnitKind::embed_and_head : UnitKind::embed, {names.embed}, 0, 0, 0, 0};
  embed.weights_bytes = embed_bytes(spec, formats.dtype);
  if (tied) {
    embed.modules.push_back(names.head);
    embed.weights_bytes += head_bytes(formats, tensors);
  }
  units.push_back(embed);
  for (size_t i = 0; i < tensors.layers.size(); ++i) {
    Unit layer{UnitKind::layer, {names.layers + "." + std::to_string(i)}, i, 0, 0, layer_kv};
    layer.quant_metadata_bytes = layer_metadata_bytes(formats, tensors.layers[i]);
    layer.weights_bytes = layer_bytes(formats, tensors.layers[i]) - layer.quant_metadata_bytes;
    units.push_back(std::move(layer));
  }
  units.push_back({UnitKind::norm, {names.norm}, 0, norm_bytes(tensors.final_norm), 0, 0});
  if (!tied) units.push_back({UnitKind::head, {names.head}, 0, head_bytes(formats, tensors), 0, 0});
  return units;
}

}  // namespace rhapsode::plan
