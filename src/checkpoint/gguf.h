// Import of GGUF files into Hugging Face checkpoints. Reading is bounded and checked; quantized blocks are
// dequantized exactly as transformers does with gguf_file=.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace rhapsode {

struct GgufImport {
  std::string path;  // the directory written
  uint64_t tensors = 0;
  uint64_t bytes = 0;              // of all tensors as written
  std::vector<std::string> notes;  // what the file holds and the checkpoint does not, one sentence each
};

// Writes config.json, model.safetensors, tokenizer.json, tokenizer_config.json (with the chat template) and
// generation_config.json into `directory` (created; refused where it already holds a checkpoint). `progress`
// is called with done and total bytes.
GgufImport import_gguf(const std::string& file, const std::string& directory, Dtype dtype,
                       const std::function<void(uint64_t done_bytes, uint64_t total_bytes)>& progress);

}  // namespace rhapsode
