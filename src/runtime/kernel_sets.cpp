#include "runtime/kernel_sets.h"

#include "base/thread_pool.h"
#include "devices/roofline.h"
#include "kernels/kernels.h"

namespace rhapsode::runtime {

std::vector<KernelSetInfo> kernel_sets() {
  std::vector<KernelSetInfo> out;
  for (const kernels::KernelSet& set : kernels::kernel_sets())
    out.push_back({std::string(set.kernels->name), set.supported, std::string(set.needs)});
  return out;
}

double measured_read_gb_s(const std::string& isa, uint32_t threads) {
  ThreadPool pool(threads);
  devices::RooflineOptions options;
  options.bytes_per_thread = 128 << 20;
  options.rounds = 3;
  return devices::measure_roofline(kernels::select_kernels(isa), pool, options).best_read().median;
}

}  // namespace rhapsode::runtime
