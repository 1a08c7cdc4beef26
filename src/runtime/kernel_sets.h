// The kernel sets of this build as the command line may show them; kernels/ itself stays behind the wall.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rhapsode::runtime {

struct KernelSetInfo {
  std::string name;
  bool supported = false;  // by this CPU
  std::string needs;       // e.g. "AVX2, FMA, F16C"
};

std::vector<KernelSetInfo> kernel_sets();  // best first

// Bytes that `threads` threads read from memory together, in GB/s: the ceiling of token generation. Measured
// within a second; takes 128 MiB a thread meanwhile.
double measured_read_gb_s(const std::string& isa, uint32_t threads);

}  // namespace rhapsode::runtime
