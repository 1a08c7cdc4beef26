// One repository in the cache that we share with huggingface_hub: where things lie, and how they are changed
// so that no reader ever sees half of one. Opens no socket.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "hub/answers.h"
#include "hub/settings.h"

namespace rhapsode::hub {

class RepoCache {
 public:
  RepoCache(const HubSettings& settings, const std::string& id);

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path blob(const std::string& etag) const { return root_ / "blobs" / etag; }
  std::filesystem::path snapshot(const std::string& commit) const { return root_ / "snapshots" / commit; }
  std::filesystem::path lock_file(const std::string& etag) const;

  std::optional<std::string> commit_of(const std::string& revision) const;  // by refs/, or a commit itself
  std::optional<Tree> tree(const std::string& commit) const;

  void prepare() const;  // the directories and CACHEDIR.TAG
  void keep_tree(const std::string& commit, const Tree& tree) const;
  void keep_ref(const std::string& revision, const std::string& commit) const;  // not for commits
  void keep_absence(const std::string& commit, const std::string& path) const;  // .no_exist
  // snapshots/COMMIT/PATH -> the blob: a relative link, or the blob itself where links cannot be; then it is
  // gone from blobs/.
  void link(const std::string& commit, const std::string& path, const std::string& etag) const;

 private:
  std::filesystem::path cache_, root_;
  std::string folder_;
  bool symlinks_;
};

// An exclusive flock on a file, as huggingface_hub takes it. Where the file system has none that works,
// held() is false and the caller must not touch what others may touch too.
class FileLock {
 public:
  // Waits; `waiting` is called ten times a second meanwhile and may throw.
  FileLock(const std::filesystem::path& file, const std::function<void()>& waiting);
  // Takes it now or not at all: held() tells.
  explicit FileLock(const std::filesystem::path& file);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  bool held() const { return held_; }

 private:
  void open(const std::filesystem::path& file);
  bool excludes(const std::filesystem::path& file) const;
  int fd_ = -1;
  bool held_ = false;
};

void sync_directory(const std::filesystem::path& directory);  // best effort: some file systems cannot
bool is_file(const std::filesystem::path& path);              // also through links
std::optional<uint64_t> size_of_file(const std::filesystem::path& path);

}  // namespace rhapsode::hub
