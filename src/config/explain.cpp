// Which source decides a value: command line, YAML, generation_config, config, tokenizer, default. Owns that
// order; refuses to load any file.
#include <fmt/format.h>

#include <algorithm>

#include "config/locate.h"
#include "config/nearest.h"
#include "config/table.h"

namespace rhapsode::config {
namespace {

class Explainer {
 public:
  Explainer(const Config& config, const Key& key, const CheckpointFacts& facts)
      : config_(config), entry_(config.active()), key_(key), name_(key.name), facts_(facts) {}

  Explanation explain();
  std::optional<std::string> other_length() const;

 private:
  bool is_generation() const { return find_key(generation_keys(), name_) == &key_; }
  bool transformers() const { return entry_.defaults && entry_.defaults->value == "transformers"; }
  void add(const char* source, Json value) {
    if (!value.is_null()) out_.candidates.push_back({source, std::move(value)});
  }
  void written();
  void implied();
  const std::vector<Candidate>& collect();
  Json default_value() const;
  void checkpoint();
  void token_ids();
  Json tokenizer_id() const;

  const Config& config_;
  const ModelEntry& entry_;
  const Key& key_;
  std::string name_;
  const CheckpointFacts& facts_;
  Explanation out_;
  bool by_user_ = false;
};

Json field(const Json& object, const std::string& name) {
  return object.is_object() && object.contains(name) ? object.at(name) : Json(nullptr);
}

void Explainer::written() {
  const auto origin = slot_origin(entry_, key_);
  if (origin) add(origin->set.empty() ? "yaml" : "command line", slot_value(entry_, key_));
  const auto replaced = config_.replaced.find(name_);
  if (replaced != config_.replaced.end()) add("yaml", replaced->second);
}

// do_sample follows from what the user wrote beside it: temperature 0 is greedy, and beams alone do not
// sample.
void Explainer::implied() {
  if (name_ != "do_sample") return;
  const Generation& g = entry_.generation;
  const auto source = [](const Origin& origin) { return origin.set.empty() ? "yaml" : "command line"; };
  if (g.temperature && g.temperature->value == 0)
    add(source(g.temperature->origin), false);
  else if (!g.do_sample && g.num_beams && g.num_beams->value > 1)
    add(source(g.num_beams->origin), false);
}

// The id of the tokenizer's eos, bos or pad token, by its list of added tokens.
Json Explainer::tokenizer_id() const {
  Json token = field(facts_.tokenizer_config, name_.substr(0, name_.size() - 3));
  if (token.is_object()) token = field(token, "content");
  const Json added = field(facts_.tokenizer_config, "added_tokens_decoder");
  if (!token.is_string() || !added.is_object()) return nullptr;
  for (const auto& [id, row] : added.items()) {
    const bool digits =
        !id.empty() && id.size() < 10 && id.find_first_not_of("0123456789") == std::string::npos;
    if (digits && field(row, "content") == token) return std::stoll(id);
  }
  return nullptr;
}

void Explainer::token_ids() {
  add("generation_config", field(facts_.generation_config, name_));
  add("config", field(facts_.config, name_));
  add("tokenizer", tokenizer_id());
}

void Explainer::checkpoint() {
  if (name_ == "eos_token_id" || name_ == "pad_token_id" || name_ == "bos_token_id") return token_ids();
  if (name_ == "torch_dtype") {
    const Json dtype = field(facts_.config, "dtype");
    return add("config", dtype.is_null() ? field(facts_.config, "torch_dtype") : dtype);
  }
  if (!is_generation()) return;
  add("generation_config", field(facts_.generation_config, name_));
  // Without a generation_config.json transformers takes generation keys from config.json.
  if (facts_.generation_config.is_null()) add("config", field(facts_.config, name_));
}

// Every end-of-sequence id that a source of the checkpoint names (decisions 21), in order of first mention.
Json union_of(const std::vector<Candidate>& candidates) {
  Json ids = Json::array();
  for (const Candidate& c : candidates)
    for (const Json& id : c.value.is_array() ? c.value : Json::array({c.value}))
      if (std::find(ids.begin(), ids.end(), id) == ids.end() && !(id.is_number() && id < 0))
        ids.push_back(id);
  return ids;
}

// Of max_new_tokens and max_length one is in force: max_new_tokens where anybody but the default table says
// it. The name of the other one, where this one is not.
std::optional<std::string> Explainer::other_length() const {
  if (name_ != "max_new_tokens" && name_ != "max_length") return std::nullopt;
  const auto said = [&](const char* key) {
    return Explainer(config_, *find_entry_key(key), facts_).collect().front().source != "default";
  };
  const bool by_new_tokens = said("max_new_tokens") || !said("max_length");
  if (by_new_tokens == (name_ == "max_new_tokens")) return std::nullopt;
  return by_new_tokens ? "max_new_tokens" : "max_length";
}

Json Explainer::default_value() const {
  Json fallback = default_of(key_, transformers());
  if (!fallback.is_null() || name_ != "pad_token_id") return fallback;
  const Json eos = Explainer(config_, *find_entry_key("eos_token_id"), facts_).explain().value;
  return eos.is_array() && !eos.empty() ? eos.front() : eos;
}

const std::vector<Candidate>& Explainer::collect() {
  implied();
  written();
  by_user_ = !out_.candidates.empty();
  checkpoint();
  const Json fallback = default_value();
  // A default of nothing is still the answer where nobody says more.
  if (!fallback.is_null() || out_.candidates.empty()) out_.candidates.push_back({"default", fallback});
  return out_.candidates;
}

Explanation Explainer::explain() {
  collect();
  out_.key = name_;
  out_.value = out_.candidates.front().value;
  out_.source = out_.candidates.front().source;
  if (name_ == "eos_token_id" && !by_user_ && out_.source != "default")
    out_.value = union_of(out_.candidates);
  if (const std::optional<std::string> winner = other_length()) {
    out_.value = nullptr;
    out_.source = Explainer(config_, *find_entry_key(*winner), facts_).collect().front().source;
  }
  return out_;
}

}  // namespace

Explanation explain(const Config& config, const std::string& name, const CheckpointFacts& facts) {
  const Key* key = find_any_key(name);
  if (key == nullptr) {
    const std::string near = nearest(name, entry_key_names());
    throw Error(ErrorKind::usage, "unknown-key", fmt::format("there is no key `{}`", name))
        .saw(name)
        .want(near.empty() ? fmt::format("one of: {}", fmt::join(entry_key_names(), ", ")) : near)
        .hint(near.empty() ? "" : fmt::format("did you mean `{}`?", near));
  }
  return Explainer(config, *key, facts).explain();
}

std::string overruled_by(const Config& config, const std::string& name, const CheckpointFacts& facts) {
  const Key* key = find_any_key(name);
  return key == nullptr ? "" : Explainer(config, *key, facts).other_length().value_or("");
}

std::map<std::string, Explanation> explain_generation(const Config& config, const CheckpointFacts& facts) {
  std::map<std::string, Explanation> all;
  for (const Key& key : generation_keys()) all.emplace(key.name, Explainer(config, key, facts).explain());
  return all;
}

}  // namespace rhapsode::config
