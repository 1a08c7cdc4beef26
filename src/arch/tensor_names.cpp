#include "arch/tensor_names.h"

namespace rhapsode::arch {

LinearPart linear_rows(const std::string& module, uint64_t first_row, uint64_t rows, bool bias) {
  LinearPart part{module, rows, {{module + ".weight", first_row, rows}}, {}};
  if (bias) part.bias = {{module + ".bias", first_row, rows}};
  return part;
}

LinearPart linear_part(const std::string& module, uint64_t rows, bool bias) {
  return linear_rows(module, 0, rows, bias);
}

NormSource norm_source(const Spec& spec, const std::string& module, uint64_t length) {
  return {module + ".weight", spec.norm_bias ? module + ".bias" : std::string(), length};
}

namespace {

LinearSource qkv_source(const Spec& spec, const NamingStyle& style, const std::string& attention) {
  const uint64_t q = spec.q_rows(), kv = spec.kv_rows();
  if (style.fused_qkv) {
    const std::string module = attention + "qkv_proj";
    return {spec.hidden_size,
            {linear_rows(module, 0, q, spec.qkv_bias), linear_rows(module, q, kv, spec.qkv_bias),
             linear_rows(module, q + kv, kv, spec.qkv_bias)}};
  }
  return {spec.hidden_size,
          {linear_part(attention + "q_proj", q, spec.qkv_bias),
           linear_part(attention + "k_proj", kv, spec.qkv_bias),
           linear_part(attention + "v_proj", kv, spec.qkv_bias)}};
}

void name_mlp(const Spec& spec, const NamingStyle& style, const std::string& mlp, LayerTensors& layer) {
  const uint64_t inner = spec.intermediate_size;
  layer.up.cols = spec.hidden_size;
  layer.down.cols = inner;
  if (spec.ffn == FfnKind::fc) {
    layer.up.parts = {linear_part(mlp + "fc1", inner, spec.mlp_bias)};
    layer.down.parts = {linear_part(mlp + "fc2", spec.hidden_size, spec.mlp_bias)};
    return;
  }
  if (style.fused_gate_up)
    layer.up.parts = {linear_rows(mlp + "gate_up_proj", 0, inner, spec.mlp_bias),
                      linear_rows(mlp + "gate_up_proj", inner, inner, spec.mlp_bias)};
  else
    layer.up.parts = {linear_part(mlp + "gate_proj", inner, spec.mlp_bias),
                      linear_part(mlp + "up_proj", inner, spec.mlp_bias)};
  layer.down.parts = {linear_part(mlp + "down_proj", spec.hidden_size, spec.mlp_bias)};
}

LayerTensors name_layer(const Spec& spec, const NamingStyle& style, uint64_t index) {
  LayerTensors layer;
  layer.module = style.base + ".layers." + std::to_string(index);
  const std::string block = layer.module + ".", attention = block + "self_attn.", mlp = block + "mlp.";
  layer.input_norm = norm_source(spec, block + "input_layernorm", spec.hidden_size);
  if (spec.residual != ResidualKind::parallel_shared)
    layer.pre_ffn_norm = norm_source(spec, block + style.pre_ffn_norm, spec.hidden_size);
  if (spec.post_norms) {
    layer.post_attention_norm = norm_source(spec, block + style.post_attention_norm, spec.hidden_size);
    layer.post_ffn_norm = norm_source(spec, block + style.post_ffn_norm, spec.hidden_size);
  }
  if (spec.qk_norm) {
    layer.q_norm = norm_source(spec, attention + "q_norm", spec.head_dim);
    layer.k_norm = norm_source(spec, attention + "k_norm", spec.head_dim);
  }
  if (spec.attn_sub_norm)
    layer.attn_sub_norm = norm_source(spec, attention + style.attn_sub_norm, spec.q_rows());
  if (spec.ffn_sub_norm) layer.ffn_sub_norm = norm_source(spec, mlp + "ffn_sub_norm", spec.intermediate_size);
  layer.qkv = qkv_source(spec, style, attention);
  layer.o = {spec.q_rows(), {linear_part(attention + style.o_proj, spec.hidden_size, spec.o_bias)}};
  name_mlp(spec, style, mlp, layer);
  return layer;
}

}  // namespace

ModelTensors standard_tensors(const Spec& spec, const NamingStyle& style) {
  ModelTensors names;
  names.embed_module = style.base + ".embed_tokens";
  names.embed_tensor = names.embed_module + ".weight";
  names.norm_module = style.base + "." + style.final_norm;
  names.final_norm = norm_source(spec, names.norm_module, spec.hidden_size);
  names.lm_head = {spec.hidden_size, {linear_part("lm_head", spec.vocab_size, spec.head_bias)}};
  for (uint64_t i = 0; i < spec.num_hidden_layers; ++i) names.layers.push_back(name_layer(spec, style, i));
  // Buffers that old files carry, and the tied head's copy.
  names.ignored = {".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"};
  if (spec.tie_word_embeddings) {
    names.lm_head.parts[0].weight[0].tensor = names.embed_tensor;
    names.ignored.push_back("lm_head.weight");
  }
  return names;
}

std::vector<const NormSource*> layer_norms(const LayerTensors& layer) {
  std::vector<const NormSource*> norms{
      &layer.input_norm,          &layer.q_norm,       &layer.k_norm,       &layer.attn_sub_norm,
      &layer.post_attention_norm, &layer.pre_ffn_norm, &layer.ffn_sub_norm, &layer.post_ffn_norm};
  for (const LinearSource* linear : {&layer.qkv, &layer.o, &layer.up, &layer.down})
    for (const LinearPart& part : linear->parts) norms.push_back(&part.own_norm);
  return norms;
}

}  // namespace rhapsode::arch
