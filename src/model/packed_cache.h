// Weights that were quantized once, kept as the bytes that kernels read, so that a later start only maps
// them. A file is named by what its bytes depend on: the checkpoint's files, the formats and places, the
// layout. It is verified before it is used and appears whole or not at all.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "devices/device.h"

namespace rhapsode::model {

struct PackedKey {
  std::string text;       // everything that the bytes depend on
  std::string file_name;  // a hash of it
  std::string source;     // the checkpoint's directory
  uint64_t bytes = 0;     // of the weights
};
PackedKey packed_key(const Checkpoint& checkpoint, const std::string& description, uint64_t bytes);

// The kept bytes, mapped; nullopt where there are none. A file that is torn or does not hold what it says is
// removed.
std::optional<devices::Buffer> map_packed(const std::string& directory, const PackedKey& key,
                                          devices::Device& device, ThreadPool& pool);
// Throws Error(runtime, "disk-full") where the disk has no room for them, once what killed processes left of
// the same weights is removed.
void require_disk(const std::string& directory, const PackedKey& key);
void keep_packed(const std::string& directory, const PackedKey& key, std::span<const std::byte> bytes,
                 ThreadPool& pool);

// Kept bytes that are read whole, again and again, into a buffer that holds others in between.
class PackedReader {
 public:
  // Null where there are none; a file that is torn or does not hold what it says is removed.
  static std::unique_ptr<PackedReader> open(const std::string& directory, const PackedKey& key);
  ~PackedReader();
  PackedReader(const PackedReader&) = delete;
  PackedReader& operator=(const PackedReader&) = delete;

  // By all threads. False where they are not what was kept, and the file is removed: every byte is verified
  // by the first read, and again where the file was written to since.
  bool read(std::span<std::byte> out, ThreadPool& pool);

 private:
  struct Stamp {
    int64_t size_bytes = 0, seconds = 0, nanoseconds = 0;  // of the last change
    bool operator==(const Stamp&) const = default;
  };

  PackedReader(std::string path, int fd, uint64_t offset_bytes, uint64_t hash)
      : path_(std::move(path)), fd_(fd), offset_bytes_(offset_bytes), hash_(hash) {}
  Stamp stamp() const;
  bool read_unverified(std::span<std::byte> out, ThreadPool& pool) const;

  std::string path_;
  int fd_;
  uint64_t offset_bytes_, hash_;
  std::optional<Stamp> verified_;  // of the file when its bytes had the hash
};

// What a directory of packed caches holds.
struct PackedFile {
  std::string path;
  std::string source;    // the checkpoint's directory; empty where the file is unreadable
  uint64_t bytes = 0;    // on disk
  bool current = false;  // made by this layout of a checkpoint that is still as it was
  bool in_use = false;   // being written by a process that lives
};
std::vector<PackedFile> packed_files(const std::string& directory);

}  // namespace rhapsode::model
