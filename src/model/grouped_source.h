// Loading a matrix that the checkpoint holds as GPTQ or AWQ codes: it is unpacked to the values that they
// mean, in the model's dtype. Knows no kernels' insides.
#pragma once

#include "model/quantize_on_load.h"

namespace rhapsode::model {

// Fills the dense panels of the part. Throws Error(integrity) for a group index that is out of range or a
// scale that is not finite.
void load_grouped(const QuantizedLoad& load, const arch::LinearPart& source, uint64_t cols,
                  Linear::Part& part);

}  // namespace rhapsode::model
