// The naming that most families share ("model.layers.N.self_attn.q_proj.weight", …), built from the Spec's
// axes.
#pragma once

#include <string>
#include <vector>

#include "arch/spec.h"

namespace rhapsode::arch {

struct NamingStyle {
  std::string base = "model";  // prefix of embed_tokens, layers and norm
  std::string final_norm = "norm";
  std::string o_proj = "o_proj";
  std::string attn_sub_norm = "attn_sub_norm";
  bool fused_qkv = false;                                 // self_attn.qkv_proj with rows q, k, v
  bool fused_gate_up = false;                             // mlp.gate_up_proj with rows gate, up
  std::string pre_ffn_norm = "post_attention_layernorm";  // the norm before the mlp
  std::string post_attention_norm;                        // on the attention branch, empty = none
  std::string post_ffn_norm;                              // on the mlp branch, empty = none
};

ModelTensors standard_tensors(const Spec& spec, const NamingStyle& style);

// Pieces for families that name things their own way.
LinearPart linear_part(const std::string& module, uint64_t rows, bool bias);
LinearPart linear_rows(const std::string& module, uint64_t first_row, uint64_t rows, bool bias);
NormSource norm_source(const Spec& spec, const std::string& module, uint64_t length);

// Every norm of a layer, those of its projections too; names are empty where the model has none.
std::vector<const NormSource*> layer_norms(const LayerTensors& layer);

}  // namespace rhapsode::arch
