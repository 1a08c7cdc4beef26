// Owns the walk over a model entry's keys: unknown ones, synonyms, the switches of quantization. Refuses to
// know what values mean together.
#include "config/entry.h"

#include <fmt/format.h>

#include <algorithm>

#include "config/nearest.h"
#include "config/values.h"

namespace rhapsode::config {
namespace {

ModelEntry& owner(ModelEntry& entry, ModelEntry*) {
  return entry;
}
Generation& owner(ModelEntry& entry, Generation*) {
  return entry.generation;
}
QuantizationConfig& owner(ModelEntry& entry, QuantizationConfig*) {
  return entry.quantization_config;
}

bool is_null(const Node& node) {
  return node.is_scalar() && resolve(node).kind == Scalar::Kind::null;
}

class EntryReader {
 public:
  EntryReader(ReadEntry& read, Report& report) : read_(read), report_(report) {}

  void mapping(const Node& node, std::span<const Key> keys, const std::string& prefix);
  void value(const Key& key, const Node& node, const std::string& path);

 private:
  // null leaves a key as if it were not written; only for quantization is it a value.
  template <typename T>
  void fill(Maybe<T>& slot, const Key& key, const Node& node, const std::string& path) {
    if (is_null(node) && !std::is_same_v<T, Quantization>) return;
    if (std::is_same_v<T, Dtype> && node.text == "auto" && key.choices.ends_with("auto")) return;
    Value<T> value{{}, report_.origin(node.place)};
    if (ValueReader(report_, key, path).read(node, value.value)) slot = std::move(value);
  }
  void fill(Value<std::string>& slot, const Key& key, const Node& node, const std::string& path) {
    slot.origin = report_.origin(node.place);
    ValueReader(report_, key, path).read(node, slot.value);
  }
  void fill(MaxMemory& slot, const Key& key, const Node& node, const std::string& path) {
    if (is_null(node)) return;
    slot.clear();
    ValueReader(report_, key, path).read(node, slot);
  }
  void fill(QuantizationConfig&, const Key& key, const Node& node, const std::string& path) {
    if (is_null(node)) return;
    if (node.is_mapping()) return mapping(node, quantization_keys(), std::string(key.name) + ".");
    Finding& f = report_.error("wrong-type", node.place, path, "`quantization_config` must be a mapping");
    f.found = describe(node);
    f.expected = "a mapping such as {bnb_4bit_quant_type: \"nf4\"}";
    f.fix = "quantization: \"4bit\" alone needs no quantization_config";
  }
  void synonym(const Key& key, const Node& name, const Node& node);
  std::string hint_for(const std::string& name, bool nested) const;

