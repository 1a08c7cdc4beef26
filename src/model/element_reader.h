// Elements of checkpoint tensors as floats in the model's dtype. Knows no formats.
#pragma once

#include <span>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "kernels/kernels.h"

namespace rhapsode::model {

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

// Throws Error(unsupported): no code stands for this value.
[[noreturn]] void refuse_value(const TensorInfo& tensor, uint64_t row, float value);

}  // namespace rhapsode::model
