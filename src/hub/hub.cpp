// Finding a model on this machine: a directory, or a snapshot in the Hugging Face cache. Opens no socket.
#include "hub/hub.h"

#include <fmt/format.h>

#include <filesystem>

#include "base/error.h"
#include "base/json.h"
#include "hub/names.h"

namespace rhapsode::hub {
namespace {

namespace fs = std::filesystem;

bool is_path_like(const std::string& id) {
  return id.starts_with("/") || id.starts_with("./") || id.starts_with("../") || id.starts_with("~") ||
         id == "." || id == "..";
}

bool directory_exists(const fs::path& path) {
  std::error_code code;
  return fs::is_directory(path, code);
}
bool file_exists(const fs::path& path) {
  std::error_code code;
  return fs::is_regular_file(path, code);
}

// The commit that refs/REVISION names; nullopt where there is no such ref.
std::optional<std::string> commit_of_ref(const fs::path& ref) {
  if (!file_exists(ref)) return std::nullopt;
  std::string text = read_file(ref.string(), 4096);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.pop_back();
  if (is_commit(text)) return text;
  throw Error(ErrorKind::integrity, "bad-ref", "a ref of the cache names no commit")
      .in(ref.string())
      .saw(fmt::format("\"{}\"", excerpt(text)))
      .want("40 hexadecimal digits")
      .hint("the cache is damaged: remove this file and fetch the model again");
}

struct Search {
  std::string snapshot;               // where config.json is, empty: not found
  std::vector<std::string> searched;  // every place looked at, with what was there
};

Search search_cache(const std::string& id, const std::string& revision, const std::string& cache) {
  Search search;
  if (cache.empty()) {
    search.searched.emplace_back("no cache directory is set");
    return search;
  }
  const fs::path repository = fs::path(cache) / repo_folder(id);
  if (!directory_exists(repository)) {
    search.searched.push_back(repository.string() + " (no such directory)");
    return search;
  }
  const fs::path ref = repository / "refs" / revision;
  const std::optional<std::string> commit = commit_of_ref(ref);
  if (!commit) search.searched.push_back(ref.string() + " (no such ref)");
  const fs::path snapshot = repository / "snapshots" / commit.value_or(revision);
  // Without a ref only a commit (or a snapshot kept under the revision's own name) can match, as in
  // huggingface_hub.
  if (!directory_exists(snapshot)) {
    search.searched.push_back(snapshot.string() + " (no such snapshot)");
  } else if (!file_exists(snapshot / "config.json")) {
    std::error_code code;
    const bool dangling = fs::is_symlink(snapshot / "config.json", code);
    search.searched.push_back((snapshot / "config.json").string() +
                              (dangling ? " (a link to a file that is gone)" : " (the snapshot lacks it)"));
  } else {
    search.snapshot = snapshot.string();
  }
  return search;
}

std::string joined(const std::vector<std::string>& places) {
  return fmt::format("{}", fmt::join(places, "; "));
}

}  // namespace

bool is_local(const std::string& model_id) {
  return directory_exists(model_id) || is_path_like(model_id);
}

void check_model_name(const std::string& model_id, const std::string& revision) {
  if (model_id.find('\0') != std::string::npos || model_id.empty()) check_repo_id(model_id);
  if (is_local(model_id)) return;
  check_repo_id(model_id);
  check_revision(revision.empty() ? "main" : revision);
}

std::string resolve_model(const std::string& model_id, const std::string& revision,
                          const HubSettings& settings) {
  check_model_name(model_id, revision);
  if (directory_exists(model_id)) {
    if (file_exists(fs::path(model_id) / "config.json")) return model_id;
    throw Error(ErrorKind::not_found, "no-config", "the directory holds no config.json")
        .in(model_id)
        .saw("a directory without config.json")
        .want("a checkpoint: config.json, safetensors files, tokenizer.json");
  }
  if (is_path_like(model_id))
    throw Error(ErrorKind::not_found, "no-checkpoint", "the model's directory does not exist")
        .in(model_id)
        .at("model_id")
        .saw("no such directory")
        .want("a directory with config.json")
        .hint(model_id.front() == '~' ? "~ is not expanded in model ids: write the whole path"
                                      : "a relative path starts at the working directory");
  const std::string wanted = revision.empty() ? "main" : revision;
  Search search = search_cache(model_id, wanted, settings.cache_directory);
  if (!search.snapshot.empty()) return search.snapshot;
  search.searched.insert(search.searched.begin(), (fs::path(model_id)).string() + " (no such directory)");
  throw Error(ErrorKind::network, "model-not-cached",
              fmt::format("the model {} is not on this machine{}", excerpt(model_id),
                          settings.offline ? " and we are offline" : ""))
      .in(settings.cache_directory)
      .at("model_id")
      .saw(joined(search.searched))
      .want(fmt::format("revision {} of {} in the cache, or a directory", excerpt(wanted), excerpt(model_id)))
      .hint(settings.offline
                ? "download it while online: rhapsode pull " + model_id
                : "download it: rhapsode pull " + model_id + "; or give the path of a directory as model_id");
}

}  // namespace rhapsode::hub
