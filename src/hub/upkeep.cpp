#include "hub/upkeep.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "hub/cache.h"
#include "hub/digest.h"
#include "hub/names.h"
#include "hub/pull.h"

namespace rhapsode::hub {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "models--";

std::vector<fs::path> entries(const fs::path& directory) {
  std::vector<fs::path> out;
  std::error_code code;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, code))
    out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<fs::path> files_below(const fs::path& directory) {
  std::vector<fs::path> out;
  std::error_code code;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(directory, code))
    if (entry.is_symlink(code) || entry.is_regular_file(code)) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

std::string id_of(const fs::path& repository) {
  std::string id = repository.filename().string().substr(std::string(kPrefix).size());
  if (const size_t at = id.find("--"); at != std::string::npos) id.replace(at, 2, "/");
  return id;
}

std::vector<fs::path> repositories(const HubSettings& settings) {
  std::error_code code;
  if (fs::exists(settings.cache_directory, code) && !fs::is_directory(settings.cache_directory, code))
    throw Error(ErrorKind::config, "bad-environment", "the cache is not a directory")
        .in(settings.cache_directory)
        .saw("a file")
        .want("a directory, or nothing yet")
        .hint("set HF_HUB_CACHE to another directory");
  std::vector<fs::path> out;
  for (const fs::path& path : entries(settings.cache_directory)) {
    const std::string name = path.filename().string();
    if (name.starts_with(kPrefix) && name != kPrefix && fs::is_directory(path, code)) out.push_back(path);
  }
  return out;
}

// The blob that a name of a snapshot leads to; empty where it is a file of its own.
std::string blob_of(const fs::path& name) {
  std::error_code code;
  const fs::path target = fs::read_symlink(name, code);
  return code ? "" : target.filename().string();
}

bool is_partial(const std::string& name) {
  return name.find(".rhapsode-") != std::string::npos || name.ends_with(".incomplete");
}

std::map<std::string, std::vector<std::string>> refs_of(const fs::path& repository) {
  std::map<std::string, std::vector<std::string>> by_commit;
  for (const fs::path& ref : files_below(repository / "refs")) {
    std::string commit = size_of_file(ref).value_or(0) < 4096 ? read_file(ref.string(), 4096) : "";
    while (!commit.empty() && commit.back() == '\n') commit.pop_back();
    by_commit[commit].push_back(fs::relative(ref, repository / "refs").string());
  }
  return by_commit;
}

bool is_whole_quietly(const std::string& id, const std::string& commit, const HubSettings& settings) {
  try {
    return is_whole(id, commit, settings);
  } catch (const Error&) {
    return false;
  }
}

uint64_t bytes_below(const fs::path& path) {
  uint64_t bytes = 0;
  std::error_code code;
  if (!fs::is_directory(path, code)) return fs::is_symlink(path, code) ? 0 : size_of_file(path).value_or(0);
  for (const fs::path& file : files_below(path))
    if (!fs::is_symlink(file, code)) bytes += size_of_file(file).value_or(0);
  return bytes;
}

void remove(const fs::path& path, bool dry_run, Removed& removed) {
  removed.bytes += bytes_below(path);
  removed.paths.push_back(path.string());
  std::error_code code;
  if (!dry_run) fs::remove_all(path, code);
  if (code)
    throw Error(ErrorKind::runtime, "cannot-write-cache", "a part of the cache cannot be removed")
        .in(path.string())
        .saw(code.message())
        .want("permission to remove it");
}

std::string etag_of_name(const std::string& name) {
  return name.substr(0, name.find('.'));
}

// False while somebody fetches it.
bool is_idle(const HubSettings& settings, const fs::path& repository, const std::string& etag) {
  const fs::path lock =
      fs::path(settings.cache_directory) / ".locks" / repository.filename() / (etag + ".lock");
  return !is_file(lock) || FileLock(lock).held();
}

bool is_all_idle(const HubSettings& settings, const fs::path& repository) {
  const fs::path locks = fs::path(settings.cache_directory) / ".locks" / repository.filename();
  const std::vector<fs::path> all = entries(locks);
  return std::all_of(all.begin(), all.end(), [&](const fs::path& lock) {
    return is_idle(settings, repository, etag_of_name(lock.filename().string()));
  });
}

// Blobs that no snapshot but those of `without` leads to; partial files that nobody writes.
void remove_unused_blobs(const HubSettings& settings, const fs::path& repository,
                         const std::set<std::string>& without, bool dry_run, Removed& removed) {
  std::set<std::string> used;
  for (const fs::path& snapshot : entries(repository / "snapshots"))
    if (!without.contains(snapshot.filename().string()))
      for (const fs::path& name : files_below(snapshot)) used.insert(blob_of(name));
  for (const fs::path& blob : entries(repository / "blobs")) {
    const std::string name = blob.filename().string();
    const bool wanted = used.contains(name) || !(is_etag(name) || is_partial(name));
    if (!wanted && is_idle(settings, repository, etag_of_name(name))) remove(blob, dry_run, removed);
  }
}

void remove_revision(const fs::path& repository, const std::string& commit, bool dry_run, Removed& removed) {
  for (const fs::path& part : {repository / "snapshots" / commit, repository / ".no_exist" / commit,
                               repository / "trees" / (commit + ".json")}) {
    std::error_code code;
    if (fs::exists(part, code)) remove(part, dry_run, removed);
  }
}

