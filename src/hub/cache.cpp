#include "hub/cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "base/json.h"
#include "hub/names.h"

namespace rhapsode::hub {
namespace {

namespace fs = std::filesystem;

void make_directories(const fs::path& path) {
  std::error_code code;
  fs::create_directories(path, code);
  if (!code) return;
  throw Error(ErrorKind::runtime, "cannot-write-cache", "a directory of the cache cannot be made")
      .in(path.string())
      .saw(code.message())
      .want("a directory that we may write to")
      .hint("set HF_HUB_CACHE to one");
}

void write_beside(const fs::path& path, std::string_view text) {
  make_directories(path.parent_path());
  write_file_atomically(path.string(), text);
}

std::string without_blanks(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.pop_back();
  return text;
}

}  // namespace

void sync_directory(const fs::path& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

bool is_file(const fs::path& path) {
  std::error_code code;
  return fs::is_regular_file(path, code);
}

std::optional<uint64_t> size_of_file(const fs::path& path) {
  std::error_code code;
  const uint64_t size = fs::file_size(path, code);
  return code || !is_file(path) ? std::nullopt : std::optional(size);
}

RepoCache::RepoCache(const HubSettings& settings, const std::string& id)
    : cache_(settings.cache_directory),
      root_(cache_ / repo_folder(id)),
      folder_(repo_folder(id)),
      symlinks_(settings.symlinks) {}

fs::path RepoCache::lock_file(const std::string& etag) const {
  return cache_ / ".locks" / folder_ / (etag + ".lock");
}

std::optional<std::string> RepoCache::commit_of(const std::string& revision) const {
  const fs::path ref = root_ / "refs" / revision;
  if (is_file(ref)) {
    std::string text = without_blanks(read_file(ref.string(), 4096));
    if (is_commit(text)) return text;
  }
  return is_commit(revision) ? std::optional(revision) : std::nullopt;
}

std::optional<Tree> RepoCache::tree(const std::string& commit) const {
  const fs::path file = root_ / "trees" / (commit + ".json");
  return is_file(file) ? parse_kept_tree(read_file(file.string())) : std::nullopt;
}

void RepoCache::prepare() const {
  for (const char* part : {"blobs", "refs", "snapshots"}) make_directories(root_ / part);
  make_directories(cache_ / ".locks" / folder_);
  const fs::path tag = cache_ / "CACHEDIR.TAG";
  if (!is_file(tag))
    write_file_atomically(tag.string(),
                          "Signature: 8a477f597d28d172789f06886806bc55\n"
                          "# This file is a cache directory tag: its content can be fetched again.\n");
}

void RepoCache::keep_tree(const std::string& commit, const Tree& tree) const {
  write_beside(root_ / "trees" / (commit + ".json"), kept_tree_text(tree));
}

void RepoCache::keep_ref(const std::string& revision, const std::string& commit) const {
  const fs::path ref = root_ / "refs" / revision;
  if (revision == commit) return;
  if (is_file(ref) && read_file(ref.string(), 4096) == commit) return;
  write_beside(ref, commit);
}

void RepoCache::keep_absence(const std::string& commit, const std::string& path) const {
  const fs::path file = root_ / ".no_exist" / commit / path;
  if (!is_file(file)) write_beside(file, "");
}

void RepoCache::link(const std::string& commit, const std::string& path, const std::string& etag) const {
  const fs::path name = snapshot(commit) / path;
  make_directories(name.parent_path());
  std::error_code code;
  if (symlinks_) {
    const fs::path target = fs::relative(blob(etag), name.parent_path(), code);
    if (fs::read_symlink(name, code) == target) return;
    fs::create_symlink(target, name, code);
    if (!code) return;
    // Another one stands there: beside, then over it, so that there is always one or the other.
    const fs::path beside = name.parent_path() / fmt::format(".{}.{}.link", etag.substr(0, 12), ::getpid());
    fs::remove(beside, code);
    fs::create_symlink(target, beside, code);
    if (!code) fs::rename(beside, name, code);
    if (!code) return;
  }
  if (!is_file(blob(etag)) && is_file(name)) return;
  fs::rename(blob(etag), name, code);
  if (code && !is_file(name))  // else another process was faster
    throw Error(ErrorKind::runtime, "cannot-write-cache", "a file cannot be put into its snapshot")
        .in(name.string())
        .saw(code.message())
        .want("a symbolic link, or the file itself");
}

void FileLock::open(const fs::path& file) {
  std::error_code code;
  fs::create_directories(file.parent_path(), code);
  fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0664);
  if (fd_ < 0)
    throw Error(ErrorKind::runtime, "cannot-write-cache", "a lock of the cache cannot be opened")
        .in(file.string())
        .saw(std::strerror(errno))
        .want("a file that we may write to")
        .hint("set HF_HUB_CACHE to a directory that you may write to");
}

// Some file systems grant every lock to everyone: then a second one of ours is granted too.
bool FileLock::excludes(const fs::path& file) const {
  const int other = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
  if (other < 0) return false;
  const bool granted = ::flock(other, LOCK_EX | LOCK_NB) == 0;
  ::close(other);
  return !granted;
}

FileLock::FileLock(const fs::path& file, const std::function<void()>& waiting) {
  open(file);
  try {
    while (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) return;  // no locks here
      waiting();
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  } catch (...) {
    ::close(fd_);
    throw;
  }
  held_ = excludes(file);
}

FileLock::FileLock(const fs::path& file) {
  open(file);
  held_ = ::flock(fd_, LOCK_EX | LOCK_NB) == 0;
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace rhapsode::hub
