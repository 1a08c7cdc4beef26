// See element_reader.h.
#include "model/element_reader.h"

#include <cmath>
#include <cstring>
#include <string>

#include "base/error.h"

namespace rhapsode::model {

void ElementReader::read(const TensorInfo& tensor, uint64_t first, std::span<float> out) {
  const uint32_t width = dtype_bytes(tensor.dtype);
  raw_.resize(out.size() * width);
  checkpoint_->read(tensor, first * width, raw_);
  if (tensor.dtype == Dtype::f64) {
    for (size_t i = 0; i < out.size(); ++i) {
      double x;
      std::memcpy(&x, raw_.data() + i * width, sizeof x);
      out[i] = static_cast<float>(x);
    }
  } else {
    kernels_->load(tensor.dtype, raw_.data(), out.size(), out.data());
  }
  if (tensor.dtype != dtype_) kernels_->round_row(dtype_, out.data(), out.size());
}

void refuse_value(const TensorInfo& tensor, uint64_t row, float value) {
  throw Error(ErrorKind::unsupported, "not-finite", "a weight that is not finite cannot be quantized")
      .at(tensor.name)
      .saw((std::isnan(value) ? "NaN" : "infinity") + std::string(" in row ") + std::to_string(row))
      .hint("load the model without quantization, or name the module in llm_int8_skip_modules");
}

}  // namespace rhapsode::model
