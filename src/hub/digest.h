// The hashes by which the hub names bytes: sha256 of large files, git's blob id (sha1 of "blob SIZE\0" and
// the bytes) of small ones. Fed as bytes arrive; copying one keeps the state at that point.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace rhapsode::hub {

class Digest {
 public:
  enum class Kind : uint8_t { sha256, git_blob };
  // `size_bytes` of the whole content: part of a git blob id.
  Digest(Kind kind, uint64_t size_bytes);
  Digest(const Digest& other);
  Digest& operator=(const Digest& other);
  Digest(Digest&&) noexcept = default;
  Digest& operator=(Digest&&) noexcept = default;
  ~Digest() = default;

  void add(std::span<const std::byte> bytes);
  std::string hex() const;  // of what was added so far; more may follow

 private:
  struct Free {
    void operator()(void* context) const;
  };
  std::unique_ptr<void, Free> context_;
};

// The kind that a blob's name stands for: 64 digits sha256, 40 digits git's.
Digest::Kind digest_kind(const std::string& etag);

// Of a whole file. `each` is told how many bytes came, and may throw to stop.
std::string file_digest(const std::string& path, Digest::Kind kind,
                        const std::function<void(uint64_t bytes)>& each = {});

}  // namespace rhapsode::hub
