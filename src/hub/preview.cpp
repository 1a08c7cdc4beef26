// A model's config and tensor headers alone, for planning: a few ranges of each safetensors file, laid into
// files of the full size that hold nothing else (sparse, so they take no room).
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "base/json.h"
#include "hub/crew.h"
#include "hub/digest.h"
#include "hub/names.h"
#include "hub/pull.h"
#include "hub/selection.h"

namespace rhapsode::hub {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxHeaderBytes = 25'000'000;  // what the hub's own client accepts
constexpr uint64_t kLargeFileBytes = 64 << 20;
constexpr uint64_t kFirstBytes = 64 << 10;  // of large files: holds most headers, saves a request

struct Preview {
  const PullRequest& request;
  std::string commit;
  Tree tree;
  std::atomic<uint64_t> fetched{0};
  std::string directory;

  std::string path_of(const std::string& name) const { return (fs::path(directory) / name).string(); }
};

std::string whole_file(Preview& preview, Client& client, const std::string& name) {
  const TreeFile& file = preview.tree.at(name);
  if (file.size_bytes == 0) return "";
  const RemoteFile remote = client.head(preview.request.id, preview.commit, name, file);
  std::string bytes = client.range(preview.request.id, name, remote, 0, file.size_bytes - 1);
  preview.fetched += bytes.size();
  Digest digest(digest_kind(file.etag()), file.size_bytes);
  digest.add(std::as_bytes(std::span(bytes)));
  if (digest.hex() == file.etag()) return bytes;
  throw Error(ErrorKind::integrity, "hash-mismatch", "a file's hash is not the one that the hub names")
      .in(name)
      .saw(digest.hex())
      .want(file.etag());
}

std::string header_of(Preview& preview, Client& client, const std::string& name) {
  const TreeFile& file = preview.tree.at(name);
  const RemoteFile remote = client.head(preview.request.id, preview.commit, name, file);
  const uint64_t first =
      file.size_bytes > kLargeFileBytes ? kFirstBytes : std::min<uint64_t>(8, file.size_bytes);
  if (first == 0) return "";
  std::string bytes = client.range(preview.request.id, name, remote, 0, first - 1);
  uint64_t header_bytes = 0;
  for (size_t i = std::min<size_t>(8, bytes.size()); i-- > 0;)
    header_bytes = header_bytes << 8 | static_cast<unsigned char>(bytes[i]);
  const bool sane =
      file.size_bytes >= 8 && header_bytes <= kMaxHeaderBytes && header_bytes <= file.size_bytes - 8;
  // What is not sane is left to the checkpoint's reader, which says why.
  if (sane && 8 + header_bytes > bytes.size())
    bytes += client.range(preview.request.id, name, remote, bytes.size(), 8 + header_bytes - 1);
  preview.fetched += bytes.size();
  if (sane) bytes.resize(8 + header_bytes);
  return bytes;
}

void lay_out(const std::string& path, std::string_view bytes, uint64_t size_bytes) {
  fs::create_directories(fs::path(path).parent_path());
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const bool done = fd >= 0 &&
                    ::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()) &&
                    ::ftruncate(fd, static_cast<off_t>(size_bytes)) == 0;
  const std::string why = std::strerror(errno);
  if (fd >= 0) ::close(fd);
  if (!done)
    throw Error(ErrorKind::runtime, "write-failed", "a file for planning cannot be written")
        .in(path)
        .saw(why)
        .want("a temporary directory whose files may have holes")
        .hint("set TMPDIR to another disk");
}

}  // namespace

uint64_t fetch_headers(const PullRequest& request, const HubSettings& settings, const PullHooks& hooks,
                       const std::string& directory) {
  check_repo_id(request.id);
  check_revision(request.revision);
  Preview preview{.request = request, .commit = "", .tree = {}, .directory = directory};
  Crew crew(settings, hooks);
  std::vector<std::string> weights;
  crew.run(1, [&](Client& client, size_t) {
    preview.commit =
        is_commit(request.revision) ? request.revision : client.commit_of(request.id, request.revision);
    preview.tree = client.tree(request.id, preview.commit);
    small_files(request.id, preview.tree);  // refuses what we cannot run
    for (const char* name : {"config.json", "generation_config.json", kWeightsIndex})
      if (preview.tree.contains(name) && (name != kWeightsIndex || !preview.tree.contains(kSingleWeights)))
        write_file_atomically(preview.path_of(name), whole_file(preview, client, name));
    const std::string index = preview.path_of(kWeightsIndex);
    weights =
        weight_files(preview.tree, preview.tree.contains(kSingleWeights) ? "" : read_file(index), index);
  });
  if (hooks.before_weights) hooks.before_weights(directory);
  crew.run(weights.size(), [&](Client& client, size_t i) {
    lay_out(preview.path_of(weights[i]), header_of(preview, client, weights[i]),
            preview.tree.at(weights[i]).size_bytes);
  });
  return preview.fetched;
}

}  // namespace rhapsode::hub
