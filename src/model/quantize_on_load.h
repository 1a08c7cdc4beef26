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
#include "model/weights.h"

namespace rhapsode::model {

// Reads elements of checkpoint tensors as floats in the model's dtype.
class ElementReader {
 public:
  ElementReader(const Checkpoint& checkpoint, const kernels::Kernels& kernels, Dtype dtype)
      : checkpoint_(&checkpoint), kernels_(&kernels), dtype_(dtype) {}

  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const kernels::Kernels& kernels() const { return *kernels_; }
  // Elements [first, first + out.size()) of the tensor in row-major order, rounded to the model's dtype.
  void read(const TensorInfo& tensor, uint64_t first, std::span<float> out);

 private:
  const Checkpoint* checkpoint_;
  const kernels::Kernels* kernels_;
  Dtype dtype_;
  std::vector<std::byte> raw_;
};

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