  ReadEntry& read_;
  Report& report_;
};

std::string EntryReader::hint_for(const std::string& name, bool nested) const {
  if (!nested && find_key(quantization_keys(), name) != nullptr)
    return "it belongs under quantization_config";
  if (nested && find_entry_key(name) != nullptr)
    return "it belongs in the model entry, beside quantization_config";
  if (name == "loading" || name == "generation" || name == "generation_config")
    return "loading and generation keys stand directly in the model entry";
  return "";
}

void EntryReader::value(const Key& key, const Node& node, const std::string& path) {
  std::visit(
      [&]<typename Owner, typename T>(T Owner::*member) {
        fill(owner(read_.entry, static_cast<Owner*>(nullptr)).*member, key, node, path);
      },
      key.slot);
}

// The second spelling of a setting: harmless where both say the same.
void EntryReader::synonym(const Key& key, const Node& name, const Node& node) {
  const Json first = slot_value(read_.entry, key);
  const uint64_t errors = report_.errors();
  ReadEntry other;
  other.path = read_.path;
  EntryReader(other, report_).value(key, node, read_.path + "." + name.text);
  if (report_.errors() != errors || first == slot_value(other.entry, key)) return;
  const Place& earlier = read_.keys.at(std::string(key.name));
  const Place place = before(earlier, name.place) ? name.place : earlier;
  Finding& f = report_.error(
      "synonyms-differ", place, read_.path + "." + name.text,
      fmt::format("`{}` and `{}` are one setting and say different things", key.name, key.alias));
  f.found = fmt::format("{} and {}", first.dump(), slot_value(other.entry, key).dump());
  f.expected = "one of them, or the same value";
  f.fix = fmt::format("keep `{}`", key.name);
}

void EntryReader::mapping(const Node& node, std::span<const Key> keys, const std::string& prefix) {
  const bool nested = !prefix.empty();
  for (const auto& [name, value_node] : node.members) {
    const Key* key = nested ? find_key(keys, name->text) : find_entry_key(name->text);
    const std::string path = read_.path + "." + prefix + name->text;
    if (key == nullptr) {
      report_unknown_key(*name, path, nested ? names_of(keys) : entry_key_names(),
                         hint_for(name->text, nested), report_);
      continue;
    }
    const std::string full = prefix + std::string(key->name);
    if (read_.keys.contains(full)) {
      synonym(*key, *name, *value_node);
      continue;
    }
    read_.keys[full] = name->place;
    read_.values[full] = value_node->place;
    value(*key, *value_node, path);
  }
}

// One statement about quantization: a key and what it says of the two switches.
struct Claim {
  std::string key;
  std::optional<bool> eight, four;
  Origin origin;
};

std::vector<Claim> claims_of(const ReadEntry& read) {
  const ModelEntry& entry = read.entry;
  std::vector<Claim> claims;
  if (entry.quantization) {
    const Quantization q = entry.quantization->value;
    claims.push_back(
        {"quantization", q == Quantization::int8, q == Quantization::nf4, entry.quantization->origin});
  }
  const auto add = [&](const Maybe<bool>& given, const char* key, bool eight) {
    if (!given) return;
    const std::optional<bool> other = given->value ? std::optional(false) : std::nullopt;
    claims.push_back({key, eight ? given->value : other, eight ? other : given->value, given->origin});
  };
  add(entry.load_in_8bit, "load_in_8bit", true);
  add(entry.load_in_4bit, "load_in_4bit", false);
  add(entry.quantization_config.load_in_8bit, "quantization_config.load_in_8bit", true);
  add(entry.quantization_config.load_in_4bit, "quantization_config.load_in_4bit", false);
  std::stable_sort(claims.begin(), claims.end(), [&](const Claim& a, const Claim& b) {
    return before(read.keys.at(a.key), read.keys.at(b.key));
  });
  return claims;
}

// As the YAML has it: `quantization: "8bit"`.
std::string said(const ModelEntry& entry, const std::string& key) {
  return fmt::format("{}: {}", key, slot_value(entry, *find_any_key(key)).dump());
}

// All switches must agree (decisions 25); the entry then carries one answer.
void resolve_quantization(ReadEntry& read, Report& report) {
  std::optional<bool> eight, four;
  const Claim* said_eight = nullptr;
  const Claim* said_four = nullptr;
  Maybe<Quantization> result;
  const std::vector<Claim> claims = claims_of(read);
  for (const Claim& claim : claims) {
    const Claim* against = nullptr;
    if (eight && claim.eight && *eight != *claim.eight) against = said_eight;
    if (four && claim.four && *four != *claim.four) against = said_four;
    if (against != nullptr) {
      Finding& f = report.error("quantization-conflict", read.keys.at(claim.key), read.path + "." + claim.key,
                                fmt::format("`{}` contradicts `{}`", claim.key, against->key));
      f.found = fmt::format("{} beside {}", said(read.entry, claim.key), said(read.entry, against->key));
      f.expected = "one of them, or two that agree";
      f.why = "they are switches of the same thing, and nothing says which one is meant";
      f.fix = "keep `quantization` and remove the others";
      return;
    }
    if (claim.eight && !eight) eight = claim.eight, said_eight = &claim;
    if (claim.four && !four) four = claim.four, said_four = &claim;
    if (claim.eight == true) result = {Quantization::int8, claim.origin};
    if (claim.four == true) result = {Quantization::nf4, claim.origin};
    if (!result || result->value == Quantization::none)
      if (claim.key == "quantization") result = {Quantization::none, claim.origin};
  }
  const auto& type = read.entry.quantization_config.bnb_4bit_quant_type;
  if (result && result->value == Quantization::nf4 && type && type->value == "fp4")
    result->value = Quantization::fp4;
  read.entry.quantization = result;
}

}  // namespace

void report_unknown_key(const Node& key, const std::string& path, const std::vector<std::string>& known,
                        const std::string& hint, Report& report) {
  const std::string near = nearest(key.text, known);
  Finding& f =
      report.error("unknown-key", key.place, path, fmt::format("there is no key `{}` here", key.text));
  f.found = key.text;
  f.expected = near.empty() ? fmt::format("one of: {}", fmt::join(known, ", ")) : near;
  f.why = "a key that nobody reads would be a setting that silently does nothing";
  f.fix = !hint.empty() ? hint : near.empty() ? "remove it" : fmt::format("did you mean `{}`?", near);
}

void read_key(std::string_view name, const Node& value, ReadEntry& into, Report& report) {
  if (const Key* key = find_entry_key(name)) EntryReader(into, report).value(*key, value, std::string(name));
}

ReadEntry read_entry(const Node& name, const Node& node, Report& report) {
  ReadEntry read;
  read.entry.name = name.text;
  read.entry.origin = report.origin(name.place);
  read.path = "generator.models." + name.text;
  read.mapping = node.place;
  if (!node.is_mapping()) {
    Finding& f = report.error("wrong-type", node.place, read.path, "a model entry must be a mapping of keys");
    f.found = describe(node);
    f.expected = "a mapping with model_id and the other keys of a model";
    f.fix = "indent the keys of the model below its name";
    return read;
  }
  EntryReader(read, report).mapping(node, {}, "");
  const auto meant = [](const auto& m) {
    return find_entry_key(m.first->text) == nullptr &&
           nearest(m.first->text, entry_key_names()) == "model_id";
  };
  if (!read.given("model_id") && std::none_of(node.members.begin(), node.members.end(), meant)) {
    Finding& f = report.error("missing-key", node.place, read.path, "this model entry has no `model_id`");
    f.expected = "model_id";
    f.fix = "add model_id: \"org/name\" or the path of a checkpoint";
  }
  resolve_quantization(read, report);
  return read;
}

}  // namespace rhapsode::config
