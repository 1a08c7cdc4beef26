// A file that appears under its final name whole or not at all: written beside it, synced, then renamed.
// While it is written its temporary file is locked, so that what a killed process left can be told from it.
// Knows nothing of what it holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace rhapsode {

class AtomicFile {
 public:
  static constexpr const char* kExtension = ".partial";  // of temporary files

  explicit AtomicFile(const std::string& path);  // creates the temporary file beside `path`
  ~AtomicFile();                                 // without commit: the temporary file is removed
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void append(std::span<const std::byte> bytes);
  // Bytes at a place of their own; any threads, and no append afterwards.
  void write_at(uint64_t offset_bytes, std::span<const std::byte> bytes);
  // Syncs the file, renames it over `path` and syncs the directory.
  void commit();

 private:
  void create();
  [[noreturn]] void fail(const char* what) const;

  std::string path_;
  std::string temporary_;
  int fd_ = -1;
};

// Whether nobody writes this temporary file or directory any more. False where its file system has no locks.
bool is_abandoned(const std::string& path);
// Removes what killed processes left beside `path` of earlier attempts at it.
void remove_abandoned(const std::string& path);

// A directory that appears under its final name whole or not at all, in the same way.
class AtomicDirectory {
 public:
  explicit AtomicDirectory(const std::string& path);  // creates the temporary directory beside `path`
  ~AtomicDirectory();                                 // without commit: it is removed, with all in it
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  const std::string& path() const { return temporary_; }  // to write into
  // Renames it to `path`, where nothing but an empty directory may be, and syncs; false, and all stays as it
  // was, where something else is there by now.
  bool commit();

 private:
  std::string path_;
  std::string temporary_;
  int fd_ = -1;
};

}  // namespace rhapsode
