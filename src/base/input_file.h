// A read-only view of a file. Reading goes through pread into the caller's memory, so a file that is
// truncated or replaced while we run ends in an error, never in a signal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace rhapsode {

class InputFile {
 public:
  explicit InputFile(const std::string& path);  // throws not_found / runtime with the path
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size_bytes() const { return size_bytes_; }
  // Fills `out` from `offset_bytes`; a short read is an integrity error that says where the file ended.
  void read(uint64_t offset_bytes, std::span<std::byte> out) const;
  // Tells the kernel that these bytes will be needed soon; it reads them while we do something else.
  void read_ahead(uint64_t offset_bytes, uint64_t length_bytes) const;

 private:
  std::string path_;
  int fd_ = -1;
  uint64_t size_bytes_ = 0;
};

}  // namespace rhapsode
