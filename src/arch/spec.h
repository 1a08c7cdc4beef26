// What a model is, as data: one axis a difference between families, field names as in config.json. No forward
// code asks which family a model is of; a new family is one file in families/ that fills this.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace rhapsode::arch {

enum class NormKind : uint8_t { rms_l, rms_g, layernorm };
// sequential:      x += post(attn(pre x)); x += post(mlp(pre2 x))
// parallel_shared: n = pre x; x = (attn n + mlp n) + x
// parallel_two:    x = (mlp(pre2 x) + attn(pre x)) + x
enum class ResidualKind : uint8_t { sequential, parallel_shared, parallel_two };
enum class FfnKind : uint8_t { glu, fc };
enum class ActivationKind : uint8_t { silu, gelu_tanh, gelu_new, gelu_erf, relu2, relu };
// How the layers' projections multiply; the head stays dense. R rounds to the model's dtype, T is {-1, 0, 1},
// q are a token's activations as int8 and s their factor (127 / largest).
//   ternary_times:  y = R(R(R(q / s) . T) * weight_scale)   BitNet's autobitlinear, packed
//   ternary_over:   y = R(R(q . T) / (weight_scale * s))    BitNet's bitlinear, packed
//   ternary_stored: the same of full weights that are -1, 0 and 1 already
//   ternary_online: y = R(R(q / s) . R(T / factor))         full weights, rounded while loading
// A bias is added inside R before weight_scale multiplies; of ternary_over it is added last: R(y + bias).
constexpr uint64_t kPackedRows = 4;  // rows of a packed ternary matrix in one byte
enum class LinearKind : uint8_t { dense, ternary_times, ternary_over, ternary_stored, ternary_online };
enum class RopeKind : uint8_t { standard, linear, dynamic, llama3, yarn, longrope };

// Weights that the checkpoint holds quantized already: bitsandbytes' two formats, GPTQ and AWQ.
enum class StoredKind : uint8_t { none, int8, four_bit, gptq, awq };

// quantization_config of config.json, where its method is one of these.
struct StoredQuantization {
  StoredKind kind = StoredKind::none;
  bool nf4 = false;               // bnb_4bit_quant_type, else fp4
  Dtype compute = Dtype::f32;     // bnb_4bit_compute_dtype
  float int8_threshold = 6.0f;    // llm_int8_threshold
  std::vector<std::string> skip;  // llm_int8_skip_modules; has_skip: given, an empty list too
  bool has_skip = false;
  uint32_t bits = 4;            // gptq, awq: of a code
  uint64_t group = 0;           // gptq, awq: input columns that share a scale; 0: all of them
  bool zeros_plus_one = false;  // gptq: stored zero points are one too small
};

// How the tensors of one part are stored, by the headers alone.
struct StoredWeight {
  StoredKind kind = StoredKind::none;
  bool nf4 = false;            // four_bit: else fp4
  bool nested = false;         // four_bit: its absmax values are quantized too
  uint64_t block = 0;          // four_bit: elements that share one absmax
  Dtype compute = Dtype::f32;  // four_bit
  uint32_t bits = 0;           // gptq, awq
  uint64_t group = 0;
  bool zeros_plus_one = false;
};

// Parameters of one rotary table; those that its kind does not use stay at their defaults.
struct RopeTable {
  RopeKind kind = RopeKind::standard;
  double theta = 10000.0;
  uint32_t rotary_dims = 0;  // even, <= head_dim
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;            // llama3
  double beta_fast = 32.0, beta_slow = 1.0;                        // yarn
  bool truncate = true;                                            // yarn
  std::optional<double> attention_factor, mscale, mscale_all_dim;  // yarn, longrope
  std::vector<double> short_factor, long_factor;                   // longrope
  // longrope: a sequence that grows beyond the original length is computed anew; else keys that are cached
  // stay as they were rotated.
  bool recomputes = false;
  uint64_t original_max_position_embeddings = 0;
  uint64_t max_position_embeddings = 0;
};

struct LayerSpec {
  uint32_t window = 0;     // keys visible, self included; 0 = all before
  int32_t rope_table = 0;  // index into Spec::rope_tables, -1 = no rotation
};

