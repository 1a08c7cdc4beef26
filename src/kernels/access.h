// How far ahead of their reads kernels ask memory for weights. It changes times and no result; which distance
// is best differs between CPUs that have the same instructions, so it is measured while a model answers
// (model/access_tuner.h).
#pragma once

#include <cstdint>

namespace rhapsode::kernels {

// In bytes; 0: they do not ask, and the machine's own prefetch is left alone.
struct Access {
  uint32_t streamed = 0;  // dense and int8 weights, whose products take less time than their bytes
  uint32_t unpacked = 0;  // 4-bit and ternary weights, which are computed with for longer than they are read
};

// What the kernels of all sets follow. select_kernels makes it that of the set; written only between passes.
extern Access access;

}  // namespace rhapsode::kernels
