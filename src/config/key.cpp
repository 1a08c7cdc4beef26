// Owns look-ups in the table and the way from a slot to JSON. Refuses to know single keys.
#include <fmt/format.h>

#include "config/locate.h"
#include "config/table.h"

namespace rhapsode::config {
namespace {

const ModelEntry& owner(const ModelEntry& entry, const ModelEntry*) {
  return entry;
}
const Generation& owner(const ModelEntry& entry, const Generation*) {
  return entry.generation;
}
const QuantizationConfig& owner(const ModelEntry& entry, const QuantizationConfig*) {
  return entry.quantization_config;
}

template <typename T>
Json to_json(const T& value) {
  return value;
}
Json to_json(const Dtype& dtype) {
  return std::string(torch_name(dtype));
}
Json to_json(const EarlyStopping& mode) {
  return mode == EarlyStopping::never ? Json("never") : Json(mode == EarlyStopping::yes);
}
Json to_json(const DeviceName& device) {
  return device.kind == DeviceName::Kind::gpu ? Json(device.index) : Json(device.to_text());
}
Json to_json(const Quantization& q) {
  if (q == Quantization::none) return nullptr;
  return q == Quantization::int8 ? "8bit" : "4bit";
}
Json to_json(const DeviceMap& map) {
  if (const auto* strategy = std::get_if<Strategy>(&map)) {
    constexpr std::string_view kNames[] = {"auto", "balanced", "balanced_low_0", "sequential"};
    return std::string(kNames[static_cast<size_t>(*strategy)]);
  }
  if (const auto* device = std::get_if<DeviceName>(&map)) return to_json(*device);
  Json object = Json::object();
  for (const auto& [prefix, device] : std::get<2>(map)) object[prefix] = to_json(device);
  return object;
}

template <typename T>
Json held(const Maybe<T>& slot) {
  return slot ? to_json(slot->value) : Json(nullptr);
}
Json held(const Value<std::string>& slot) {
  return slot.value;
}
Json held(const MaxMemory& slot) {
  if (slot.empty()) return nullptr;
  Json object = Json::object();
  for (const auto& [device, bytes] : slot) object[device.to_text()] = bytes.value;
  return object;
}

template <typename T>
std::optional<Origin> origin_of(const Maybe<T>& slot) {
  if (!slot) return std::nullopt;
  return slot->origin;
}
std::optional<Origin> origin_of(const Value<std::string>& slot) {
  return slot.origin;
}
std::optional<Origin> origin_of(const MaxMemory& slot) {
  if (slot.empty()) return std::nullopt;
  return slot.front().second.origin;
}
std::optional<Origin> origin_of(const QuantizationConfig& slot) {
  std::optional<Origin> first;
  ModelEntry entry;
  entry.quantization_config = slot;
  for (const Key& key : quantization_keys())
    if (!first) first = slot_origin(entry, key);
  return first;
}
Json held(const QuantizationConfig& slot) {
  ModelEntry entry;
  entry.quantization_config = slot;
  Json object = Json::object();
  for (const Key& key : quantization_keys())
    if (Json value = slot_value(entry, key); !value.is_null()) object[std::string(key.name)] = value;
  return object.empty() ? Json(nullptr) : object;
}

template <typename Owner, typename T>
const T& member_of(const ModelEntry& entry, T Owner::*member) {
  return owner(entry, static_cast<const Owner*>(nullptr)).*member;
}

std::string bound_text(double x) {
  return fmt::format("{}", x);
}

}  // namespace

Json slot_value(const ModelEntry& entry, const Key& key) {
  return std::visit([&](auto member) { return held(member_of(entry, member)); }, key.slot);
}

std::optional<Origin> slot_origin(const ModelEntry& entry, const Key& key) {
  return std::visit([&](auto member) { return origin_of(member_of(entry, member)); }, key.slot);
}

bool locate(Error& error, const ModelEntry& entry) {
  const Key* key =
      error.kind == ErrorKind::config && error.file.empty() ? find_entry_key(error.path) : nullptr;
  const auto origin = key != nullptr ? slot_origin(entry, *key) : std::nullopt;
  if (!origin) return false;
  error.in(origin->file, origin->line, origin->column)
      .at("generator.models." + entry.name + "." + error.path);
  if (!origin->set.empty()) error.message = "--set " + excerpt(origin->set) + ": " + error.message;
  return true;
}

Json default_of(const Key& key, bool transformers) {
  const std::string_view text = transformers ? key.transformers_default : key.guide_default;
  return text.empty() ? Json(nullptr) : Json::parse(text);
}

bool Range::holds(double x) const {
  if (min && (above_min ? !(x > *min) : !(x >= *min))) return false;
  if (max && (below_max ? !(x < *max) : !(x <= *max))) return false;
  return true;
}

std::string Range::to_text() const {
  if (!min && !max) return "any number";
  std::string text;
  if (min) text = (above_min ? "above " : "at least ") + bound_text(*min);
  if (max)
    text += std::string(text.empty() ? "" : " and ") + (below_max ? "below " : "at most ") + bound_text(*max);
  return text;
}

const Key* find_key(std::span<const Key> keys, std::string_view name) {
  if (name.empty()) return nullptr;
  for (const Key& key : keys)
    if (key.name == name || key.alias == name) return &key;
  return nullptr;
}

const Key* find_entry_key(std::string_view name) {
  const Key* key = find_key(loading_keys(), name);
  return key != nullptr ? key : find_key(generation_keys(), name);
}

const Key* find_any_key(std::string_view name) {
  constexpr std::string_view kPrefix = "quantization_config.";
  if (name.starts_with(kPrefix)) return find_key(quantization_keys(), name.substr(kPrefix.size()));
  const Key* key = find_entry_key(name);
  return key != nullptr ? key : find_key(quantization_keys(), name);
}

std::vector<std::string> names_of(std::span<const Key> keys) {
  std::vector<std::string> names;
  for (const Key& key : keys) {
    names.emplace_back(key.name);
    if (!key.alias.empty()) names.emplace_back(key.alias);
  }
  return names;
}

std::vector<std::string> entry_key_names() {
  std::vector<std::string> names = names_of(loading_keys());
  for (std::string& name : names_of(generation_keys())) names.push_back(std::move(name));
  return names;
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (size_t begin = text.find_first_not_of(' '); begin != std::string_view::npos;) {
    const size_t end = text.find(' ', begin);
    words.emplace_back(text.substr(begin, end == std::string_view::npos ? end : end - begin));
    begin = end == std::string_view::npos ? end : text.find_first_not_of(' ', end);
  }
  return words;
}

}  // namespace rhapsode::config
