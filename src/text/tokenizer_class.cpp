// See tokenizer_class.h.
#include "text/tokenizer_class.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/json.h"

namespace rhapsode::text {
namespace {

constexpr uint64_t kMaxSettingsBytes = 32'000'000;
// Families that transformers loads with the file's own pipeline whatever class is named.
constexpr std::array kFileAsItIs{"mistral", "phi3", "qwen2"};

Json read_object(const std::string& file) {
  if (!std::filesystem::exists(file)) return Json::object();
  Json json = read_json_file(file, ErrorKind::integrity, {.max_bytes = kMaxSettingsBytes, .max_depth = 64});
  return json.is_object() ? json : Json::object();
}

std::string text_of(const Json& object, const char* key) {
  return object.contains(key) && object.at(key).is_string() ? object.at(key).get<std::string>() : "";
}

bool is_byte_level(const Json& part) {
  if (!part.is_object()) return false;
  if (text_of(part, "type") == "ByteLevel") return true;
  for (const char* list : {"pretokenizers", "decoders"})
    if (part.contains(list) && part.at(list).is_array() &&
        std::any_of(part.at(list).begin(), part.at(list).end(), is_byte_level))
      return true;
  return false;
}

bool is_rebuilt(const std::string& directory, const Json& config, const Json& tokenizer) {
  const std::string name = text_of(config, "tokenizer_class");
  if (name != "LlamaTokenizer" && name != "LlamaTokenizerFast") return false;
  const std::string model_type = text_of(read_object(directory + "/config.json"), "model_type");
  if (std::find(kFileAsItIs.begin(), kFileAsItIs.end(), model_type) != kFileAsItIs.end()) return false;
  return tokenizer.is_object() && tokenizer.contains("model") &&
         text_of(tokenizer.at("model"), "type") == "BPE" &&
         !is_byte_level(tokenizer.value("pre_tokenizer", Json())) &&
         !is_byte_level(tokenizer.value("decoder", Json()));
}

void rebuild(const Json& config, Json& tokenizer) {
  const bool prefix = config.value("add_prefix_space", Json()) != Json(false);
  const bool legacy = config.value("legacy", Json()) == Json(true);
  Json& model = tokenizer["model"];
  model["dropout"] = model["unk_token"] = nullptr;
  model["fuse_unk"] = model["byte_fallback"] = true;
  model["ignore_merges"] = false;
  tokenizer["normalizer"] = nullptr;
  tokenizer["pre_tokenizer"] = {{"type", "Metaspace"},
                                {"replacement", "▁"},
                                {"prepend_scheme", !prefix  ? "never"
                                                   : legacy ? "always"
                                                            : "first"},
                                {"split", false}};
  Json decoders = Json::array({{{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}},
                               {{"type", "ByteFallback"}},
                               {{"type", "Fuse"}}});
  if (prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  tokenizer["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
}

}  // namespace

std::string apply_tokenizer_class(const std::string& directory, std::string tokenizer_json) {
  const Json config = read_object(directory + "/tokenizer_config.json");
  if (!text_of(config, "tokenizer_class").starts_with("LlamaTokenizer")) return tokenizer_json;
  Json tokenizer = parse_json(tokenizer_json, directory + "/tokenizer.json", ErrorKind::integrity);
  if (!is_rebuilt(directory, config, tokenizer)) return tokenizer_json;
  rebuild(config, tokenizer);
  return tokenizer.dump();
}

}  // namespace rhapsode::text
