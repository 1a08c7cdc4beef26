// One stored element of a checkpoint as float.
#pragma once

#include <cstring>

#include "tensor/dtype.h"

namespace rhapsode::model {

// f64, f32, f16 or bf16; f64 is rounded to fp32.
inline float element_to_float(Dtype dtype, const std::byte* at) {
  if (dtype == Dtype::f64) {
    double x = 0;
    std::memcpy(&x, at, sizeof x);
    return static_cast<float>(x);
  }
  if (dtype == Dtype::f32) {
    float x = 0;
    std::memcpy(&x, at, sizeof x);
    return x;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof bits);
  return dtype == Dtype::bf16 ? bf16_to_float(bits) : f16_to_float(bits);
}

}  // namespace rhapsode::model
