// The architectures that are imported: config.json as transformers builds it from the same metadata (its
// defaults are written out), and the names, shapes and changes of their tensors. A new architecture is a row
// in each table.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <set>
#include <unordered_map>

#include "base/checked.h"
#include "checkpoint/gguf_model.h"

namespace rhapsode::gguf {
namespace {

// Sizes that shapes are made of.
struct Sizes {
  uint64_t hidden, layers, ffn, heads, kv_heads, head_dim, vocab, context;
};

enum class Dim : uint8_t { hidden, ffn, gate_up, q, kv, qkv, head, vocab, none };

uint64_t size_of(Dim dim, const Sizes& s) {
  switch (dim) {
    case Dim::hidden:
      return s.hidden;
    case Dim::ffn:
      return s.ffn;
    case Dim::gate_up:
      return 2 * s.ffn;
    case Dim::q:
      return s.heads * s.head_dim;
    case Dim::kv:
      return s.kv_heads * s.head_dim;
    case Dim::qkv:
      return (s.heads + 2 * s.kv_heads) * s.head_dim;
    case Dim::head:
      return s.head_dim;
    case Dim::vocab:
      return s.vocab;
    case Dim::none:
      return 0;
  }
  return 0;
}

// A file may hold millions of tensors: none is searched for by walking through them.
using ByName = std::unordered_map<std::string_view, const TensorEntry*>;

struct Rule {
  const char* gguf;
  const char* hf;
  Dim rows;
  Dim cols = Dim::none;  // none: the tensor has one dimension
  Change change = Change::none;
};

struct Family {
  const char* architecture;  // general.architecture
  const char* model_type;
  const char* model_class;
  std::vector<Rule> layer;  // names behind "blk.N." and "model.layers.N."
  Change norms = Change::none;
};

constexpr Rule kEmbedding{"token_embd.weight", "model.embed_tokens.weight", Dim::vocab, Dim::hidden};
constexpr Rule kFinalNorm{"output_norm.weight", "model.norm.weight", Dim::hidden};
constexpr Rule kHead{"output.weight", "lm_head.weight", Dim::vocab, Dim::hidden};

constexpr Rule kInputNorm{"attn_norm.weight", "input_layernorm.weight", Dim::hidden};
constexpr Rule kPostNorm{"ffn_norm.weight", "post_attention_layernorm.weight", Dim::hidden};
constexpr Rule kQ{"attn_q.weight", "self_attn.q_proj.weight", Dim::q, Dim::hidden};
constexpr Rule kK{"attn_k.weight", "self_attn.k_proj.weight", Dim::kv, Dim::hidden};
constexpr Rule kV{"attn_v.weight", "self_attn.v_proj.weight", Dim::kv, Dim::hidden};
constexpr Rule kO{"attn_output.weight", "self_attn.o_proj.weight", Dim::hidden, Dim::q};
constexpr Rule kGate{"ffn_gate.weight", "mlp.gate_proj.weight", Dim::ffn, Dim::hidden};
constexpr Rule kUp{"ffn_up.weight", "mlp.up_proj.weight", Dim::ffn, Dim::hidden};
constexpr Rule kDown{"ffn_down.weight", "mlp.down_proj.weight", Dim::hidden, Dim::ffn};
constexpr Rule kQNorm{"attn_q_norm.weight", "self_attn.q_norm.weight", Dim::head};
constexpr Rule kKNorm{"attn_k_norm.weight", "self_attn.k_norm.weight", Dim::head};
// The four norms of a Gemma layer.
constexpr Rule kGemmaPostAttention{"post_attention_norm.weight", "post_attention_layernorm.weight",
                                   Dim::hidden};
constexpr Rule kGemmaPreFfn{"ffn_norm.weight", "pre_feedforward_layernorm.weight", Dim::hidden};
constexpr Rule kGemmaPostFfn{"post_ffw_norm.weight", "post_feedforward_layernorm.weight", Dim::hidden};

constexpr Rule permuted(Rule rule) {
  rule.change = Change::unpermute;
  return rule;
}

const std::vector<Family>& families() {
  static const std::vector<Rule> kLlama{kInputNorm, kPostNorm, permuted(kQ), permuted(kK), kV,
                                        kO,         kGate,     kUp,          kDown};
  static const std::vector<Family> kFamilies{
      {"llama", "llama", "LlamaForCausalLM", kLlama},
      {"llama", "mistral", "MistralForCausalLM", kLlama},
      {"qwen2",
       "qwen2",
       "Qwen2ForCausalLM",
       {kInputNorm,
        kPostNorm,
        kQ,
        {"attn_q.bias", "self_attn.q_proj.bias", Dim::q},
        kK,
        {"attn_k.bias", "self_attn.k_proj.bias", Dim::kv},
        kV,
        {"attn_v.bias", "self_attn.v_proj.bias", Dim::kv},
        kO,
        kGate,
        kUp,
        kDown}},
      {"qwen3",
       "qwen3",
       "Qwen3ForCausalLM",
       {kInputNorm, kPostNorm, kQ, kK, kV, kO, kQNorm, kKNorm, kGate, kUp, kDown}},
      {"gemma2",
       "gemma2",
       "Gemma2ForCausalLM",
       {kInputNorm, kGemmaPostAttention, kGemmaPreFfn, kGemmaPostFfn, kQ, kK, kV, kO, kGate, kUp, kDown},
       Change::minus_one},
      {"gemma3",
       "gemma3_text",
       "Gemma3ForCausalLM",
       {kInputNorm, kGemmaPostAttention, kGemmaPreFfn, kGemmaPostFfn, kQ, kK, kV, kO, kQNorm, kKNorm, kGate,
        kUp, kDown},
       Change::minus_one},
      {"phi3",
       "phi3",
       "Phi3ForCausalLM",
       {kInputNorm,
        kPostNorm,
        {"attn_qkv.weight", "self_attn.qkv_proj.weight", Dim::qkv, Dim::hidden},
        kO,
        {"ffn_up.weight", "mlp.gate_up_proj.weight", Dim::gate_up, Dim::hidden},
        kDown}},
  };
  return kFamilies;
}

const Family& family_of(const File& file) {
  const std::string architecture = required_text(file, "general.architecture");
  // transformers tells Mistral from Llama by this name alone.
  const std::string* name = text(file, "general.name");
  const bool mistral = architecture == "llama" && name != nullptr && *name == "mistral";
  std::set<std::string> known;
  for (const Family& family : families()) {
    if (family.architecture == architecture && (!mistral || std::string_view(family.model_type) == "mistral"))
      return family;
    known.insert(family.architecture);
  }
  throw Error(ErrorKind::unsupported, "gguf-architecture", "models of this architecture cannot be imported")
      .in(file.path)
      .at("general.architecture")
      .saw(fmt::format("\"{}\"", excerpt(architecture)))
      .want(fmt::format("{}", fmt::join(known, ", ")))
      .hint("use the model's safetensors checkpoint instead");
}

Sizes read_sizes(const File& file, const Family& family) {
  const std::string prefix = std::string(family.architecture) + ".";
  const auto count = [&](const char* key) { return required_count(file, prefix + key); };
  const auto count_or = [&](const char* key, uint64_t otherwise) {
    return file.metadata.contains(prefix + key) ? count(key) : otherwise;
  };
  Sizes s{};
  s.hidden = count("embedding_length");
  s.layers = count("block_count");
  // Each layer has tensors: a larger count is a lie, and must not size anything.
  if (s.layers > file.tensors.size())
    throw bad_metadata(file, prefix + "block_count", "the file promises more layers than it has tensors")
        .saw(fmt::format("{} layers", s.layers))
        .want(fmt::format("at most {}", file.tensors.size()));
  s.ffn = count("feed_forward_length");
  s.heads = count("attention.head_count");
  s.kv_heads = count_or("attention.head_count_kv", s.heads);
  s.context = count("context_length");
  const std::vector<std::string>* tokens = texts(file, "tokenizer.ggml.tokens");
  s.vocab =
      tokens != nullptr && !tokens->empty() ? count_or("vocab_size", tokens->size()) : count("vocab_size");
  const bool from_rope =
      std::string_view(family.architecture) == "llama";  // only there it is the head's whole width
  const char* head_key = from_rope ? "rope.dimension_count" : "attention.key_length";
  if (s.hidden % s.heads != 0 && !file.metadata.contains(prefix + head_key))
    throw bad_metadata(file, prefix + "attention.head_count", "the heads do not divide the width")
        .saw(fmt::format("{} heads for a width of {}", s.heads, s.hidden))
        .want("a divisor of the width");
  s.head_dim = count_or(head_key, s.hidden / s.heads);
  if (s.heads % s.kv_heads != 0)
    throw bad_metadata(file, prefix + "attention.head_count_kv", "the heads of keys do not divide the heads")
        .saw(fmt::format("{} of {}", s.kv_heads, s.heads))
        .want("a divisor of the number of heads");
  if (s.head_dim > 65'536 || s.head_dim % 2 != 0)
    throw bad_metadata(file, prefix + head_key, "the width of a head is out of range")
        .saw(fmt::format("{}", s.head_dim))
        .want("an even number up to 65536");
  return s;
}

double positive(const File& file, const std::string& key, std::optional<double> otherwise) {
  const std::optional<double> value = number(file, key);
  if (!value && otherwise) return *otherwise;
  if (value && std::isfinite(*value) && *value > 0) return *value;
  throw bad_metadata(file, key,
                     value ? "a number is out of range" : "a key that the architecture needs is missing")
      .saw(value ? fmt::format("{}", *value) : "no such key")
      .want("a finite number above 0");
}

// A token id of the tokenizer; the class's default where the file does not say, null where that is none.
OrderedJson token_id(const File& file, const char* key, const Sizes& s, std::optional<int64_t> otherwise) {
  const std::string full = std::string("tokenizer.ggml.") + key;
  const std::optional<int64_t> id = integer(file, full);
  if (!id) return otherwise ? OrderedJson(*otherwise) : OrderedJson(nullptr);
  if (*id < 0 || static_cast<uint64_t>(*id) >= s.vocab)
    throw bad_metadata(file, full, "a token id is outside of the vocabulary")
        .saw(fmt::format("{}", *id))
        .want(fmt::format("below {}", s.vocab));
  return *id;
}

struct DefaultIds {
  std::optional<int64_t> bos, eos, pad;
};

DefaultIds default_ids(std::string_view model_type) {
  if (model_type == "llama" || model_type == "mistral") return {1, 2, std::nullopt};
  if (model_type == "gemma2" || model_type == "gemma3_text") return {2, 1, 0};
  if (model_type == "phi3") return {1, 32000, 32000};
  return {};
}

OrderedJson layer_types(const Sizes& s, const std::function<bool(uint64_t layer)>& is_full) {
  OrderedJson types = OrderedJson::array();
  for (uint64_t i = 0; i < s.layers; ++i)
    types.push_back(is_full(i) ? "full_attention" : "sliding_attention");
  return types;
}

OrderedJson default_rope(double theta) {
  return {{"rope_theta", theta}, {"rope_type", "default"}};
}

// The keys that only this family has, or has with another meaning.
void add_family_keys(const File& file, const Family& family, const Sizes& s, OrderedJson& config) {
  const std::string prefix = std::string(family.architecture) + ".";
  const std::string_view type = family.model_type;
  const bool gemma = type.starts_with("gemma");
  const double default_theta = type == "gemma3_text" ? 1'000'000.0 : 10'000.0;
  const double theta = positive(file, prefix + "rope.freq_base", default_theta);
  config[gemma ? "hidden_activation" : "hidden_act"] = gemma ? "gelu_pytorch_tanh" : "silu";
  config["rope_parameters"] = default_rope(theta);
  if (type != "qwen2" && type != "phi3") config["head_dim"] = s.head_dim;
  if (type == "llama") {
    config["attention_bias"] = false;
    config["mlp_bias"] = false;
    config["pretraining_tp"] = 1;
  } else if (type == "mistral") {
    config["sliding_window"] = 4096;
  } else if (type == "qwen2" || type == "qwen3") {
    if (type == "qwen3") config["attention_bias"] = false;
    config["use_sliding_window"] = false;
    config["sliding_window"] = nullptr;
    config["max_window_layers"] = 28;
    config["layer_types"] = layer_types(s, [](uint64_t) { return true; });
  } else if (gemma) {
    config["attention_bias"] = false;
    config["query_pre_attn_scalar"] = 256;
    config["sliding_window"] = file.metadata.contains(prefix + "attention.sliding_window")
                                   ? required_count(file, prefix + "attention.sliding_window")
                                   : 4096;
    const bool two = type == "gemma2";
    config["layer_types"] = layer_types(s, [&](uint64_t i) { return two ? i % 2 == 1 : i % 6 == 5; });
    config["final_logit_softcapping"] = two ? OrderedJson(30.0) : OrderedJson(nullptr);
    config["attn_logit_softcapping"] = two ? OrderedJson(50.0) : OrderedJson(nullptr);
    if (!two)
      config["rope_parameters"] = {{"sliding_attention", default_rope(10'000.0)},
                                   {"full_attention", default_rope(theta)}};
  } else if (type == "phi3") {
    config["rope_parameters"]["partial_rotary_factor"] = 1.0;
    config["original_max_position_embeddings"] = 4096;
    config["sliding_window"] = nullptr;
    config["resid_pdrop"] = 0.0;
    config["embd_pdrop"] = 0.0;
  }
}

OrderedJson build_config(const File& file, const ByName& by_name, const Family& family, const Sizes& s) {
  const std::string prefix = std::string(family.architecture) + ".";
  const DefaultIds ids = default_ids(family.model_type);
  OrderedJson config;
  config["architectures"] = OrderedJson::array({family.model_class});
  config["model_type"] = family.model_type;
  config["vocab_size"] = s.vocab;
  config["hidden_size"] = s.hidden;
  config["intermediate_size"] = s.ffn;
  config["num_hidden_layers"] = s.layers;
  config["num_attention_heads"] = s.heads;
  config["num_key_value_heads"] = s.kv_heads;
  config["max_position_embeddings"] = s.context;
  config["rms_norm_eps"] = positive(file, prefix + "attention.layer_norm_rms_epsilon", std::nullopt);
  config["initializer_range"] = 0.02;
  config["attention_dropout"] = 0.0;
  config["use_cache"] = true;
  config["tie_word_embeddings"] = !by_name.contains("output.weight");
  config["bos_token_id"] = token_id(file, "bos_token_id", s, ids.bos);
  config["eos_token_id"] = token_id(file, "eos_token_id", s, ids.eos);
  config["pad_token_id"] = token_id(file, "padding_token_id", s, ids.pad);
  if (const OrderedJson unknown = token_id(file, "unknown_token_id", s, std::nullopt); !unknown.is_null())
    config["unk_token_id"] = unknown;
  add_family_keys(file, family, s, config);
  return config;
}

// Finds the tensor of a rule and checks its shape and type.
TensorPlan planned(const File& file, const ByName& by_name, const std::string& source, std::string target,
                   const Rule& rule, const Sizes& s) {
  const auto bad = [&](const char* code, const char* message) {
    return Error(ErrorKind::integrity, code, message)
        .in(file.path)
        .at(source)
        .hint("the file is damaged or incomplete: fetch or export it again");
  };
  const auto found = by_name.find(source);
  const TensorEntry* tensor = found == by_name.end() ? nullptr : found->second;
  std::vector<uint64_t> shape{size_of(rule.rows, s)};
  if (rule.cols != Dim::none) shape.push_back(size_of(rule.cols, s));
  if (tensor == nullptr)
    throw bad("gguf-tensor-missing", "a tensor that the architecture needs is missing")
        .saw("no such tensor")
        .want(fmt::format("a tensor of shape [{}]", fmt::join(shape, ", ")));
  if (tensor->shape != shape)
    throw bad("gguf-tensor-shape", "a tensor's shape contradicts the metadata")
        .saw(fmt::format("[{}]", fmt::join(tensor->shape, ", ")))
        .want(fmt::format("[{}]", fmt::join(shape, ", ")));
  if (!can_dequantize(tensor->type))
    throw Error(ErrorKind::unsupported, "gguf-type", "a tensor has a type that cannot be imported")
        .in(file.path)
        .at(source)
        .saw(std::string(block_traits(tensor->type)->name))
        .want("F32, F16, BF16, Q8_0, Q4_0 to Q5_1, Q2_K to Q6_K, IQ4_NL, IQ4_XS, TQ1_0 or TQ2_0")
        .hint("use another quantization of the model");
  const uint64_t heads = rule.rows == Dim::q ? s.heads : s.kv_heads;
  return {tensor, std::move(target), rule.change, rule.change == Change::unpermute ? heads : 0};
}

// Keys that change the meaning of the model and that transformers does not read from GGUF files.
void note_ignored(const File& file, const Family& family, ModelPlan& plan) {
  std::set<std::string> used;
  for (const TensorPlan& tensor : plan.tensors) used.insert(tensor.source->name);
  for (const TensorEntry& tensor : file.tensors)
    if (!used.contains(tensor.name))
      plan.notes.push_back(fmt::format("tensor {} is not part of the checkpoint", excerpt(tensor.name)));
  for (const auto& [key, value] : file.metadata)
    if (key.starts_with(std::string(family.architecture) + ".rope.scaling."))
      plan.notes.push_back(fmt::format(
          "key {} is not carried over: transformers reads no RoPE scaling from GGUF files", excerpt(key)));
}

}  // namespace

ModelPlan plan_model(const File& file) {
  const Family& family = family_of(file);
  const Sizes s = read_sizes(file, family);
  ByName by_name;
  for (const TensorEntry& tensor : file.tensors) by_name.emplace(tensor.name, &tensor);
  ModelPlan plan;
  plan.config = build_config(file, by_name, family, s);
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"})
    if (!plan.config[key].is_null()) plan.generation_config[key] = plan.config[key];
  const auto with_norms = [&](Rule rule) {
    if (std::string_view(rule.gguf).ends_with("norm.weight")) rule.change = family.norms;
    return rule;
  };
  const auto add = [&](const Rule& rule, const std::string& from, const std::string& to) {
    plan.tensors.push_back(planned(file, by_name, from + rule.gguf, to + rule.hf, with_norms(rule), s));
  };
  if (!plan.config["tie_word_embeddings"].get<bool>()) add(kHead, "", "");
  add(kEmbedding, "", "");
  for (uint64_t i = 0; i < s.layers; ++i)
    for (const Rule& rule : family.layer)
      add(rule, fmt::format("blk.{}.", i), fmt::format("model.layers.{}.", i));
  add(kFinalNorm, "", "");
  note_ignored(file, family, plan);
  return plan;
}

}  // namespace rhapsode::gguf