CheckedFile checked(const RepoCache& cache, const std::string& id, const std::string& commit,
                    const fs::path& name, const std::optional<Tree>& tree,
                    const std::function<void(uint64_t)>& step) {
  CheckedFile file{id, commit, fs::relative(name, cache.snapshot(commit)).string(), 0, FileState::unknown,
                   "", ""};
  const std::optional<uint64_t> size = size_of_file(name);
  const std::string blob = blob_of(name);
  if (is_etag(blob)) file.expected = blob;
  if (file.expected.empty() && tree)
    if (const auto at = tree->find(file.name); at != tree->end()) file.expected = at->second.etag();
  if (!size) {
    file.state = FileState::gone;
    return file;
  }
  file.bytes = *size;
  if (file.expected.empty()) return file;
  file.found = file_digest(name.string(), digest_kind(file.expected), step);
  file.state = file.found == file.expected ? FileState::right : FileState::damaged;
  return file;
}

}  // namespace

std::vector<KeptModel> kept_models(const HubSettings& settings) {
  std::vector<KeptModel> models;
  for (const fs::path& repository : repositories(settings)) {
    KeptModel model;
    model.id = id_of(repository);
    model.directory = repository.string();
    model.bytes = bytes_below(repository);
    for (const fs::path& blob : entries(repository / "blobs"))
      if (is_partial(blob.filename().string())) model.partial_bytes += bytes_below(blob);
    const auto refs = refs_of(repository);
    for (const fs::path& snapshot : entries(repository / "snapshots")) {
      KeptRevision revision;
      revision.commit = snapshot.filename().string();
      if (const auto at = refs.find(revision.commit); at != refs.end()) revision.refs = at->second;
      for (const fs::path& name : files_below(snapshot)) {
        revision.bytes += size_of_file(name).value_or(0);
        ++revision.files;
      }
      revision.whole = is_whole_quietly(model.id, revision.commit, settings);
      model.revisions.push_back(std::move(revision));
    }
    models.push_back(std::move(model));
  }
  return models;
}

std::vector<CheckedFile> verify_cache(const HubSettings& settings, const std::string& id,
                                      const std::function<void(uint64_t done, uint64_t total)>& progress) {
  std::vector<CheckedFile> out;
  uint64_t done = 0, total = 0;
  std::vector<KeptModel> models;
  for (KeptModel& model : kept_models(settings))
    if (id.empty() || model.id == id) models.push_back(std::move(model));
  if (!id.empty() && models.empty())
    throw Error(ErrorKind::not_found, "model-not-in-cache", "the cache does not hold this model")
        .in(settings.cache_directory)
        .saw(excerpt(id))
        .want("a model that `rhapsode cache ls` lists");
  for (const KeptModel& model : models)
    for (const KeptRevision& revision : model.revisions) total += revision.bytes;
  for (const KeptModel& model : models) {
    const RepoCache cache(settings, model.id);
    for (const KeptRevision& revision : model.revisions) {
      const std::optional<Tree> tree = cache.tree(revision.commit);
      for (const fs::path& name : files_below(cache.snapshot(revision.commit)))
        out.push_back(checked(cache, model.id, revision.commit, name, tree, [&](uint64_t bytes) {
          done += bytes;
          if (progress) progress(done, total);
        }));
    }
  }
  return out;
}

Removed remove_model(const HubSettings& settings, const std::string& id, const std::string& revision) {
  check_repo_id(id);
  const RepoCache cache(settings, id);
  std::error_code code;
  const auto missing = [&](const std::string& what) {
    return Error(ErrorKind::not_found, "model-not-in-cache", "the cache does not hold this model")
        .in(cache.root().string())
        .saw(what)
        .want("a model and a revision that `rhapsode cache ls` lists");
  };
  if (!fs::is_directory(cache.root(), code)) throw missing("no such directory");
  if (!is_all_idle(settings, cache.root()))
    throw Error(ErrorKind::runtime, "model-in-use", "the model is being fetched")
        .in(cache.root().string())
        .want("no other process that fetches it")
        .hint("wait for it to end");
  Removed removed;
  if (revision.empty()) {
    remove(cache.root(), false, removed);
    return removed;
  }
  check_revision(revision);
  const std::optional<std::string> commit = cache.commit_of(revision);
  if (!commit || !fs::is_directory(cache.snapshot(*commit), code))
    throw missing("no revision " + excerpt(revision));
  const auto refs = refs_of(cache.root());
  if (const auto at = refs.find(*commit); at != refs.end())
    for (const std::string& ref : at->second) remove(cache.root() / "refs" / ref, false, removed);
  remove_unused_blobs(settings, cache.root(), {*commit}, false, removed);
  remove_revision(cache.root(), *commit, false, removed);
  if (entries(cache.root() / "snapshots").empty()) remove(cache.root(), false, removed);
  return removed;
}

Removed prune_cache(const HubSettings& settings, bool dry_run) {
  Removed removed;
  for (const fs::path& repository : repositories(settings)) {
    if (!is_all_idle(settings, repository)) continue;  // its newest revision gets its name at the end
    const auto refs = refs_of(repository);
    std::set<std::string> unnamed;
    for (const fs::path& snapshot : entries(repository / "snapshots"))
      if (!refs.contains(snapshot.filename().string())) unnamed.insert(snapshot.filename().string());
    remove_unused_blobs(settings, repository, unnamed, dry_run, removed);
    for (const std::string& commit : unnamed) remove_revision(repository, commit, dry_run, removed);
  }
  return removed;
}

}  // namespace rhapsode::hub
