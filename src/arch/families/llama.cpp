// Llama 1 to 3.x, SmolLM2, TinyLlama and all that say model_type llama.
#include "arch/families/families.h"
#include "arch/tensor_names.h"

namespace rhapsode::arch {

Spec llama_like_spec(const ConfigJson& config, const RopeStyle& rope, std::optional<uint64_t> head_dim) {
  Spec spec = read_shape(config, head_dim);
  spec.intermediate_size = config.count("intermediate_size", 1 << 22);
  spec.norm = NormKind::rms_l;
  spec.norm_eps = static_cast<float>(config.number_or("rms_norm_eps", 0.0, 1.0, 1e-6));
  spec.activation = read_activation(config, "hidden_act");
  const bool attention_bias = config.boolean_or("attention_bias", false);
  spec.qkv_bias = attention_bias;
  spec.o_bias = attention_bias;
  spec.mlp_bias = config.boolean_or("mlp_bias", false);
  spec.tie_word_embeddings = config.boolean_or("tie_word_embeddings", false);
  spec.rope_tables = {read_rope(config, spec.head_dim, rope)};
  if (config.count_or("pretraining_tp", 1024, 1) > 1)
    spec.notes.push_back(
        "pretraining_tp splits sums in the original code; the result differs by rounding only");
  return spec;
}

Spec llama_spec(const ConfigJson& config) {
  return llama_like_spec(config, {});
}

ModelTensors llama_tensors(const Spec& spec, const HasTensor&) {
  return standard_tensors(spec, {});
}

}  // namespace rhapsode::arch
