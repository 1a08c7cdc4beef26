#include "hub/selection.h"

#include <fmt/format.h>

#include <array>

#include "base/error.h"
#include "base/json.h"
#include "hub/names.h"

namespace rhapsode::hub {
namespace {

constexpr std::array kSmallFiles{"config.json",
                                 "generation_config.json",
                                 "tokenizer.json",
                                 "tokenizer_config.json",
                                 "special_tokens_map.json",
                                 "added_tokens.json",
                                 "chat_template.jinja",
                                 "chat_template.json",
                                 "vocab.json",
                                 "merges.txt",
                                 "tokenizer.model",
                                 "preprocessor_config.json"};

void refuse_other_weights(const std::string& id, const Tree& tree) {
  std::string found;
  const char* hint = "choose a repository or a revision with safetensors weights";
  for (const auto& [path, file] : tree) {
    const bool gguf = path.ends_with(".gguf");
    const bool pickle = path.ends_with(".bin") || path.ends_with(".pt") || path.ends_with(".pth");
    if (gguf) hint = "download one of its files, then: rhapsode import-gguf FILE DIR";
    if (pickle) hint = "pickles can run code and are never read: choose a revision with safetensors weights";
    if ((gguf || pickle || path.ends_with(".safetensors")) && found.size() < 200)
      found += (found.empty() ? "" : ", ") + excerpt(path);
  }
  throw Error(ErrorKind::unsupported, "no-safetensors", fmt::format("{} has no weights that we read", id))
      .at("model_id")
      .saw(found.empty() ? "no weights" : found)
      .want("model.safetensors, or model.safetensors.index.json and its shards")
      .hint(hint);
}

}  // namespace

std::vector<std::string> small_files(const std::string& id, const Tree& tree) {
  if (!tree.contains(kSingleWeights) && !tree.contains(kWeightsIndex)) refuse_other_weights(id, tree);
  if (!tree.contains("config.json"))
    throw Error(ErrorKind::not_found, "no-config", fmt::format("{} has no config.json", id))
        .at("model_id")
        .saw(fmt::format("{} files", tree.size()))
        .want("config.json beside the weights");
  return wanted_small_files(tree);
}

std::vector<std::string> wanted_small_files(const Tree& tree) {
  std::vector<std::string> chosen;
  for (const char* name : kSmallFiles)
    if (tree.contains(name)) chosen.emplace_back(name);
  if (!tree.contains(kSingleWeights) && tree.contains(kWeightsIndex)) chosen.emplace_back(kWeightsIndex);
  return chosen;
}

std::vector<std::string> absent_files(const Tree& tree) {
  std::vector<std::string> absent;
  for (const char* name : kSmallFiles)
    if (!tree.contains(name)) absent.emplace_back(name);
  return absent;
}

std::set<std::string> shards_of_index(const std::string& text, const std::string& file) {
  const Json index = parse_json(text, file);
  const auto bad = [&](std::string found) {
    return Error(ErrorKind::integrity, "bad-index", "the index of the weights is malformed")
        .in(file)
        .at("/weight_map")
        .saw(std::move(found))
        .want("names of files in the same directory");
  };
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object()) throw bad("no object");
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string() || !is_safe_file_name(shard.get<std::string>())) throw bad(excerpt(shard.dump()));
    shards.insert(shard.get<std::string>());
  }
  return shards;
}

std::vector<std::string> weight_files(const Tree& tree, const std::string& index_text,
                                      const std::string& index_file) {
  if (tree.contains(kSingleWeights)) return {kSingleWeights};
  std::vector<std::string> out;
  for (const std::string& shard : shards_of_index(index_text, index_file)) {
    if (!tree.contains(shard))
      throw Error(ErrorKind::integrity, "shard-missing", "the index names a shard that the repository lacks")
          .in(index_file)
          .saw(fmt::format("no file {}", excerpt(shard)))
          .want("every shard beside the index");
    out.push_back(shard);
  }
  return out;
}

}  // namespace rhapsode::hub
