#include "hub/pull.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/json.h"
#include "hub/crew.h"
#include "hub/digest.h"
#include "hub/hub.h"
#include "hub/names.h"
#include "hub/selection.h"

namespace rhapsode::hub {
namespace {

namespace fs = std::filesystem;

// Weights of the snapshot that we would not fetch but that explain themselves when they are opened.
bool has_other_weights(const fs::path& snapshot) {
  std::error_code code;
  for (const fs::directory_entry& entry : fs::directory_iterator(snapshot, code)) {
    const std::string end = entry.path().extension().string();
    if (end == ".bin" || end == ".pt" || end == ".pth" || end == ".gguf") return true;
  }
  return false;
}

bool has_small_files(const RepoCache& cache, const std::string& commit, const Tree& tree) {
  for (const std::string& name : wanted_small_files(tree))
    if (size_of_file(cache.snapshot(commit) / name) != tree.at(name).size_bytes) return false;
  return true;
}

bool snapshot_is_whole(const RepoCache& cache, const std::string& commit, const std::optional<Tree>& tree) {
  const fs::path snapshot = cache.snapshot(commit);
  if (!is_file(snapshot / "config.json")) return false;
  if (tree && !has_small_files(cache, commit, *tree)) return false;
  if (is_file(snapshot / kSingleWeights)) return true;
  const fs::path index = snapshot / kWeightsIndex;
  if (!is_file(index)) return has_other_weights(snapshot);
  for (const std::string& shard : shards_of_index(read_file(index.string()), index.string()))
    if (!is_file(snapshot / shard)) return false;
  return true;
}

struct Pull {
  const PullRequest& request;
  const HubSettings& settings;
  const PullHooks& hooks;
  RepoCache cache;
  Crew crew;
  std::string commit;
  Tree tree;
  Pulled result;

  Pull(const PullRequest& request_, const HubSettings& settings_, const PullHooks& hooks_)
      : request(request_),
        settings(settings_),
        hooks(hooks_),
        cache(settings, request.id),
        crew(settings, hooks) {}
};

// The commit and its listing: from the cache where they cannot have changed, else from the hub.
void look_up(Pull& pull) {
  pull.crew.run(1, [&](Client& client, size_t) {
    pull.commit = is_commit(pull.request.revision) ? pull.request.revision
                                                   : client.commit_of(pull.request.id, pull.request.revision);
    if (const std::optional<Tree> kept = pull.cache.tree(pull.commit))
      pull.tree = *kept;
    else
      pull.tree = client.tree(pull.request.id, pull.commit);
  });
}

std::string sha256_of(const Pull& pull, const std::string& path) {
  const TreeFile& file = pull.tree.at(path);
  if (!file.lfs_sha256.empty()) return file.lfs_sha256;
  return file_digest((pull.cache.snapshot(pull.commit) / path).string(), Digest::Kind::sha256);
}

// A file that is there: hashed again where that was asked for, removed where it is wrong.
void check_kept(const Pull& pull, const std::string& path) {
  const TreeFile& file = pull.tree.at(path);
  fs::path blob = pull.cache.blob(file.etag());
  if (!is_file(blob)) blob = pull.cache.snapshot(pull.commit) / path;  // moved there
  if (!pull.request.verify || size_of_file(blob) != file.size_bytes) return;
  const std::string hash = file_digest(blob.string(), digest_kind(file.etag()), [&](uint64_t) {
    if (pull.crew.control().cancel) throw Cancelled{};
  });
  if (hash == file.etag()) return;
  pull.crew.control().note(fmt::format("{} is damaged in the cache; fetching it again", path));
  std::error_code code;
  fs::remove(blob, code);
  if (code)
    throw Error(ErrorKind::runtime, "cannot-write-cache", "a damaged file of the cache cannot be removed")
        .in(blob.string())
        .saw(code.message())
        .want("a file that we may remove")
        .hint("set HF_HUB_CACHE to a directory that you may write to");
}

void fetch(Pull& pull, std::vector<std::string> paths) {
  // The largest first, so that none is left over at the end.
  std::stable_sort(paths.begin(), paths.end(), [&](const std::string& a, const std::string& b) {
    return pull.tree.at(a).size_bytes > pull.tree.at(b).size_bytes;
  });
  std::vector<Fetched> fetched(paths.size());
  pull.crew.run(paths.size(), [&](Client& client, size_t i) {
    const TreeFile& file = pull.tree.at(paths[i]);
    check_kept(pull, paths[i]);
    uint64_t counted = 0;
    fetched[i] =
        fetch_blob(client, pull.cache, {pull.request.id, pull.commit, paths[i], file}, [&](uint64_t bytes) {
          pull.crew.done_bytes() += bytes - counted;  // wraps where it shrinks, and back again
          counted = bytes;
        });
    pull.cache.link(pull.commit, paths[i], file.etag());
  });
  for (size_t i = 0; i < paths.size(); ++i) {
    pull.result.files.push_back(
        {paths[i], pull.tree.at(paths[i]).size_bytes, sha256_of(pull, paths[i]), fetched[i].source});
    pull.result.bytes_downloaded += fetched[i].received_bytes;
  }
}

// For all of them, before the first is fetched.
void require_room(const Pull& pull, const std::vector<std::string>& paths) {
  uint64_t missing = 0;
  for (const std::string& path : paths)
    missing += missing_bytes(pull.cache, {pull.request.id, pull.commit, path, pull.tree.at(path)});
  if (missing > 0) require_space(pull.cache.root().string(), missing);
}

// What a whole snapshot holds, without asking anyone.
Pulled kept_snapshot(const RepoCache& cache, const std::string& commit) {
  Pulled result;
  result.commit = commit;
  result.directory = cache.snapshot(commit).string();
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(result.directory)) {
    const std::optional<uint64_t> size = size_of_file(entry.path());
    if (!size) continue;
    std::error_code code;
    const std::string blob = fs::read_symlink(entry.path(), code).filename().string();
    const bool known = blob.size() == 64 && is_etag(blob);
    result.files.push_back({entry.path().lexically_relative(result.directory).string(), *size,
                            known ? blob : file_digest(entry.path().string(), Digest::Kind::sha256),
                            Source::cache});
  }
  std::sort(result.files.begin(), result.files.end(),
            [](const PulledFile& a, const PulledFile& b) { return a.name < b.name; });
  return result;
}

// Where it is to come, and what is known of it.
void open_snapshot(Pull& pull) {
  pull.cache.prepare();
  if (!pull.cache.tree(pull.commit)) pull.cache.keep_tree(pull.commit, pull.tree);
  for (const std::string& path : absent_files(pull.tree)) pull.cache.keep_absence(pull.commit, path);
  pull.result.commit = pull.commit;
  pull.result.directory = pull.cache.snapshot(pull.commit).string();
}

std::string index_text_of(const Pull& pull, const std::string& file) {
  return pull.tree.contains(kSingleWeights) ? "" : read_file(file);
}

}  // namespace

