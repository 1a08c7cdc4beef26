// Reading single rows of quantized panels. Internal to src/quant; the others go through formats.h.
#pragma once

#include "quant/formats.h"

namespace rhapsode::quant {

void unpack_int8_row(const std::byte* panel, uint32_t row, uint64_t cols, float* out);
void unpack_four_bit_row(Format format, const std::byte* panel, uint32_t row, uint64_t cols, float* out);

void unpack_ternary_row(const std::byte* panel, uint32_t row, uint64_t cols, float* out);

}  // namespace rhapsode::quant
