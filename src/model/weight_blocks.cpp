#include "model/weight_blocks.h"

#include "quant/codec.h"

namespace rhapsode::model {

void quantize_blocks(const kernels::Kernels& kernels, const quant::FourBitCode& code,
                     std::span<const float> x, uint8_t* codes, float* absmax) {
  const quant::Format format = &code == &quant::kNf4 ? quant::Format::nf4 : quant::Format::fp4;
  const uint64_t whole = x.size() / quant::kBlockCols, rest = whole * quant::kBlockCols;
  kernels.quantize_blocks(format, x.data(), whole, codes, absmax);
  if (rest < x.size()) absmax[whole] = quant::four_bit_block(code, x.subspan(rest), false, codes + rest);
}

}  // namespace rhapsode::model