bool is_whole(const std::string& id, const std::string& revision, const HubSettings& settings) {
  const RepoCache cache(settings, id);
  const std::optional<std::string> commit = cache.commit_of(revision);
  return commit && snapshot_is_whole(cache, *commit, cache.tree(*commit));
}

bool has_text(const std::string& id, const std::string& revision, const HubSettings& settings) {
  const RepoCache cache(settings, id);
  const std::optional<std::string> commit = cache.commit_of(revision);
  if (!commit || !is_file(cache.snapshot(*commit) / "tokenizer.json")) return false;
  const std::optional<Tree> tree = cache.tree(*commit);
  return !tree || has_small_files(cache, *commit, *tree);
}

Pulled pull_text(const PullRequest& request, const HubSettings& settings, const PullHooks& hooks) {
  check_repo_id(request.id);
  check_revision(request.revision);
  Pull pull(request, settings, hooks);
  look_up(pull);
  open_snapshot(pull);
  fetch(pull, wanted_small_files(pull.tree));
  pull.cache.keep_ref(request.revision, pull.commit);
  return std::move(pull.result);
}

Pulled pull(const PullRequest& request, const HubSettings& settings, const PullHooks& hooks) {
  check_repo_id(request.id);
  check_revision(request.revision);
  const RepoCache cache(settings, request.id);
  const std::optional<std::string> kept = cache.commit_of(request.revision);
  const bool settled = settings.offline || (is_commit(request.revision) && !request.verify);
  if (settled && kept && snapshot_is_whole(cache, *kept, cache.tree(*kept)))
    return kept_snapshot(cache, *kept);
  if (settings.offline) {
    resolve_model(request.id, request.revision, settings);  // names every place searched
    throw Error(ErrorKind::network, "model-not-cached",
                "the model in the cache is not whole and we are offline")
        .in(cache.snapshot(*kept).string())
        .at("model_id")
        .want("config.json and all weights")
        .hint("download the rest while online: rhapsode pull " + request.id);
  }
  Pull pull(request, settings, hooks);
  look_up(pull);
  const std::vector<std::string> small = small_files(request.id, pull.tree);
  open_snapshot(pull);
  fetch(pull, small);
  if (hooks.before_weights) hooks.before_weights(pull.result.directory);
  const std::string index = (fs::path(pull.result.directory) / kWeightsIndex).string();
  const std::vector<std::string> weights = weight_files(pull.tree, index_text_of(pull, index), index);
  uint64_t total = pull.crew.done_bytes();
  for (const std::string& path : weights) total += pull.tree.at(path).size_bytes;
  pull.crew.expect(total);
  require_room(pull, weights);
  fetch(pull, weights);
  cache.keep_ref(request.revision, pull.commit);
  return std::move(pull.result);
}

}  // namespace rhapsode::hub
