// A Hugging Face checkpoint directory: which tensors there are and where their bytes lie. Headers are read
// and validated when it is opened; tensor bytes only when asked for. Knows safetensors and its index, no
// devices and no models.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
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
  // The spelling of a type that safetensors has and we cannot compute with ("F4", "C64", …); then `dtype`
  // says nothing. Empty for every tensor of Checkpoint::tensors().
  std::string foreign_dtype;
};

class Checkpoint {
 public:
  // Opens model.safetensors, or the shards that model.safetensors.index.json names, in `directory`. Throws
  // integrity errors for malformed files (file, tensor or JSON pointer, byte offset, found, expected),
  // unsupported for pickle checkpoints (.bin, .pt), not_found where there are no weights.
  static Checkpoint open(const std::string& directory);

  const std::string& directory() const { return directory_; }
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  // nullptr where there is none. A tensor of foreign_tensors() is an unsupported error: it is there and
  // cannot be used.
  const TensorInfo* find(const std::string& name) const;
  // Tensors of types that we cannot compute with. They do not harm a model that does not ask for them.
  const std::map<std::string, TensorInfo>& foreign_tensors() const { return foreign_tensors_; }
  const std::vector<InputFile>& shards() const { return shards_; }
  uint64_t total_bytes() const { return total_bytes_; }

  // Bytes [offset, offset + out.size()) of the tensor.
  void read(const TensorInfo& tensor, uint64_t offset_bytes, std::span<std::byte> out) const;
  // Asks for the tensor's bytes before they are read, so that a disk works while we compute.
  void read_ahead(const TensorInfo& tensor) const;

  // Reads a whole shard into memory, front to back; until release_shard, reads of its tensors are copies from
  // there. No thread may be reading.
  void hold_shard(uint32_t shard) const;
  void release_shard(uint32_t shard) const;

 private:
  void add_shard(const std::string& file);

  std::string directory_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, TensorInfo> foreign_tensors_;
  std::vector<InputFile> shards_;
  uint64_t total_bytes_ = 0;
  mutable std::map<uint32_t, std::vector<std::byte>> held_;
};

// One safetensors header: `bytes` are the first bytes of the file up to the end of the header, file_bytes its
// whole size. In the order of their data; `shard` is 0 in each, foreign types are included. The fuzz target
// of this format.
std::vector<TensorInfo> parse_safetensors_header(std::span<const std::byte> bytes, uint64_t file_bytes,
                                                 const std::string& file);

// An index: which shard holds which tensor, and the sum of all bytes where the file says it. The fuzz target
// of index files; the shards' own headers are compared with it by Checkpoint::open.
struct SafetensorsIndex {
  std::map<std::string, std::string>
      shard_of;  // tensor -> file name, relative to the directory and inside it
  std::optional<uint64_t> total_size_bytes;
};
SafetensorsIndex parse_safetensors_index(std::string_view text, const std::string& file);

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxRank = 64;

struct TensorToWrite {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<uint64_t> shape;
};
// Writes a safetensors file tensor by tensor under a temporary name, then renames. Data stand in the order
// given and start at a multiple of 8 bytes; the format allows no gap between tensors. `fill(i, out)` gives
// the bytes of tensor i.
void write_safetensors(const std::string& file, const std::vector<TensorToWrite>& tensors,
                       const std::map<std::string, std::string>& metadata,
                       const std::function<void(size_t index, std::span<std::byte> out)>& fill);

}  // namespace rhapsode
