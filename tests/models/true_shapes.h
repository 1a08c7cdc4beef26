// The models of the guide in their true shapes: a config.json, and a checkpoint of holes (a header, then
// little but length) that takes no room on a file system with sparse files.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace rhapsode::testing {

struct TrueShape {
  const char* name;
  const char* config;
  uint64_t file_bytes;      // of all tensors
  uint64_t tensors;         // in the file
  uint64_t token_kv_bytes;  // of one token, 16 bits
};
std::span<const TrueShape> true_shapes();
const TrueShape& true_shape(const std::string& name);

struct Holes {
  uint64_t tensors = 0;
  uint64_t bytes = 0;  // of all tensors
};
// Writes config.json and model.safetensors into an empty directory. Vectors (norms, biases, scales) are ones,
// the embedding's rows of the ids below `filled_rows` small numbers; all else is zero.
Holes write_holes(const std::string& directory, const TrueShape& shape, uint64_t filled_rows);

}  // namespace rhapsode::testing
