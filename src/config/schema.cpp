// The JSON Schema and the Markdown reference, both written from the table. Refuses to state anything that the
// table does not hold.
#include <fmt/format.h>

#include "config/table.h"

namespace rhapsode::config {
namespace {

using Schema = OrderedJson;

Schema whole(const Range& range) {
  Schema s{{"type", "integer"}};
  if (range.min) s["minimum"] = static_cast<int64_t>(*range.min);
  if (range.max) s["maximum"] = static_cast<int64_t>(*range.max);
  return s;
}

Schema list_of(Schema items) {
  return {{"type", "array"}, {"items", std::move(items)}, {"minItems", 1}};
}
Schema either(Schema a, Schema b) {
  return {{"anyOf", Schema::array({std::move(a), std::move(b)})}};
}

Schema size() {
  return either(
      {{"type", "integer"}, {"minimum", 0}},
      {{"type", "string"},
       {"pattern", "^\\+?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][-+]?[0-9]+)?[ \\t]*[GMKgmk][Ii]?[Bb]$"}});
}

Schema device() {
  return either({{"type", "integer"}, {"minimum", 0}},
                {{"type", "string"}, {"pattern", "^(cpu|disk|cuda|(cuda:)?(0|[1-9][0-9]*))$"}});
}

Schema type_of(const Key&, const bool*) {
  return {{"type", "boolean"}};
}
Schema type_of(const Key& key, const int64_t*) {
  return whole(key.range);
}
Schema type_of(const Key&, const uint64_t*) {
  return size();
}
Schema type_of(const Key& key, const double*) {
  Schema s{{"type", "number"}};
  if (key.range.min) s[key.range.above_min ? "exclusiveMinimum" : "minimum"] = *key.range.min;
  if (key.range.max) s[key.range.below_max ? "exclusiveMaximum" : "maximum"] = *key.range.max;
  return s;
}
Schema type_of(const Key& key, const std::string*) {
  if (!key.choices.empty()) return {{"enum", words_of(key.choices)}};
  Schema s{{"type", "string"}};
  if (key.required) s["minLength"] = 1;
  return s;
}
Schema type_of(const Key& key, const Dtype*) {
  return {{"enum", words_of(key.choices)}};
}
Schema type_of(const Key& key, const Quantization*) {
  return {{"enum", words_of(key.choices)}};
}
Schema type_of(const Key&, const EarlyStopping*) {
  return {{"enum", Schema::array({true, false, "never"})}};
}
Schema type_of(const Key&, const DeviceMap*) {
  Schema map{{"type", "object"}, {"minProperties", 1}, {"additionalProperties", device()}};
  Schema any{{"anyOf", Schema::array()}};
  any["anyOf"].push_back({{"enum", Schema::array({"auto", "balanced", "balanced_low_0", "sequential"})}});
  any["anyOf"].push_back(device());
  any["anyOf"].push_back(std::move(map));
  return any;
}
Schema type_of(const Key&, const MaxMemory*) {
  return {{"type", "object"},
          {"minProperties", 1},
          {"patternProperties", {{"^(cpu|disk|cuda|(cuda:)?(0|[1-9][0-9]*))$", size()}}},
          {"additionalProperties", false}};
}
Schema type_of(const Key& key, const Ids*) {
  return key.one_or_list ? either(whole(key.range), list_of(whole(key.range))) : list_of(whole(key.range));
}
Schema type_of(const Key& key, const Texts*) {
  const Schema text{{"type", "string"}, {"minLength", 1}};
  return key.one_or_list ? either(text, list_of(text)) : list_of(text);
}
Schema type_of(const Key& key, const IdLists*) {
  return list_of(list_of(whole(key.range)));
}
Schema pair_of(Schema a, Schema b) {
  return {{"type", "array"},
          {"prefixItems", Schema::array({std::move(a), std::move(b)})},
          {"minItems", 2},
          {"maxItems", 2}};
}
Schema type_of(const Key& key, const SequenceBias*) {
  return list_of(pair_of(list_of(whole(key.range)), {{"type", "number"}}));
}
Schema type_of(const Key&, const LengthDecay*) {
  return pair_of({{"type", "integer"}, {"minimum", 0}}, {{"type", "number"}});
}
Schema mapping_of(std::span<const Key> keys);
Schema type_of(const Key&, const QuantizationConfig*) {
  return mapping_of(quantization_keys());
}

template <typename Owner, typename T>
Schema slot_type(const Key& key, Maybe<T> Owner::*) {
  return type_of(key, static_cast<const T*>(nullptr));
}
Schema slot_type(const Key& key, Value<std::string> ModelEntry::*) {
  return type_of(key, static_cast<const std::string*>(nullptr));
}
Schema slot_type(const Key& key, MaxMemory ModelEntry::*) {
  return type_of(key, static_cast<const MaxMemory*>(nullptr));
}
Schema slot_type(const Key& key, QuantizationConfig ModelEntry::*) {
  return type_of(key, static_cast<const QuantizationConfig*>(nullptr));
}

Schema property(const Key& key) {
  Schema type = std::visit([&](auto member) { return slot_type(key, member); }, key.slot);
  // null leaves a key out, so it is allowed wherever the key may be absent.
  Schema s = key.required ? std::move(type) : either(std::move(type), {{"type", "null"}});
  s["description"] = std::string(key.effect);
  if (const Json fallback = default_of(key, false); !fallback.is_null()) s["default"] = fallback;
  return s;
}

Schema mapping_of(std::span<const Key> keys) {
  Schema properties = Schema::object();
  for (const Key& key : keys) {
    properties[std::string(key.name)] = property(key);
    if (!key.alias.empty()) properties[std::string(key.alias)] = property(key);
  }
  return {{"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
}

Schema model_entry() {
  Schema entry = mapping_of(loading_keys());
  const Schema generation = mapping_of(generation_keys());
  for (const auto& [name, schema] : generation["properties"].items()) entry["properties"][name] = schema;
  entry["required"] = Schema::array();
  for (const Key& key : loading_keys())
    if (key.required) entry["required"].push_back(std::string(key.name));
  return entry;
}

// Accepted values in words, for the reference.
std::string words_for(const Schema& s) {
  if (s.contains("anyOf")) {
    std::vector<std::string> parts;
    for (const Schema& option : s["anyOf"])
      if (option != Schema{{"type", "null"}}) parts.push_back(words_for(option));
    return fmt::format("{}", fmt::join(parts, " or "));
  }
  if (s.contains("enum")) {
    std::vector<std::string> parts;
    for (const Schema& value : s["enum"])
      parts.push_back(fmt::format("`{}`", value.is_string() ? value.get<std::string>() : value.dump()));
    return fmt::format("{}", fmt::join(parts, ", "));
  }
  const std::string type = s.at("type").get<std::string>();
  if (type == "array" && s.contains("items")) return "list of " + words_for(s["items"]);
  if (type == "array")
    return fmt::format("[{}, {}]", words_for(s["prefixItems"][0]), words_for(s["prefixItems"][1]));
  if (type == "object") return "mapping";
  if (type == "boolean") return "`true`, `false`";
  if (type == "string") return "text";
  return type;
}

std::string cell(std::string text) {
  for (size_t at = text.find('|'); at != std::string::npos; at = text.find('|', at + 2))
    text.insert(at, "\\");
  return text;
}

std::string row(const Key& key) {
  const Schema type = std::visit([&](auto member) { return slot_type(key, member); }, key.slot);
  std::string accepts = words_for(type);
  if (key.range.min || key.range.max) accepts += ", " + key.range.to_text();
  if (!key.unit.empty()) accepts += fmt::format(" ({})", key.unit);
  const auto shown = [&](bool transformers) {
    const Json value = default_of(key, transformers);
    return value.is_null() ? std::string("—") : "`" + value.dump() + "`";
  };
  const std::string name =
      key.alias.empty() ? fmt::format("`{}`", key.name) : fmt::format("`{}`, `{}`", key.name, key.alias);
  return fmt::format("| {} | {} | {} | {} | {} | {} |\n", name, cell(accepts), shown(false), shown(true),
                     cell(std::string(key.effect)), key.section);
}

std::string table_of(std::span<const Key> keys) {
  std::string text =
      "| key | accepts | default | with `defaults: transformers` | effect | in the guide |\n"
      "|---|---|---|---|---|---|\n";
  for (const Key& key : keys) text += row(key);
  return text + "\n";
}

}  // namespace

OrderedJson json_schema() {
  Schema generator{{"type", "object"}};
  generator["properties"]["active_model"] = {{"type", "string"},
                                             {"description", "Name of the entry of models to use."}};
  generator["properties"]["models"] = {
      {"type", "object"}, {"minProperties", 1}, {"additionalProperties", model_entry()}};
  generator["required"] = {"active_model", "models"};
  generator["additionalProperties"] = false;
  Schema root{{"$schema", "https://json-schema.org/draft/2020-12/schema"},
              {"title", "Rhapsode configuration"},
              {"type", "object"}};
  root["properties"]["generator"] = std::move(generator);
  root["required"] = Schema::array({"generator"});
  root["additionalProperties"] = false;
  return root;
}

std::string reference_markdown() {
  std::string text = R"(# Configuration reference

Every key of the YAML, written from the table that validates it (`src/config/table.cpp`); a test compares this page with
it. The machine-readable form is [config.schema.json](config.schema.json).

```yaml
generator:
  active_model: "name"
  models:
    name:
      type: "huggingface"
      model_id: "org/model-name"
      # loading and generation keys, side by side
```

- Any key that is not listed here is an error, at every level: a setting that nobody reads would silently do nothing.
  This holds for the top level too, so sections of other tools live in files of their own.
- `null` leaves a key out, as if it were not written (for `quantization` it says: none). A key with nothing after the
  colon is an error.
- Values are typed by YAML 1.2. Where YAML 1.1 (PyYAML) would read the same text differently (`no`, `on`, `012`, `0x10`,
  `1_000`, dates), the file is refused with the way to write it. Booleans are `true` and `false`; floats may be written
  as `1` or `1e-3`.
- A default holds where neither the command line (`--set`), nor the YAML, nor the checkpoint's generation_config.json
  gives a value. `check --explain KEY` prints which source won. `—`: there is none, and the effect says what absence means.
- Sizes: `"3.8GB"` is 3.8 · 10^9 bytes, `"3.8GiB"` 3.8 · 2^30; MB, MiB, KB and KiB likewise. `"3.8Gb"` is read as bits,
  as accelerate does, and reported. A plain integer is bytes.
- `--set path=value` replaces a value before validation: `--set temperature=0.2`, `--set max_memory.cpu=20GB`,
  `--set /generator/active_model=other`. Where a path has a slash, slashes separate (`~1` is a slash in a name).
- Limits of the file: 1 MiB, 64 levels, 10,000 keys and values with aliases expanded, UTF-8, one document, no tags.
  Anchors, aliases and merge keys (`<<`) work.

)";
  text += "## Loading\n\n" + table_of(loading_keys());
  text += "## quantization_config\n\n" + table_of(quantization_keys());
  text += "## Generation\n\n" + table_of(generation_keys());
  return text;
}

}  // namespace rhapsode::config
