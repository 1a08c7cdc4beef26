// Reads the tokenizer's files of a directory and hands them to the crate. Decides which added tokens and
// flags hold where tokenizer.json, tokenizer_config.json and special_tokens_map.json differ (as transformers
// does); splits no text itself.
#include "text/tokenizer.h"

#include <fmt/format.h>

#include <filesystem>
#include <unordered_set>

#include "base/json.h"
#include "text/ffi.h"
#include "text/tokenizer_class.h"
#include "text/tokenizer_impl.h"

namespace rhapsode::text {

namespace {

constexpr uint64_t kMaxSettingsBytes = 32'000'000;

// What the files beside tokenizer.json say, in the words of the crate's `settings`.
struct Settings {
  Json crate = Json::object();
  std::map<std::string, std::string> named;
};

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// A token is written as a string or as {"content": …}.
std::optional<std::string> content_of(const Json& value, const std::string& file, const std::string& path) {
  if (value.is_null()) return std::nullopt;
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("content") && value["content"].is_string())
    return value["content"].get<std::string>();
  throw Error(ErrorKind::integrity, "bad-tokenizer-config",
              "a token is neither a string nor an object with \"content\"")
      .in(file)
      .at(path)
      .saw(value.dump().substr(0, 200));
}

void name_token(Settings& settings, const std::string& name, const Json& value, const std::string& file) {
  const auto content = content_of(value, file, "/" + name);
  if (!content) return;
  settings.named[name] = *content;
}

// Keys that end in _token and hold a token; the lists of further special tokens.
void take_named(Settings& settings, const Json& config, const std::string& file) {
  static const std::vector<std::string> standard = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                    "pad_token", "cls_token", "mask_token"};
  for (const auto& [key, value] : config.items()) {
    const bool known = std::find(standard.begin(), standard.end(), key) != standard.end();
    const bool token_like = value.is_string() || (value.is_object() && value.contains("content"));
    if (known || (ends_with(key, "_token") && token_like)) name_token(settings, key, value, file);
  }
  const char* extra_key = config.contains("extra_special_tokens") && !config["extra_special_tokens"].empty()
                              ? "extra_special_tokens"
                              : "additional_special_tokens";
  if (!config.contains(extra_key)) return;
  const Json& extra = config[extra_key];
  if (extra.is_object()) {
    for (const auto& [key, value] : extra.items()) name_token(settings, key, value, file);
    return;
  }
  if (extra.is_null()) return;
  if (!extra.is_array())
    throw Error(ErrorKind::integrity, "bad-tokenizer-config", "the further special tokens are no list")
        .in(file)
        .at(fmt::format("/{}", extra_key))
        .saw(extra.dump().substr(0, 200));
  for (const Json& value : extra) {
    const auto content = content_of(value, file, fmt::format("/{}", extra_key));
    if (content) settings.crate["special"].push_back(*content);
  }
}

void take_added(Settings& settings, const Json& decoder, const std::string& file) {
  if (!decoder.is_object())
    throw Error(ErrorKind::integrity, "bad-tokenizer-config", "added_tokens_decoder is no object")
        .in(file)
        .at("/added_tokens_decoder");
  std::map<uint64_t, Json> by_id;
  for (const auto& [key, value] : decoder.items()) {
    const std::string path = "/added_tokens_decoder/" + key;
    const bool number =
        !key.empty() && key.size() <= 9 && key.find_first_not_of("0123456789") == std::string::npos;
    const auto content = content_of(value, file, path);
    if (!number || !content || content->empty())
      throw Error(ErrorKind::integrity, "bad-tokenizer-config", "an added token has no id or no content")
          .in(file)
          .at(path)
          .want("\"id\": {\"content\": \"…\"}");
    by_id[std::stoull(key)] = value.is_object() ? value : Json{{"content", *content}};
  }
  for (const auto& [id, value] : by_id) settings.crate["add"].push_back(value);
}

Json read_settings_file(const std::string& file) {
  const Json json =
      read_json_file(file, ErrorKind::integrity, {.max_bytes = kMaxSettingsBytes, .max_depth = 64});
  if (!json.is_object())
    throw Error(ErrorKind::integrity, "bad-tokenizer-config", "the file holds no object").in(file);
  return json;
}

bool flag(const Json& config, const char* key) {
  return config.value(key, Json()) == Json(true);
}

