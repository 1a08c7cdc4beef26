// Runs of a weight's elements as 4-bit blocks: whole ones by the kernels, the short last one of a tensor by
// the codec.
#pragma once

#include <span>

#include "kernels/kernels.h"
#include "quant/four_bit.h"

namespace rhapsode::model {

// x begins at a block's start and ends at a block's or the tensor's end. codes: one a byte; absmax: one a
// block, not finite where the block has no codes.
void quantize_blocks(const kernels::Kernels& kernels, const quant::FourBitCode& code,
                     std::span<const float> x, uint8_t* codes, float* absmax);

}  // namespace rhapsode::model
