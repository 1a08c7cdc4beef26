// Quantizing a matrix while it is read: panel by panel on all threads, never holding the matrix twice. Knows
// bitsandbytes' numbers through quant/codec, no kernels' insides.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "arch/spec.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "kernels/kernels.h"
#include "model/element_reader.h"
#include "model/weights.h"

namespace rhapsode::model {

struct QuantizedLoad {
  const Checkpoint* checkpoint;
  const kernels::Kernels* kernels;
  Dtype dtype;  // of the model
  ThreadPool* pool;
  std::function<void(uint64_t bytes)> done;  // called by any thread, with the bytes of a panel
};

// Fills the panels of the part from its source. Throws Error(unsupported) where a weight is not finite.
void load_quantized(const QuantizedLoad& load, const arch::LinearPart& source, uint64_t cols,
                    Linear::Part& part);

}  // namespace rhapsode::model