Settings read_settings(const std::string& directory) {
  Settings settings;
  settings.crate["add"] = Json::array();
  settings.crate["special"] = Json::array();
  const std::string config_file = directory + "/tokenizer_config.json";
  const std::string map_file = directory + "/special_tokens_map.json";
  Json config = Json::object();
  if (std::filesystem::exists(config_file)) config = read_settings_file(config_file);
  take_named(settings, config, config_file);
  if (config.contains("added_tokens_decoder")) {
    take_added(settings, config["added_tokens_decoder"], config_file);
  } else if (std::filesystem::exists(map_file)) {
    take_named(settings, read_settings_file(map_file), map_file);
  }
  for (const auto& [name, content] : settings.named) settings.crate["special"].push_back(content);
  settings.crate["clean_up"] = flag(config, "clean_up_tokenization_spaces");
  return settings;
}

}  // namespace

struct Loader {
  static void fill(Tokenizer::Impl& impl, std::string_view json, const std::string& file, Settings settings) {
    impl.file = file;
    impl.named = std::move(settings.named);
    OwnedBytes error;
    const std::string crate = settings.crate.dump();
    if (rh_tokenizer_load(as_text(json), as_text(crate), &impl.handle, error.out()) != 0)
      throw_described(error.view(), file);
    OwnedBytes facts;
    OwnedBytes failed;
    if (rh_tokenizer_facts(impl.handle, facts.out(), failed.out()) != 0) throw_described(failed.view(), file);
    const Json parsed = Json::parse(facts.view());
    impl.vocab_size = parsed["size"].get<uint64_t>();
    for (const Json& token : parsed["added"])
      if (token["special"].get<bool>()) impl.special_ids.insert(token["id"].get<uint32_t>());
  }
};

Tokenizer::Impl::~Impl() {
  if (handle != nullptr) rh_tokenizer_free(handle);
}

Tokenizer::Tokenizer() : impl_(std::make_unique<Impl>()) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

Tokenizer Tokenizer::load(const std::string& directory) {
  const std::string file = directory + "/tokenizer.json";
  const std::string json = apply_tokenizer_class(directory, read_file(file));
  Tokenizer tokenizer;
  Loader::fill(*tokenizer.impl_, json, file, read_settings(directory));
  return tokenizer;
}

Tokenizer Tokenizer::from_bytes(std::string_view tokenizer_json, const std::string& file) {
  Tokenizer tokenizer;
  Loader::fill(*tokenizer.impl_, tokenizer_json, file, Settings{});
  return tokenizer;
}

Encoding Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  if (!is_utf8(text))
    throw Error(ErrorKind::usage, "not-utf8", "the text is not UTF-8")
        .saw(fmt::format("\"{}\"", excerpt(text)))
        .want("a text in UTF-8");
  OwnedBytes packed;
  OwnedBytes error;
  if (rh_encode(impl_->handle, as_text(text), options.parse_special, options.add_special, packed.out(),
                error.out()) != 0)
    throw_described(error.view(), impl_->file);
  return unpack_encoding(packed.view());
}

std::string Tokenizer::decode(std::span<const uint32_t> ids, bool skip_special) const {
  OwnedBytes text;
  OwnedBytes error;
  if (rh_decode(impl_->handle, ids.data(), ids.size(), skip_special, text.out(), error.out()) != 0)
    throw_described(error.view(), impl_->file);
  return std::string(text.view());
}

uint64_t Tokenizer::vocab_size() const {
  return impl_->vocab_size;
}

std::optional<uint32_t> Tokenizer::id_of(std::string_view token) const {
  uint32_t id = 0;
  if (rh_id_of(impl_->handle, as_text(token), &id) != 0) return std::nullopt;
  return id;
}

std::optional<std::string> Tokenizer::token_of(uint32_t id) const {
  OwnedBytes token;
  if (rh_token_of(impl_->handle, id, token.out()) != 0) return std::nullopt;
  return std::string(token.view());
}

bool Tokenizer::is_special(uint32_t id) const {
  return impl_->special_ids.contains(id);
}

std::optional<std::string> Tokenizer::named_token(const std::string& name) const {
  const auto found = impl_->named.find(name);
  if (found == impl_->named.end()) return std::nullopt;
  return found->second;
}

std::optional<uint32_t> Tokenizer::named_token_id(const std::string& name) const {
  const auto token = named_token(name);
  return token ? id_of(*token) : std::nullopt;
}

}  // namespace rhapsode::text
