// Falcon: the 7B form (one norm, all heads share one key and value), the 40B form (two norms, fused rows by
// group of heads) and the old form with separate heads. ALiBi variants (RW) are refused.
#include "arch/families/families.h"
#include "arch/tensor_names.h"

namespace rhapsode::arch {

Spec falcon_spec(const ConfigJson& config) {
  Spec spec = read_shape(config);
  if (config.boolean_or("alibi", false)) config.unsupported("alibi", "true", "false");
  const bool grouped = config.boolean_or("new_decoder_architecture", false);
  const bool multi_query = config.boolean_or("multi_query", true);
  const bool parallel = grouped || config.boolean_or("parallel_attn", true);
  if (grouped && !config.boolean_or("parallel_attn", true))
    config.unsupported("parallel_attn", "false", "true");
  const uint64_t norms = config.count_or("num_ln_in_parallel_attn", 2, grouped ? 2 : 1);
  if (!grouped && parallel && norms == 2) config.unsupported("num_ln_in_parallel_attn", "2", "1");
  if (grouped)
    spec.num_key_value_heads = config.count_or("num_kv_heads", 1 << 16, spec.num_attention_heads);
  else
    spec.num_key_value_heads = multi_query ? 1 : spec.num_attention_heads;
  if (spec.num_attention_heads % spec.num_key_value_heads != 0)
    config.fail("num_kv_heads", std::to_string(spec.num_key_value_heads), "a divisor of num_attention_heads");
  spec.intermediate_size = config.count_or("ffn_hidden_size", 1 << 24, 4 * spec.hidden_size);
  spec.norm = NormKind::layernorm;
  spec.norm_bias = true;
  spec.norm_eps = static_cast<float>(config.number_or("layer_norm_epsilon", 0.0, 1.0, 1e-5));
  spec.residual = !parallel    ? ResidualKind::sequential
                  : norms == 2 ? ResidualKind::parallel_two
                               : ResidualKind::parallel_shared;
  spec.ffn = FfnKind::fc;
  spec.activation =
      config.has("activation") ? read_activation(config, "activation") : ActivationKind::gelu_erf;
  spec.qkv_bias = spec.o_bias = spec.mlp_bias = config.boolean_or("bias", false);
  spec.tie_word_embeddings = config.boolean_or("tie_word_embeddings", true);
  spec.rope_tables = {read_rope(config, spec.head_dim, {})};
  return spec;
}

namespace {

// Rows are groups of (queries of the group, its key, its value): one group a key-value head.
LinearSource fused_qkv(const std::string& module, const Spec& spec) {
  const uint64_t d = spec.head_dim, queries = spec.num_attention_heads / spec.num_key_value_heads;
  LinearPart q{module, spec.q_rows(), {}, {}}, k{module, spec.kv_rows(), {}, {}},
      v{module, spec.kv_rows(), {}, {}};
  const auto add = [&](LinearPart& part, uint64_t first, uint64_t rows) {
    part.weight.push_back({module + ".weight", first, rows});
    if (spec.qkv_bias) part.bias.push_back({module + ".bias", first, rows});
  };
  for (uint64_t group = 0; group < spec.num_key_value_heads; ++group) {
    const uint64_t first = group * (queries + 2) * d;
    add(q, first, queries * d);
    add(k, first + queries * d, d);
    add(v, first + (queries + 1) * d, d);
  }
  return {spec.hidden_size, {q, k, v}};
}

}  // namespace

ModelTensors falcon_tensors(const Spec& spec, const HasTensor& has_tensor) {
  ModelTensors names;
  names.embed_module = "transformer.word_embeddings";
  names.embed_tensor = names.embed_module + ".weight";
  names.norm_module = "transformer.ln_f";
  names.final_norm = norm_source(spec, names.norm_module, spec.hidden_size);
  names.lm_head = {spec.hidden_size, {linear_part("lm_head", spec.vocab_size, false)}};
  names.ignored = {".rotary_emb.inv_freq"};
  if (spec.tie_word_embeddings) {
    names.lm_head.parts[0].weight[0].tensor = names.embed_tensor;
    names.ignored.push_back("lm_head.weight");
  }
  const bool two_norms = has_tensor("transformer.h.0.ln_attn.weight");
  for (uint64_t i = 0; i < spec.num_hidden_layers; ++i) {
    LayerTensors layer;
    layer.module = "transformer.h." + std::to_string(i);
    const std::string block = layer.module + ".";
    layer.input_norm =
        norm_source(spec, block + (two_norms ? "ln_attn" : "input_layernorm"), spec.hidden_size);
    if (spec.residual == ResidualKind::parallel_two)
      layer.pre_ffn_norm = norm_source(spec, block + "ln_mlp", spec.hidden_size);
    if (spec.residual == ResidualKind::sequential)
      layer.pre_ffn_norm = norm_source(spec, block + "post_attention_layernorm", spec.hidden_size);
    layer.qkv = fused_qkv(block + "self_attention.query_key_value", spec);
    layer.o = {spec.q_rows(), {linear_part(block + "self_attention.dense", spec.hidden_size, spec.o_bias)}};
    layer.up = {spec.hidden_size,
                {linear_part(block + "mlp.dense_h_to_4h", spec.intermediate_size, spec.mlp_bias)}};
    layer.down = {spec.intermediate_size,
                  {linear_part(block + "mlp.dense_4h_to_h", spec.hidden_size, spec.mlp_bias)}};
    names.layers.push_back(std::move(layer));
  }
  return names;
}

}  // namespace rhapsode::arch
