// A file that appears under its final name whole or not at all: written beside it, synced, then renamed.
// Knows nothing of what it holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace rhapsode {

class AtomicFile {
 public:
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
  [[noreturn]] void fail(const char* what) const;

  std::string path_;
  std::string temporary_;
  int fd_ = -1;
};

}  // namespace rhapsode
