// The kernel sets of this build as the command line may show them; kernels/ itself stays behind the wall.
#pragma once

#include <string>
#include <vector>

namespace rhapsode::runtime {

struct KernelSetInfo {
  std::string name;
  bool supported = false;  // by this CPU
  std::string needs;       // e.g. "AVX2, FMA, F16C"
};

std::vector<KernelSetInfo> kernel_sets();  // best first

}  // namespace rhapsode::runtime
