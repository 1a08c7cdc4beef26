// Names and shapes of the tensors that a config.json asks for: what a checkpoint of a given shape must hold.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "arch/registry.h"

namespace rhapsode::testing {

struct WantedTensor {
  uint64_t rows = 0;
  uint64_t cols = 0;  // 0 = a vector
  bool packed = false;
};

// By name. Packed rows are counted unpacked.
std::map<std::string, WantedTensor> wanted_tensors(const arch::Architecture& architecture);

}  // namespace rhapsode::testing
