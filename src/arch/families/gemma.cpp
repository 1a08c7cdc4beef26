// Gemma 1, 2 and 3 (text): norms that multiply by 1 + w, scaled embeddings; from 2 on norms on the branches
// too, soft caps (2) or query and key norms (3), and windows on some layers.
#include <cmath>

#include "arch/families/families.h"
#include "arch/layer_types.h"
#include "arch/tensor_names.h"

namespace rhapsode::arch {
namespace {

constexpr double kHuge = 1e9;

Spec gemma_base(const ConfigJson& config) {
  Spec spec = read_shape(config, 256);
  if (config.boolean_or("use_bidirectional_attention", false))
    config.unsupported("use_bidirectional_attention", "true", "false");
  spec.intermediate_size = config.count("intermediate_size", 1 << 22);
  spec.norm = NormKind::rms_g;
  spec.norm_eps = static_cast<float>(config.number_or("rms_norm_eps", 0.0, 1.0, 1e-6));
  spec.qkv_bias = spec.o_bias = config.boolean_or("attention_bias", false);
  spec.embed_scale = static_cast<float>(std::sqrt(static_cast<double>(spec.hidden_size)));
  spec.tie_word_embeddings = config.boolean_or("tie_word_embeddings", true);
  return spec;
}

// From Gemma 2 on: branch norms, and a scale of its own.
void add_branch_norms(const ConfigJson& config, Spec& spec) {
  spec.post_norms = true;
  spec.activation = config.has("hidden_activation") ? read_activation(config, "hidden_activation")
                                                    : ActivationKind::gelu_tanh;
  spec.attention_scale =
      static_cast<float>(std::pow(config.number_or("query_pre_attn_scalar", 1e-6, kHuge, 256.0), -0.5));
}

float read_cap(const ConfigJson& config, const char* key, double fallback) {
  if (config.present(key) && !config.has(key)) return 0.0f;
  return static_cast<float>(config.number_or(key, 0.0, kHuge, fallback));
}

}  // namespace

Spec gemma_spec(const ConfigJson& config) {
  Spec spec = gemma_base(config);
  // The published files say "gelu", but the weights were trained with the tanh form.
  spec.activation = config.text_or("hidden_act", "gelu") == "gelu" ? ActivationKind::gelu_tanh
                                                                   : read_activation(config, "hidden_act");
  spec.rope_tables = {read_rope(config, spec.head_dim, {})};
  return spec;
}

Spec gemma2_spec(const ConfigJson& config) {
  Spec spec = gemma_base(config);
  add_branch_norms(config, spec);
  spec.attn_softcap = read_cap(config, "attn_logit_softcapping", 50.0);
  spec.final_softcap = read_cap(config, "final_logit_softcapping", 30.0);
  spec.rope_tables = {read_rope(config, spec.head_dim, {})};
  std::vector<bool> even(spec.num_hidden_layers);
  for (size_t i = 0; i < even.size(); ++i) even[i] = i % 2 == 0;
  apply_windows(config, even, read_window(config, 4096), spec);
  return spec;
}

Spec gemma3_spec(const ConfigJson& config) {
  Spec spec = gemma_base(config);
  add_branch_norms(config, spec);
  spec.final_softcap = read_cap(config, "final_logit_softcapping", 0.0);
  spec.qk_norm = NormKind::rms_g;
  const uint64_t pattern = config.count_or("sliding_window_pattern", 1 << 16, 6);
  std::vector<bool> local(spec.num_hidden_layers);
  for (size_t i = 0; i < local.size(); ++i) local[i] = (i + 1) % pattern != 0;
  apply_windows(config, local, read_window(config, 4096), spec);
  // Two tables: 0 for full layers, which alone old files scale, 1 for local ones.
  const std::optional<ConfigJson> tables = config.object("rope_parameters");
  const auto section = [&](const char* name) { return tables ? tables->object(name) : std::nullopt; };
  std::optional<ConfigJson> scaling = config.object("rope_scaling");
  if (!scaling || scaling->is_empty()) scaling = section("full_attention");
  spec.rope_tables = {read_rope_block(config, scaling, spec.head_dim, {.theta = 1e6}),
                      read_rope_block(config, section("sliding_attention"), spec.head_dim,
                                      {.theta_key = "rope_local_base_freq"})};
  for (LayerSpec& layer : spec.layers) layer.rope_table = layer.window > 0 ? 1 : 0;
  return spec;
}

ModelTensors gemma_tensors(const Spec& spec, const HasTensor&) {
  NamingStyle style;
  if (spec.post_norms) {
    style.pre_ffn_norm = "pre_feedforward_layernorm";
    style.post_attention_norm = "post_attention_layernorm";
    style.post_ffn_norm = "post_feedforward_layernorm";
  }
  return standard_tensors(spec, style);
}

}  // namespace rhapsode::arch
