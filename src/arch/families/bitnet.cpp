// BitNet b1.58: Llama's decoder with a norm before each output projection and squared ReLU. How its linears
// are stored is said by quantization_config, which any family may carry.
#include "arch/families/families.h"
#include "arch/tensor_names.h"

namespace rhapsode::arch {

Spec bitnet_spec(const ConfigJson& config) {
  Spec spec = read_shape(config);
  spec.intermediate_size = config.count("intermediate_size", 1 << 22);
  spec.norm = NormKind::rms_l;
  spec.norm_eps = static_cast<float>(config.number_or("rms_norm_eps", 0.0, 1.0, 1e-5));
  spec.attn_sub_norm = spec.ffn_sub_norm = true;
  if (spec.q_rows() != spec.hidden_size)
    config.fail("hidden_size", std::to_string(spec.hidden_size),
                "num_attention_heads times head_dim (" + std::to_string(spec.q_rows()) +
                    "): the norm before o_proj has that width");
  spec.activation = config.has("hidden_act") ? read_activation(config, "hidden_act") : ActivationKind::relu2;
  spec.qkv_bias = spec.o_bias = config.boolean_or("attention_bias", false);
  spec.tie_word_embeddings = config.boolean_or("tie_word_embeddings", false);
  spec.rope_tables = {read_rope(config, spec.head_dim, {.theta = 500000.0})};
  return spec;
}

}  // namespace rhapsode::arch
