#include "runtime/params.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace rhapsode::runtime {
namespace {

using generation::Params;
using Ids = std::vector<int64_t>;

// Reads keys of generation_config.json; absent and null are "not given".
class CheckpointDefaults {
 public:
  CheckpointDefaults(const Json& json, std::string file) : json_(json), file_(std::move(file)) {}

  bool has(const char* key) const {
    return json_.is_object() && json_.contains(key) && !json_.at(key).is_null();
  }

  void number(const char* key, double low, double high, double& out) const {
    if (!has(key)) return;
    const Json& value = json_.at(key);
    if (!value.is_number() || !(value.get<double>() >= low && value.get<double>() <= high))
      fail(key, fmt::format("a number from {} to {}", low, high));
    out = value.get<double>();
  }
  void number(const char* key, double low, double high, std::optional<double>& out) const {
    double value = 0;
    if (!has(key)) return;
    number(key, low, high, value);
    out = value;
  }
  void integer(const char* key, int64_t low, int64_t& out) const {
    if (!has(key)) return;
    if (!json_.at(key).is_number_integer() || json_.at(key).get<int64_t>() < low)
      fail(key, fmt::format("an integer, at least {}", low));
    out = json_.at(key).get<int64_t>();
  }
  void boolean(const char* key, bool& out) const {
    if (!has(key)) return;
    if (!json_.at(key).is_boolean()) fail(key, "true or false");
    out = json_.at(key).get<bool>();
  }
  std::vector<int64_t> ids(const char* key) const { return has(key) ? ids(key, json_.at(key)) : Ids(); }
  std::optional<int64_t> id(const char* key) const {
    if (!has(key)) return std::nullopt;
    if (!json_.at(key).is_number_integer()) fail(key, "a token id");
    return json_.at(key).get<int64_t>();
  }
  // Lists of token ids.
  std::vector<Ids> phrases(const char* key) const {
    std::vector<Ids> out;
    for (const Json& phrase : list(key)) out.push_back(ids(key, phrase));
    return out;
  }
  // Lists of [[token ids], bias].
  std::vector<std::pair<Ids, double>> biases(const char* key) const {
    std::vector<std::pair<Ids, double>> out;
    for (const Json& entry : list(key)) {
      if (!entry.is_array() || entry.size() != 2 || !entry[1].is_number())
        fail(key, "a list of [[token ids], bias]");
      out.emplace_back(ids(key, entry[0]), entry[1].get<double>());
    }
    return out;
  }
  std::optional<std::pair<int64_t, double>> start_and_factor(const char* key) const {
    if (!has(key)) return std::nullopt;
    const Json& value = json_.at(key);
    if (!value.is_array() || value.size() != 2 || !value[0].is_number_integer() || !value[1].is_number())
      fail(key, "[start, factor]");
    return std::pair{value[0].get<int64_t>(), value[1].get<double>()};
  }
  std::vector<std::string> texts(const char* key) const {
    if (!has(key)) return {};
    if (json_.at(key).is_string()) return {json_.at(key).get<std::string>()};
    std::vector<std::string> out;
    for (const Json& text : list(key)) {
      if (!text.is_string()) fail(key, "a text or a list of texts");
      out.push_back(text.get<std::string>());
    }
    return out;
  }
  // A rule that is not implemented may only be switched off.
  void require_off(const char* key, const Json& off) const {
    if (!has(key) || json_.at(key) == off) return;
    throw Error(ErrorKind::unsupported, "unsupported-generation-key",
                fmt::format("'{}' asks for what is not implemented", key))
        .in(file_)
        .at(std::string("/") + key)
        .saw(shown(key))
        .want(off.is_null() ? "null" : "null or " + off.dump())
        .hint("take the key out of the file");
  }
  void early_stopping(generation::EarlyStopping& out) const {
    if (!has("early_stopping")) return;
    const Json& value = json_.at("early_stopping");
    if (value.is_boolean())
      out = value.get<bool>() ? generation::EarlyStopping::yes : generation::EarlyStopping::no;
    else if (value == "never")
      out = generation::EarlyStopping::never;
    else
      fail("early_stopping", "true, false or \"never\"");
  }

 private:
  static constexpr const char* kIds = "a token id or a list of them";

