// Phi-1, 1.5 and 2: one norm feeds both branches, partial rotation, biases everywhere, the head's too.
#include "arch/families/families.h"
#include "arch/tensor_names.h"

namespace rhapsode::arch {

Spec phi_spec(const ConfigJson& config) {
  Spec spec = read_shape(config);
  if (config.boolean_or("qk_layernorm", false)) config.unsupported("qk_layernorm", "true", "false");
  spec.intermediate_size = config.count("intermediate_size", 1 << 22);
  spec.norm = NormKind::layernorm;
  spec.norm_bias = true;
  spec.norm_eps = static_cast<float>(config.number_or("layer_norm_eps", 0.0, 1.0, 1e-5));
  spec.residual = ResidualKind::parallel_shared;
  spec.ffn = FfnKind::fc;
  spec.activation = read_activation(config, "hidden_act");
  spec.qkv_bias = spec.o_bias = spec.mlp_bias = spec.head_bias = true;
  spec.tie_word_embeddings = config.boolean_or("tie_word_embeddings", false);
  spec.rope_tables = {read_rope(config, spec.head_dim, {.partial = 0.5})};
  return spec;
}

namespace {

// Files of before January 2024: transformer.h.N.mixer.Wqkv with rows q, k, v.
ModelTensors old_phi_tensors(const Spec& spec) {
  ModelTensors names;
  names.embed_module = "transformer.embd.wte";
  names.embed_tensor = names.embed_module + ".weight";
  names.norm_module = "lm_head.ln";
  names.final_norm = norm_source(spec, names.norm_module, spec.hidden_size);
  names.lm_head = {spec.hidden_size, {linear_part("lm_head.linear", spec.vocab_size, true)}};
  names.ignored = {".rotary_emb.inv_freq"};
  const uint64_t q = spec.q_rows(), kv = spec.kv_rows();
  for (uint64_t i = 0; i < spec.num_hidden_layers; ++i) {
    LayerTensors layer;
    layer.module = "transformer.h." + std::to_string(i);
    const std::string mixer = layer.module + ".mixer.", mlp = layer.module + ".mlp.";
    layer.input_norm = norm_source(spec, layer.module + ".ln", spec.hidden_size);
    layer.qkv = {spec.hidden_size,
                 {linear_rows(mixer + "Wqkv", 0, q, true), linear_rows(mixer + "Wqkv", q, kv, true),
                  linear_rows(mixer + "Wqkv", q + kv, kv, true)}};
    layer.o = {q, {linear_part(mixer + "out_proj", spec.hidden_size, true)}};
    layer.up = {spec.hidden_size, {linear_part(mlp + "fc1", spec.intermediate_size, true)}};
    layer.down = {spec.intermediate_size, {linear_part(mlp + "fc2", spec.hidden_size, true)}};
    names.layers.push_back(std::move(layer));
  }
  return names;
}

}  // namespace

ModelTensors phi_tensors(const Spec& spec, const HasTensor& has_tensor) {
  if (has_tensor("transformer.h.0.mixer.Wqkv.weight")) return old_phi_tensors(spec);
  NamingStyle style;
  style.final_norm = "final_layernorm";
  style.o_proj = "dense";
  return standard_tensors(spec, style);
}

}  // namespace rhapsode::arch
