// Finding a model on this machine: a directory, or a snapshot in the Hugging Face cache. Opens no socket.
#include "hub/hub.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/json.h"

namespace rhapsode::hub {
namespace {

namespace fs = std::filesystem;
using Getenv = std::function<std::optional<std::string>(const std::string&)>;

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// An unset variable and an empty one mean the same: the default.
std::optional<std::string> value_of(const Getenv& getenv_like, const std::string& name) {
  std::optional<std::string> value = getenv_like(name);
  if (value && value->empty()) return std::nullopt;
  return value;
}

std::string home_directory(const Getenv& getenv_like) {
  if (const auto home = value_of(getenv_like, "HOME")) return *home;
  if (const passwd* entry = ::getpwuid(::getuid())) return entry->pw_dir;
  throw Error(ErrorKind::config, "no-home", "the home directory is unknown")
      .saw("no HOME and no entry in the user database")
      .want("HOME, HF_HOME or HF_HUB_CACHE")
      .hint("set HF_HUB_CACHE to the cache's directory");
}

// `~` at the start, then $NAME and ${NAME}; a variable that is not set stays as it is written.
std::string expanded(std::string path, const Getenv& getenv_like) {
  if (path == "~" || path.starts_with("~/")) path = home_directory(getenv_like) + path.substr(1);
  std::string out;
  for (size_t i = 0; i < path.size();) {
    if (path[i] != '$') {
      out += path[i++];
      continue;
    }
    const bool braced = i + 1 < path.size() && path[i + 1] == '{';
    const size_t begin = i + (braced ? 2 : 1);
    size_t end = begin;
    while (end < path.size() && (braced ? path[end] != '}' : is_word(path[end]))) ++end;
    const bool complete = end > begin && (!braced || end < path.size());
    const size_t next = complete && braced ? end + 1 : end;
    const auto value = complete ? getenv_like(path.substr(begin, end - begin)) : std::nullopt;
    out += value ? *value : path.substr(i, next - i);
    i = next;
  }
  return out;
}

bool is_true(const std::optional<std::string>& value) {
  if (!value) return false;
  std::string upper = *value;
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  return upper == "1" || upper == "ON" || upper == "YES" || upper == "TRUE";
}

bool is_path_like(const std::string& id) {
  return id.starts_with("/") || id.starts_with("./") || id.starts_with("../") || id.starts_with("~") ||
         id == "." || id == "..";
}

// One part of a repo id, as the hub itself defines it: letters, digits, '_', '-', '.', no '-' or '.' at
// either end.
bool is_id_part(std::string_view part) {
  if (part.empty() || part.size() > 96 || !is_word(part.front()) || !is_word(part.back())) return false;
  return std::all_of(part.begin(), part.end(), [](char c) { return is_word(c) || c == '-' || c == '.'; });
}

void check_repo_id(const std::string& id) {
  const size_t slash = id.find('/');
  const bool parts = slash == std::string::npos ? is_id_part(id)
                                                : is_id_part(std::string_view(id).substr(0, slash)) &&
                                                      is_id_part(std::string_view(id).substr(slash + 1));
  if (parts && id.find("--") == std::string::npos && id.find("..") == std::string::npos &&
      !id.ends_with(".git"))
    return;
  throw Error(ErrorKind::config, "bad-model-id", "the model id is neither a directory nor a name on the hub")
      .at("model_id")
      .saw(fmt::format("\"{}\"", excerpt(id)))
      .want("a directory, \"name\" or \"organization/name\" (letters, digits, '_', '-', '.')")
      .hint("a relative path that exists works too; start it with ./ to make clear that it is a path");
}

// A branch or tag becomes a path below refs/: it must not lead out of it.
void check_revision(const std::string& revision) {
  bool good =
      !revision.empty() && revision.size() <= 255 && revision.front() != '/' && revision.back() != '/';
  for (const char c : revision)
    good = good && static_cast<unsigned char>(c) > 0x20 && c != 0x7f && c != '\\' && c != ':' && c != '?' &&
           c != '*';
  good = good && revision.find("..") == std::string::npos && revision.find("//") == std::string::npos &&
         revision.find("./") == std::string::npos && revision.find("/.") == std::string::npos &&
         revision != ".";
  if (good) return;
  throw Error(ErrorKind::config, "bad-revision", "the revision is no branch, tag or commit")
      .at("revision")
      .saw(fmt::format("\"{}\"", excerpt(revision)))
      .want("a branch, a tag or a commit, such as main or refs/pr/1");
}

bool is_commit(std::string_view text) {
  return text.size() == 40 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
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
  std::string folder = "models--" + id;
  if (const size_t slash = folder.find('/'); slash != std::string::npos) folder.replace(slash, 1, "--");
  const fs::path repository = fs::path(cache) / folder;
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

HubSettings hub_settings(const Getenv& getenv_like) {
  HubSettings settings;
  const auto path_of = [&](const std::string& name) -> std::optional<std::string> {
    const auto value = value_of(getenv_like, name);
    return value ? std::optional(expanded(*value, getenv_like)) : std::nullopt;
  };
  if (const auto cache = path_of("HF_HUB_CACHE"))
    settings.cache_directory = *cache;
  else if (const auto legacy = path_of("HUGGINGFACE_HUB_CACHE"))
    settings.cache_directory = *legacy;
  else if (const auto home = path_of("HF_HOME"))
    settings.cache_directory = (fs::path(*home) / "hub").string();
  else if (const auto xdg = path_of("XDG_CACHE_HOME"))
    settings.cache_directory = (fs::path(*xdg) / "huggingface" / "hub").string();
  else
    settings.cache_directory = expanded("~/.cache/huggingface/hub", getenv_like);
  settings.offline = is_true(getenv_like("HF_HUB_OFFLINE")) || is_true(getenv_like("TRANSFORMERS_OFFLINE"));
  return settings;
}

std::string resolve_model(const std::string& model_id, const std::string& revision,
                          const HubSettings& settings) {
  if (model_id.find('\0') != std::string::npos || model_id.empty()) check_repo_id(model_id);
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
  check_repo_id(model_id);
  const std::string wanted = revision.empty() ? "main" : revision;
  check_revision(wanted);
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
      .hint("download it with the hub's client into this cache, or give the path of a directory as model_id");
}

}  // namespace rhapsode::hub
