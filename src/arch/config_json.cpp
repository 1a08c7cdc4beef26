#include "arch/config_json.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"

namespace rhapsode::arch {
namespace {

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

}  // namespace

ConfigJson::ConfigJson(Json json, std::string file) : json_(std::move(json)), file_(std::move(file)) {
  if (json_.is_object()) return;
  throw Error(ErrorKind::integrity, "bad-config", "config.json is not a JSON object")
      .in(file_)
      .saw(json_.type_name())
      .want("an object");
}

bool ConfigJson::present(const char* key) const {
  return json_.contains(key);
}
bool ConfigJson::has(const char* key) const {
  return json_.contains(key) && !json_.at(key).is_null();
}

void ConfigJson::fail(const char* key, const std::string& found, const std::string& expected) const {
  throw Error(ErrorKind::integrity, "bad-config-value",
              fmt::format("'{}' has a value that no model can have", key))
      .in(file_)
      .at(prefix_ + "/" + key)
      .saw(found)
      .want(expected)
      .hint("the file is damaged or was edited: fetch it again");
}

void ConfigJson::unsupported(const char* key, const std::string& found, const std::string& accepted) const {
  throw Error(ErrorKind::unsupported, "unsupported-config",
              fmt::format("'{}' asks for what is not implemented", key))
      .in(file_)
      .at(prefix_ + "/" + key)
      .saw(found)
      .want(accepted)
      .hint(
          "choose another model or revision; trust_remote_code changes nothing, code of a repository is "
          "never "
          "run");
}

const Json& ConfigJson::need(const char* key) const {
  if (!has(key)) fail(key, present(key) ? "null" : "no such key", "a value");
  return json_.at(key);
}

uint64_t ConfigJson::count(const char* key, uint64_t high) const {
  const Json& value = need(key);
  const std::string expected = fmt::format("an integer from 1 to {}", high);
  if (!value.is_number_unsigned()) fail(key, shown(value), expected);
  const uint64_t n = value.get<uint64_t>();
  if (n < 1 || n > high) fail(key, shown(value), expected);
  return n;
}

uint64_t ConfigJson::whole_or(const char* key, uint64_t high, uint64_t fallback) const {
  const bool zero = has(key) && json_.at(key).is_number_unsigned() && json_.at(key).get<uint64_t>() == 0;
  return zero ? 0 : count_or(key, high, fallback);
}

uint64_t ConfigJson::count_or(const char* key, uint64_t high, uint64_t fallback) const {
  return has(key) ? count(key, high) : fallback;
}

double ConfigJson::number(const char* key, double low, double high) const {
  const Json& value = need(key);
  const std::string expected = fmt::format("a number from {} to {}", low, high);
  if (!value.is_number()) fail(key, shown(value), expected);
  const double x = value.get<double>();
  if (!std::isfinite(x) || x < low || x > high) fail(key, shown(value), expected);
  return x;
}

double ConfigJson::number_or(const char* key, double low, double high, double fallback) const {
  return has(key) ? number(key, low, high) : fallback;
}

bool ConfigJson::boolean_or(const char* key, bool fallback) const {
  if (!has(key)) return fallback;
  if (!json_.at(key).is_boolean()) fail(key, shown(json_.at(key)), "true or false");
  return json_.at(key).get<bool>();
}

std::string ConfigJson::text(const char* key) const {
  const Json& value = need(key);
  if (!value.is_string()) fail(key, shown(value), "a string");
  return value.get<std::string>();
}

std::string ConfigJson::text_or(const char* key, const std::string& fallback) const {
  return has(key) ? text(key) : fallback;
}

std::vector<double> ConfigJson::numbers(const char* key, size_t length) const {
  const Json& value = need(key);
  const std::string expected = fmt::format("a list of {} positive numbers", length);
  if (!value.is_array() || value.size() != length) fail(key, shown(value), expected);
  std::vector<double> out;
  for (const Json& item : value) {
    if (!item.is_number() || !std::isfinite(item.get<double>()) || item.get<double>() <= 0)
      fail(key, shown(item), expected);
    out.push_back(item.get<double>());
  }
  return out;
}

std::vector<uint64_t> ConfigJson::counts(const char* key, size_t length) const {
  const Json& value = need(key);
  const std::string expected = fmt::format("a list of {} integers", length);
  if (!value.is_array() || value.size() != length) fail(key, shown(value), expected);
  std::vector<uint64_t> out;
  for (const Json& item : value) {
    if (!item.is_number_unsigned()) fail(key, shown(item), expected);
    out.push_back(item.get<uint64_t>());
  }
  return out;
}

std::vector<std::string> ConfigJson::texts(const char* key) const {
  std::vector<std::string> out;
  if (!has(key)) return out;
  if (!json_.at(key).is_array()) fail(key, shown(json_.at(key)), "a list of strings");
  for (const Json& item : json_.at(key)) {
    if (!item.is_string()) fail(key, shown(item), "a list of strings");
    out.push_back(item.get<std::string>());
  }
  return out;
}

std::vector<int64_t> ConfigJson::ids(const char* key) const {
  if (!has(key)) return {};
  const Json& value = json_.at(key);
  const char* expected = "a token id or a list of at most 1024 token ids";
  if (value.is_number_integer()) return {value.get<int64_t>()};
  if (!value.is_array() || value.size() > 1024) fail(key, shown(value), expected);
  std::vector<int64_t> out;
  for (const Json& item : value) {
    if (!item.is_number_integer()) fail(key, shown(item), expected);
    out.push_back(item.get<int64_t>());
  }
  return out;
}

std::optional<int64_t> ConfigJson::id(const char* key) const {
  if (!has(key)) return std::nullopt;
  if (!json_.at(key).is_number_integer()) fail(key, shown(json_.at(key)), "a token id");
  return json_.at(key).get<int64_t>();
}

std::optional<ConfigJson> ConfigJson::object(const char* key) const {
  if (!has(key)) return std::nullopt;
  if (!json_.at(key).is_object()) fail(key, shown(json_.at(key)), "an object");
  ConfigJson inner(json_.at(key), file_);
  inner.prefix_ = prefix_ + "/" + key;
  return inner;
}

ActivationKind read_activation(const ConfigJson& config, const char* key) {
  const std::string name = config.text(key);
  if (name == "silu" || name == "swish") return ActivationKind::silu;
  // Spellings of one formula.
  for (const char* tanh : {"gelu_pytorch_tanh", "gelu_fast", "gelu_python_tanh", "gelu_accurate"})
    if (name == tanh) return ActivationKind::gelu_tanh;
  if (name == "gelu_new") return ActivationKind::gelu_new;
  if (name == "gelu" || name == "gelu_python") return ActivationKind::gelu_erf;
  if (name == "relu2") return ActivationKind::relu2;
  if (name == "relu") return ActivationKind::relu;
  config.unsupported(key, "\"" + name + "\"",
                     "silu, gelu, gelu_new, gelu_pytorch_tanh, relu, relu2, or another spelling of these");
}

Spec read_shape(const ConfigJson& config, std::optional<uint64_t> head_dim) {
  Spec spec;
  spec.model_type = config.text("model_type");
  const std::vector<std::string> classes = config.texts("architectures");
  spec.architecture = classes.empty() ? spec.model_type : classes.front();
  spec.hidden_size = config.count("hidden_size", 1 << 20);
  spec.num_hidden_layers = config.count("num_hidden_layers", 4096);
  spec.num_attention_heads = config.count("num_attention_heads", 1 << 16);
  spec.num_key_value_heads = config.count_or("num_key_value_heads", 1 << 16, spec.num_attention_heads);
  spec.vocab_size = config.count("vocab_size", 1 << 26);
  spec.max_position_embeddings = config.count_or("max_position_embeddings", uint64_t{1} << 31, 2048);
  if (spec.num_attention_heads % spec.num_key_value_heads != 0)
    config.fail("num_key_value_heads", std::to_string(spec.num_key_value_heads),
                fmt::format("a divisor of num_attention_heads ({})", spec.num_attention_heads));
  if (config.has("head_dim")) {
    spec.head_dim = config.count("head_dim", 1 << 12);
  } else if (head_dim) {
    spec.head_dim = *head_dim;
  } else {
    if (spec.hidden_size % spec.num_attention_heads != 0)
      config.fail(
          "hidden_size", std::to_string(spec.hidden_size),
          fmt::format("a multiple of num_attention_heads ({}), or a head_dim", spec.num_attention_heads));
    spec.head_dim = spec.hidden_size / spec.num_attention_heads;
  }
  spec.attention_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec.head_dim)));
  spec.layers.assign(spec.num_hidden_layers, LayerSpec{});
  spec.eos_token_id = config.ids("eos_token_id");
  spec.bos_token_id = config.id("bos_token_id");
  spec.pad_token_id = config.id("pad_token_id");
  const char* dtype_key = config.has("dtype") ? "dtype" : "torch_dtype";
  if (config.has(dtype_key) && config.text(dtype_key) != "auto") {
    spec.dtype = dtype_from_torch_name(config.text(dtype_key));
    if (!spec.dtype) config.unsupported(dtype_key, config.text(dtype_key), "float32, float16, bfloat16");
  }
  if (config.has("auto_map"))
    spec.notes.push_back(
        "auto_map names repository code; it is never executed, the native implementation is used");
  return spec;
}

}  // namespace rhapsode::arch
