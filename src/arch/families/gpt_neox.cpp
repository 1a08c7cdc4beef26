// GPT-NeoX and Pythia: two norms, parallel residual, fused rows of q, k, v head by head, a quarter of each
// head rotates.
#include "arch/families/families.h"
#include "arch/tensor_names.h"

namespace rhapsode::arch {

Spec gpt_neox_spec(const ConfigJson& config) {
  Spec spec = read_shape(config);
  spec.num_key_value_heads = spec.num_attention_heads;
  spec.intermediate_size = config.count("intermediate_size", 1 << 22);
  spec.norm = NormKind::layernorm;
  spec.norm_bias = true;
  spec.norm_eps = static_cast<float>(config.number_or("layer_norm_eps", 0.0, 1.0, 1e-5));
  spec.residual = config.boolean_or("use_parallel_residual", true) ? ResidualKind::parallel_two
                                                                   : ResidualKind::sequential;
  spec.ffn = FfnKind::fc;
  spec.activation = read_activation(config, "hidden_act");
  spec.qkv_bias = spec.o_bias = config.boolean_or("attention_bias", true);
  spec.mlp_bias = true;
  spec.tie_word_embeddings = config.boolean_or("tie_word_embeddings", false);
  spec.rope_tables = {read_rope(
      config, spec.head_dim, {.theta_key = "rotary_emb_base", .partial = 0.25, .partial_key = "rotary_pct"})};
  return spec;
}

namespace {

// Part `which` (0 q, 1 k, 2 v) of a matrix whose rows are [head][3][head_dim].
LinearPart head_rows(const std::string& module, const Spec& spec, uint64_t which) {
  LinearPart part{module, spec.q_rows(), {}, {}};
  for (uint64_t head = 0; head < spec.num_attention_heads; ++head) {
    const uint64_t first = (head * 3 + which) * spec.head_dim;
    part.weight.push_back({module + ".weight", first, spec.head_dim});
    if (spec.qkv_bias) part.bias.push_back({module + ".bias", first, spec.head_dim});
  }
  return part;
}

}  // namespace

ModelTensors gpt_neox_tensors(const Spec& spec, const HasTensor& has_tensor) {
  ModelTensors names;
  names.embed_module = "gpt_neox.embed_in";
  names.embed_tensor = names.embed_module + ".weight";
  names.norm_module = "gpt_neox.final_layer_norm";
  names.final_norm = norm_source(spec, names.norm_module, spec.hidden_size);
  const std::string head =
      has_tensor("lm_head.weight") && !has_tensor("embed_out.weight") ? "lm_head" : "embed_out";
  names.lm_head = {spec.hidden_size, {linear_part(head, spec.vocab_size, false)}};
  names.ignored = {".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"};
  if (spec.tie_word_embeddings) {
    names.lm_head.parts[0].weight[0].tensor = names.embed_tensor;
    names.ignored.insert(names.ignored.end(), {"embed_out.weight", "lm_head.weight"});
  }
  for (uint64_t i = 0; i < spec.num_hidden_layers; ++i) {
    LayerTensors layer;
    layer.module = "gpt_neox.layers." + std::to_string(i);
    const std::string attention = layer.module + ".attention.", mlp = layer.module + ".mlp.";
    layer.input_norm = norm_source(spec, layer.module + ".input_layernorm", spec.hidden_size);
    layer.pre_ffn_norm = norm_source(spec, layer.module + ".post_attention_layernorm", spec.hidden_size);
    const std::string fused = attention + "query_key_value";
    layer.qkv = {spec.hidden_size,
                 {head_rows(fused, spec, 0), head_rows(fused, spec, 1), head_rows(fused, spec, 2)}};
    layer.o = {spec.q_rows(), {linear_part(attention + "dense", spec.hidden_size, spec.o_bias)}};
    layer.up = {spec.hidden_size, {linear_part(mlp + "dense_h_to_4h", spec.intermediate_size, true)}};
    layer.down = {spec.intermediate_size, {linear_part(mlp + "dense_4h_to_h", spec.hidden_size, true)}};
    names.layers.push_back(std::move(layer));
  }
  return names;
}

}  // namespace rhapsode::arch
