// Reads the ternary values of a linear from a checkpoint: packed bytes are unpacked, full weights are rounded
// by the mean of their magnitudes. Knows no packed layout of kernels.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "arch/spec.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"

namespace rhapsode::model {

class TernarySource {
 public:
  // Sums up the tensors that have to be rounded, on all threads.
  TernarySource(const arch::ModelTensors& tensors, const Checkpoint& checkpoint, Dtype dtype,
                ThreadPool& pool);

  // The factor of a part's product: its weight_scale, or the size of a rounded weight.
  float scale(const arch::LinearPart& part) const;

  // Rows [first, first + count) of a part as -1, 0, 1: [count][cols]. `staging` is the caller's own scratch.
  void read_rows(const arch::LinearPart& part, uint64_t cols, uint64_t first, uint64_t count,
                 std::vector<std::byte>& staging, std::vector<int8_t>& values) const;

 private:
  void read_row(const arch::LinearPart& part, const arch::RowRun& run, uint64_t cols, uint64_t row,
                std::vector<std::byte>& staging, std::span<int8_t> out) const;

  const Checkpoint& checkpoint_;
  Dtype dtype_;
  std::map<std::string, float> factors_;  // of tensors that are rounded
};

}  // namespace rhapsode::model