struct Spec {
  std::string model_type;
  std::string architecture;  // class name of config.json, for messages
  uint64_t hidden_size = 0, num_hidden_layers = 0, num_attention_heads = 0, num_key_value_heads = 0,
           head_dim = 0;
  uint64_t intermediate_size = 0, vocab_size = 0, max_position_embeddings = 0;

  NormKind norm = NormKind::rms_l;
  float norm_eps = 1e-5f;
  bool norm_bias = false;           // layernorm with a bias
  bool post_norms = false;          // norms on the branches, before the residual add
  bool attn_sub_norm = false;       // before o_proj
  bool ffn_sub_norm = false;        // before down_proj
  std::optional<NormKind> qk_norm;  // per head, before the rotation
  LinearKind linear = LinearKind::dense;
  // Ternary kinds: each projection has an RMS norm of its own (rms_l), with this epsilon, before its input is
  // quantized.
  std::optional<float> linear_norm_eps;
  StoredQuantization stored;
  bool qkv_bias = false, o_bias = false, mlp_bias = false, head_bias = false;

  ResidualKind residual = ResidualKind::sequential;
  FfnKind ffn = FfnKind::glu;
  ActivationKind activation = ActivationKind::silu;

  float attention_scale = 0.0f;
  float embed_scale = 1.0f;                         // rounded to the model's dtype before use
  float attn_softcap = 0.0f, final_softcap = 0.0f;  // 0 = off
  bool tie_word_embeddings = false;

  std::vector<RopeTable> rope_tables;
  std::vector<LayerSpec> layers;

  std::optional<Dtype> dtype;  // torch_dtype | dtype of config.json
  std::vector<int64_t> eos_token_id;
  std::optional<int64_t> bos_token_id, pad_token_id;
  std::vector<std::string> notes;  // what a user should know (auto_map reported, keys without effect)

  uint64_t q_rows() const { return num_attention_heads * head_dim; }
  uint64_t kv_rows() const { return num_key_value_heads * head_dim; }
};

// Rows [first_row, first_row + row_count) of a checkpoint tensor [rows, cols]; of a bias vector: elements.
struct RowRun {
  std::string tensor;
  uint64_t first_row = 0;
  uint64_t row_count = 0;
};

// A norm's tensors; empty names = the model has none.
struct NormSource {
  std::string weight, bias;
  uint64_t length = 0;
};

// One part of a linear: its rows are the runs one after the other. `module` is the module's name in
// transformers.
struct LinearPart {
  std::string module;
  uint64_t rows = 0;
  std::vector<RowRun> weight;
  std::vector<RowRun> bias;       // empty = none
  std::string weight_scale = {};  // a tensor of one element; empty = none
  LinearKind kind = LinearKind::dense;
  StoredWeight stored = {};
  NormSource own_norm = {};  // of this part's input alone, see Spec::linear_norm_eps

  bool is_packed() const { return kind == LinearKind::ternary_times || kind == LinearKind::ternary_over; }
};

// Parts that share their input and are multiplied as one: q, k, v; gate and up. Rows of packed ternary
// tensors are counted unpacked.
struct LinearSource {
  uint64_t cols = 0;
  std::vector<LinearPart> parts;
};

struct LayerTensors {
  std::string module;  // the block's name: model.layers.3
  NormSource input_norm, q_norm, k_norm, attn_sub_norm;
  NormSource post_attention_norm;  // on the attention branch (Gemma 2, 3)
  NormSource pre_ffn_norm, ffn_sub_norm;
  NormSource post_ffn_norm;  // on the mlp branch
  LinearSource qkv, o;
  LinearSource up;  // gate and up, or fc1
  LinearSource down;
};

// Where each role of the decoder finds its bytes in the checkpoint.
struct ModelTensors {
  std::string embed_module, norm_module;
  std::string embed_tensor;  // [vocab_size, hidden_size]
  LinearSource lm_head;      // where tied: the embedding's tensor
  NormSource final_norm;
  std::vector<LayerTensors> layers;
  std::vector<std::string> ignored;  // exact names, or ".suffix" of tensors that take no part
};

}  // namespace rhapsode::arch
