// Products with 4-bit weights as bitsandbytes dequantizes them: each code's value times absmax in fp32, then
// rounded to a dtype D. Part of the table in kernels.h, one for each 4-bit format.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace rhapsode::kernels {

struct Dequantized {
  // Kernels::gemv: the chain of x, which holds values of D, with such weights.
  void (*gemv)(Dtype D, const void* panel_a, const void* panel_b, const float* x, uint64_t cols, float* y_a,
               float* y_b);
  // Kernels::expand; k_begin and k_count are multiples of 64.
  void (*expand)(Dtype D, const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count, float* out);
};

}  // namespace rhapsode::kernels
