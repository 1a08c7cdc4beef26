// Loading a matrix that the checkpoint holds quantized: its codes and scales go into panels as they are.
// Knows bitsandbytes' tensors, no kernels' insides.
#pragma once

#include "model/quantize_on_load.h"

namespace rhapsode::model {

// Fills the panels of the part from its stored codes. Throws Error(integrity) where the small texts and maps
// beside the codes contradict the headers or each other, or a scale is not finite.
void load_stored(const QuantizedLoad& load, const arch::LinearPart& source, uint64_t cols,
                 Linear::Part& part);

}  // namespace rhapsode::model
