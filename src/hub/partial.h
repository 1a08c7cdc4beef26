// The partial file of a blob and the notes beside it. Owns the descriptor and the running hash; knows nothing
// of HTTP.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "hub/answers.h"
#include "hub/digest.h"

namespace rhapsode::hub {

class Partial {
 public:
  // Takes up what an earlier process left, as far as its hashes say that it is right. `resumable` false: a
  // file of this process alone, removed when it ends.
  Partial(std::string blob_file, const std::string& etag, uint64_t size_bytes, bool resumable);
  ~Partial();
  Partial(const Partial&) = delete;
  Partial& operator=(const Partial&) = delete;

  uint64_t bytes() const { return bytes_; }
  uint64_t size_bytes() const { return notes_.size_bytes; }
  const std::string& body_etag() const { return notes_.body_etag; }
  bool complete() const { return bytes_ == notes_.size_bytes; }

  void restart(const std::string& body_etag);  // from nothing; what was there is gone
  void append(std::span<const std::byte> bytes);
  void flush();
  std::string hash() const { return digest_.hex(); }
  void publish();  // under the final name; the caller has compared the hash
  void discard();

 private:
  void take_up();
  void mark();
  [[noreturn]] void fail(const char* what) const;

  std::string blob_file_, file_, notes_file_;
  PartialNotes notes_;
  bool resumable_;
  int fd_ = -1, notes_fd_ = -1;
  uint64_t bytes_ = 0;  // taken, of which the last ones may still be in the buffer
  Digest digest_;
  std::vector<std::byte> buffer_;
};

}  // namespace rhapsode::hub
