// A model's checkpoint written anew with its linears quantized: a directory that transformers with
// bitsandbytes reads. The directory appears whole or not at all.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "runtime/assembly.h"

namespace rhapsode::runtime {

struct QuantizeRequest {
  std::string directory;  // must not exist, or be empty
  uint64_t max_shard_bytes = 5'000'000'000;
  std::function<void(uint64_t done, uint64_t total)> progress;  // may throw to stop
};

struct Quantized {
  std::string path;
  uint64_t bytes = 0;                          // of the tensors
  std::map<std::string, std::string> formats;  // module -> int8, nf4, nf4-nested, fp4, fp4-nested
};

// As the entry's quantization says. A checkpoint that is quantized already is copied as it is.
Quantized quantize(const Assembly& assembly, const QuantizeRequest& request);

}  // namespace rhapsode::runtime
