// The instruction whose peak a matrix product is measured against: the fastest that its route could be made
// of, not the one that our kernel happens to use.
#pragma once

#include "devices/roofline.h"
#include "model/linear.h"

namespace rhapsode::runtime {

// `dtype`: of the model.
inline devices::Instruction route_instruction(const kernels::Kernels& kernels,
                                              const plan::WeightFormat& format, Dtype dtype) {
  switch (model::route_of(format)) {
    case model::Route::dense:
      return model::multiplies_pairs(kernels, format, dtype) ? devices::Instruction::bf16
                                                             : devices::Instruction::fma;
    case model::Route::fixed:
      return model::multiplies_codes(kernels, format, dtype) ? devices::Instruction::bf16
                                                             : devices::Instruction::int16;
    case model::Route::int8:
    case model::Route::bytes:
      return devices::Instruction::int8;
    case model::Route::ternary:
      return devices::Instruction::int8_words;
  }
  return devices::Instruction::fma;
}

}  // namespace rhapsode::runtime