  const Json& list(const char* key) const {
    static const Json empty = Json::array();
    if (!has(key)) return empty;
    if (!json_.at(key).is_array()) fail(key, "a list");
    return json_.at(key);
  }
  Ids ids(const char* key, const Json& value) const {
    if (value.is_number_integer()) return {value.get<int64_t>()};
    if (!value.is_array()) fail(key, kIds);
    Ids out;
    for (const Json& item : value) {
      if (!item.is_number_integer()) fail(key, kIds);
      out.push_back(item.get<int64_t>());
    }
    return out;
  }
  std::string shown(const char* key) const {
    return json_.at(key).dump(-1, ' ', true, Json::error_handler_t::replace);
  }
  [[noreturn]] void fail(const char* key, const std::string& expected) const {
    throw Error(ErrorKind::integrity, "bad-generation-config",
                fmt::format("'{}' has a value out of range", key))
        .in(file_)
        .at(std::string("/") + key)
        .saw(shown(key))
        .want(expected)
        .hint("set the key in the YAML to override it");
  }
  const Json& json_;
  std::string file_;
};

void apply_guide(Params& params) {
  params.max_new_tokens = 250;
  params.temperature = 0.7;
  params.do_sample = true;
}

// As generate() does: max_new_tokens wins over max_length whoever sets either; without both, the default's
// length counts new tokens, and generate()'s own ends at the model's last position.
void settle_lengths(const config::ModelEntry& entry, const CheckpointDefaults& file, uint64_t positions,
                    Params& params) {
  const config::Generation& yaml = entry.generation;
  if (yaml.max_new_tokens || file.has("max_new_tokens")) return;
  int64_t length = 0;
  file.integer("max_length", 1, length);
  if (yaml.max_length) length = yaml.max_length->value;
  if (length > 0) {
    params.max_length = length;
    params.max_new_tokens = generation::kNoLimit;
  } else if (entry.defaults && entry.defaults->value == "transformers") {
    params.max_length = static_cast<int64_t>(positions);
  }
}

void apply_checkpoint(const CheckpointDefaults& file, Params& params) {
  constexpr double kHuge = 1e9;
  file.integer("max_new_tokens", 1, params.max_new_tokens);
  file.integer("min_length", 0, params.min_length);
  file.integer("min_new_tokens", 0, params.min_new_tokens);
  file.boolean("do_sample", params.do_sample);
  file.number("temperature", 0, kHuge, params.temperature);
  file.integer("top_k", 0, params.top_k);
  file.number("top_p", 0, 1, params.top_p);
  file.number("min_p", 0, 1, params.min_p);
  file.number("typical_p", 0, 1, params.typical_p);
  file.number("epsilon_cutoff", 0, 1, params.epsilon_cutoff);
  file.number("eta_cutoff", 0, 1, params.eta_cutoff);
  file.number("repetition_penalty", 1e-6, kHuge, params.repetition_penalty);
  file.integer("no_repeat_ngram_size", 0, params.no_repeat_ngram_size);
  file.integer("num_beams", 1, params.num_beams);
  file.integer("num_return_sequences", 1, params.num_return_sequences);
  file.number("length_penalty", -kHuge, kHuge, params.length_penalty);
  file.early_stopping(params.early_stopping);
  file.boolean("renormalize_logits", params.renormalize_logits);
  file.boolean("remove_invalid_values", params.remove_invalid_values);
  file.number("guidance_scale", 0, kHuge, params.guidance_scale);
  params.suppress_tokens = file.ids("suppress_tokens");
  params.begin_suppress_tokens = file.ids("begin_suppress_tokens");
  params.forced_bos_token_id = file.id("forced_bos_token_id");
  params.forced_eos_token_id = file.ids("forced_eos_token_id");
  params.bad_words_ids = file.phrases("bad_words_ids");
  params.sequence_bias = file.biases("sequence_bias");
  params.exponential_decay_length_penalty = file.start_and_factor("exponential_decay_length_penalty");
  params.stop_strings = file.texts("stop_strings");
  file.number("max_time", 0, kHuge, params.max_time_s);
  params.prompt_lookup_num_tokens = file.id("prompt_lookup_num_tokens");
  file.integer("max_matching_ngram_size", 1, params.max_matching_ngram_size);
  int64_t pad = 0;
  file.integer("pad_token_id", std::numeric_limits<int64_t>::min(), pad);
  if (file.has("pad_token_id")) params.pad_token_id = pad;
}

// Rules of generate() that change the answer and are not implemented.
void refuse_foreign_rules(const CheckpointDefaults& file) {
  file.require_off("encoder_repetition_penalty", 1.0);
  file.require_off("encoder_no_repeat_ngram_size", 0);
  file.require_off("penalty_alpha", 0.0);
  file.require_off("num_beam_groups", 1);
  file.require_off("diversity_penalty", 0.0);
  file.require_off("token_healing", false);
  for (const char* key : {"top_h", "watermarking_config", "constraints", "force_words_ids", "dola_layers"})
    file.require_off(key, nullptr);
}

template <typename T, typename U>
void set(const config::Maybe<T>& from, U& to) {
  if (from) to = from->value;
}

void apply_yaml(const config::Generation& yaml, Params& params) {
  set(yaml.max_new_tokens, params.max_new_tokens);
  set(yaml.min_length, params.min_length);
  set(yaml.min_new_tokens, params.min_new_tokens);
  set(yaml.do_sample, params.do_sample);
  set(yaml.temperature, params.temperature);
  set(yaml.top_k, params.top_k);
  set(yaml.top_p, params.top_p);
  set(yaml.min_p, params.min_p);
  set(yaml.typical_p, params.typical_p);
  set(yaml.epsilon_cutoff, params.epsilon_cutoff);
  set(yaml.eta_cutoff, params.eta_cutoff);
  set(yaml.repetition_penalty, params.repetition_penalty);
  if (yaml.repetition_penalty_scope)
    params.repetition_penalty_scope = yaml.repetition_penalty_scope->value == "generated"
                                          ? generation::PenaltyScope::generated
                                          : generation::PenaltyScope::all;
  set(yaml.no_repeat_ngram_size, params.no_repeat_ngram_size);
  set(yaml.num_beams, params.num_beams);
  set(yaml.num_return_sequences, params.num_return_sequences);
  if (yaml.early_stopping)
    params.early_stopping = static_cast<generation::EarlyStopping>(yaml.early_stopping->value);
  set(yaml.length_penalty, params.length_penalty);
  set(yaml.pad_token_id, params.pad_token_id);
  set(yaml.stop_strings, params.stop_strings);
  set(yaml.max_time, params.max_time_s);
  set(yaml.renormalize_logits, params.renormalize_logits);
  set(yaml.remove_invalid_values, params.remove_invalid_values);
  set(yaml.suppress_tokens, params.suppress_tokens);
  set(yaml.begin_suppress_tokens, params.begin_suppress_tokens);
  set(yaml.bad_words_ids, params.bad_words_ids);
  set(yaml.sequence_bias, params.sequence_bias);
  set(yaml.forced_bos_token_id, params.forced_bos_token_id);
  set(yaml.forced_eos_token_id, params.forced_eos_token_id);
  set(yaml.exponential_decay_length_penalty, params.exponential_decay_length_penalty);
  set(yaml.guidance_scale, params.guidance_scale);
  set(yaml.prompt_lookup_num_tokens, params.prompt_lookup_num_tokens);
  set(yaml.max_matching_ngram_size, params.max_matching_ngram_size);
  if (yaml.seed) params.seed = static_cast<uint64_t>(yaml.seed->value);
}

void add_ids(const std::vector<int64_t>& from, std::vector<int64_t>& to) {
  for (int64_t id : from)
    if (std::find(to.begin(), to.end(), id) == to.end()) to.push_back(id);
}

std::vector<int64_t> eos_ids(const Assembly& assembly, const CheckpointDefaults& file) {
  if (assembly.entry().generation.eos_token_id) return assembly.entry().generation.eos_token_id->value;
  std::vector<int64_t> ids = file.ids("eos_token_id");
  add_ids(assembly.architecture.spec.eos_token_id, ids);
  std::erase_if(ids, [](int64_t id) { return id < 0; });  // what checkpoints write for none: it never comes
  if (assembly.tokenizer) {
    if (const auto id = assembly.tokenizer->named_token_id("eos_token")) add_ids({*id}, ids);
    // Turn ends that chat templates write and that not every checkpoint lists.
    for (const char* token : {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>"})
      if (assembly.chat_template && assembly.chat_template->source().find(token) != std::string::npos)
        if (const auto id = assembly.tokenizer->id_of(token)) add_ids({*id}, ids);
  }
  return ids;
}

// Decision 4: beams imply do_sample = false unless the user asked for both; decision 6: temperature 0 is
// greedy.
void settle_modes(const config::Generation& yaml, Params& params) {
  if (yaml.num_beams && params.num_beams > 1 && !yaml.do_sample) params.do_sample = false;
  if (params.temperature == 0.0) {
    params.do_sample = false;
    params.temperature = 1.0;
  }
}

}  // namespace

Params resolve_params(const Assembly& assembly) {
  const config::ModelEntry& entry = assembly.entry();
  Params params;
  if (!entry.defaults || entry.defaults->value == "guide") apply_guide(params);
  // Without a generation_config.json transformers takes generation keys from config.json.
  const bool own = !assembly.facts.generation_config.is_null();
  const CheckpointDefaults file(own ? assembly.facts.generation_config : assembly.facts.config,
                                assembly.directory + (own ? "/generation_config.json" : "/config.json"));
  refuse_foreign_rules(file);
  apply_checkpoint(file, params);
  apply_yaml(entry.generation, params);
  settle_lengths(entry, file, assembly.architecture.spec.max_position_embeddings, params);
  settle_modes(entry.generation, params);
  params.eos_token_id = eos_ids(assembly, file);
  if (!params.pad_token_id && assembly.architecture.spec.pad_token_id)
    params.pad_token_id = assembly.architecture.spec.pad_token_id;
  if (!params.pad_token_id && !params.eos_token_id.empty()) params.pad_token_id = params.eos_token_id.front();
  return params;
}

}  // namespace rhapsode::runtime
