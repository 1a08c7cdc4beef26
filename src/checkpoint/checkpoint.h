// A Hugging Face checkpoint directory: which tensors there are and where their bytes lie. Headers are read and validated
// when it is opened; tensor bytes only when asked for. Knows safetensors and its index, no devices and no models.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/input_file.h"
#include "tensor/dtype.h"

namespace rhapsode {

struct TensorInfo {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<uint64_t> shape;  // row-major
  uint32_t shard = 0;           // index into Checkpoint::shards()
  uint64_t offset_bytes = 0;    // from the start of the shard file
  uint64_t length_bytes = 0;
};

class Checkpoint {
 public:
  // Opens model.safetensors, or the shards that model.safetensors.index.json names, in `directory`. Throws integrity
  // errors for malformed files (file, tensor or JSON pointer, byte offset, found, expected), unsupported for pickle
  // checkpoints (.bin, .pt), not_found where there are no weights.
  static Checkpoint open(const std::string& directory);

  const std::string& directory() const { return directory_; }
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* find(const std::string& name) const;
  const std::vector<InputFile>& shards() const { return shards_; }
  uint64_t total_bytes() const { return total_bytes_; }

  // Bytes [offset, offset + out.size()) of the tensor.
  void read(const TensorInfo& tensor, uint64_t offset_bytes, std::span<std::byte> out) const;

 private:
  std::string directory_;
  std::map<std::string, TensorInfo> tensors_;
  std::vector<InputFile> shards_;
  uint64_t total_bytes_ = 0;
};

// One safetensors header: `bytes` are the first bytes of the file up to the end of the header, file_bytes its whole size.
// Fills `shard` 0 in each. The fuzz target of this format.
std::vector<TensorInfo> parse_safetensors_header(std::span<const std::byte> bytes, uint64_t file_bytes,
                                                 const std::string& file);

struct TensorToWrite {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<uint64_t> shape;
};
// Writes a safetensors file tensor by tensor (in the order given, data aligned as the format asks) under a temporary
// name, then renames. `fill(i, out)` gives the bytes of tensor i.
void write_safetensors(const std::string& file, const std::vector<TensorToWrite>& tensors,
                       const std::map<std::string, std::string>& metadata,
                       const std::function<void(size_t index, std::span<std::byte> out)>& fill);

}  // namespace rhapsode
