#include "runtime/kernel_sets.h"

#include "kernels/kernels.h"

namespace rhapsode::runtime {

std::vector<KernelSetInfo> kernel_sets() {
  std::vector<KernelSetInfo> out;
  for (const kernels::KernelSet& set : kernels::kernel_sets())
    out.push_back({std::string(set.kernels->name), set.supported, std::string(set.needs)});
  return out;
}

}  // namespace rhapsode::runtime
