// A safetensors file whose tensors are written piece by piece in any order and by any threads. It has its
// final name only when all of it is on the disk. Knows no values.
#pragma once

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "checkpoint/checkpoint.h"

namespace rhapsode {

class SafetensorsFile {
 public:
  // Data stand in the order given. Other readers need each tensor at a multiple of its element's width: put
  // wide types first. `texts`: tensors of bytes behind all others, whose length is not known yet.
  SafetensorsFile(const std::string& file, std::vector<TensorToWrite> tensors,
                  const std::map<std::string, std::string>& metadata, std::vector<std::string> texts = {});

  const std::vector<TensorToWrite>& tensors() const { return tensors_; }
  uint64_t tensor_bytes(size_t index) const { return begins_[index + 1] - begins_[index]; }
  // Each byte exactly once.
  void write(size_t index, uint64_t offset_bytes, std::span<const std::byte> bytes);
  // At most kMaxTextBytes, once for each name.
  void write_text(const std::string& name, std::string text);
  // Throws where bytes are missing.
  void commit();

  static constexpr uint64_t kMaxTextBytes = 1024;

 private:
  std::string file_;
  std::map<std::string, std::string> metadata_;
  std::vector<std::pair<std::string, std::string>> texts_;  // in their order
  uint64_t header_bytes_ = 0;                               // reserved
  std::vector<TensorToWrite> tensors_;
  std::vector<uint64_t> begins_;  // from the start of the file; one more than tensors
  AtomicFile out_;
  std::atomic<uint64_t> written_{0};
};

}  // namespace rhapsode
