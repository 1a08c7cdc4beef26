// Speed of single kernels beside the limits of the machine, without a model: a row is one kernel on one
// shape. Each measurement takes turns with the limit that it is a share of, since a shared machine's limits
// move.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "devices/roofline.h"

namespace rhapsode::runtime {

struct KernelBenchOptions {
  std::string isa;       // empty: the best
  uint32_t threads = 0;  // 0: all usable cores
  uint32_t rounds = 5;
  bool quick = false;  // a tenth of the work
};

struct KernelRow {
  std::string kernel;  // "vector", "tokens" or "attention"
  std::string format;
  uint64_t rows = 0, cols = 0;  // attention: query rows and head_dim
  uint32_t tokens = 1;
  devices::Rate rate;
  std::string unit;  // "GB/s", "GFLOP/s" or "GOP/s"
  std::string limit;
  double limit_rate = 0;  // in the same unit, median
  double share = 0;
};

struct KernelBench {
  std::string cpu, isa;
  uint32_t threads = 1;
  devices::Roofline roofline;
  std::vector<KernelRow> rows;
};

// Throws Error for a kernel set that is unknown or that this CPU cannot run, and where memory cannot be had.
KernelBench bench_kernels(const KernelBenchOptions& options,
                          const std::function<void(const KernelRow&)>& done);

}  // namespace rhapsode::runtime
