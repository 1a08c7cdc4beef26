// Writing a checkpoint whose linears are quantized as bitsandbytes does it, with the tensors that
// transformers reads beside them. Streams tensor by tensor on all threads. Knows no config.json and no
// tokenizer files.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "arch/spec.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "kernels/kernels.h"
#include "plan/formats.h"

namespace rhapsode::model {

struct QuantizedWrite {
  const arch::ModelTensors* tensors;
  const Checkpoint* checkpoint;
  const plan::Formats* formats;
  const kernels::Kernels* kernels;
  ThreadPool* pool;
  Dtype storage = Dtype::u8;  // the type under which 4-bit codes are filed
  uint64_t max_shard_bytes = 0;
  std::string directory;                                        // exists
  std::function<void(uint64_t done, uint64_t total)> progress;  // on the caller's thread, in bytes written
};

struct QuantizedResult {
  uint64_t bytes = 0;                          // of all tensors
  std::map<std::string, std::string> formats;  // of quantized modules: int8, nf4, nf4-nested, …
};

// model.safetensors, or shards and their index. Throws Error(unsupported) for weights that cannot be
// quantized.
QuantizedResult write_quantized(const QuantizedWrite& write);

}  // namespace rhapsode::model
