#include "plan/formats.h"

#include <algorithm>

#include "base/error.h"
#include "plan/module_tree.h"

namespace rhapsode::plan {

using config::Quantization;
using quant::Format;

Formats Formats::dense(Dtype dtype) {
  Formats formats;
  formats.dtype = formats.compute = formats.kv_dtype = dtype;
  return formats;
}

Formats Formats::choose(const config::ModelEntry& entry, Dtype dtype, const arch::ModelTensors& tensors) {
  Formats formats = dense(dtype);
  if (entry.quantization) formats.quantization = entry.quantization->value;
  const config::QuantizationConfig& asked = entry.quantization_config;
  if (asked.bnb_4bit_use_double_quant) formats.nested = asked.bnb_4bit_use_double_quant->value;
  if (asked.bnb_4bit_compute_dtype) formats.compute = asked.bnb_4bit_compute_dtype->value;
  if (asked.llm_int8_threshold) formats.int8_threshold = static_cast<float>(asked.llm_int8_threshold->value);
  if (formats.int8_threshold == 0.0f) formats.int8_threshold = std::numeric_limits<float>::quiet_NaN();
  if (asked.llm_int8_skip_modules) formats.skipped = asked.llm_int8_skip_modules->value;
  formats.skipped.push_back(tensors.lm_head.parts.front().module);
  if (formats.quantization != Quantization::none && !tensors.layers.empty() &&
      tensors.layers.front().o.parts.front().kind != arch::LinearKind::dense)
    throw Error(ErrorKind::unsupported, "already-quantized", "the checkpoint's weights are ternary already")
        .in(entry.quantization->origin.file, entry.quantization->origin.line,
            entry.quantization->origin.column)
        .at("quantization")
        .want("null")
        .hint("remove the key: 2 bits a weight are used as they are");
  if (entry.kv_cache_dtype && entry.kv_cache_dtype->value == "int8") formats.kv_dtype = Dtype::i8;
  if (entry.numerics) formats.exact = entry.numerics->value == "hf-exact";
  if (entry.llm_int8_outliers) formats.int8_row_outliers = entry.llm_int8_outliers->value == "row";
  return formats;
}

WeightFormat Formats::of(const arch::LinearPart& part, uint64_t cols) const {
  WeightFormat choice;
  choice.format = quant::dense_format(dtype);
  choice.compute = dtype;
  if (part.kind != arch::LinearKind::dense) {
    choice.format = Format::ternary;
    choice.kind = part.kind;
    choice.exact = exact;
    return choice;
  }
  const auto matches = [&](const std::string& pattern) { return skip_matches(pattern, part.module); };
  if (quantization == Quantization::none || std::any_of(skipped.begin(), skipped.end(), matches))
    return choice;
  if (quantization == Quantization::int8) {
    choice.format = Format::int8;
    return choice;
  }
  const bool nf4 = quantization == Quantization::nf4;
  choice.compute = compute;
  choice.exact = exact || compute == Dtype::f32;
  if (cols % quant::kBlockCols != 0) {
    choice.format = quant::dense_format(compute);
    choice.dequantized = nf4 ? &quant::kNf4 : &quant::kFp4;
    choice.dequantized_nested = nested;
  } else if (nf4) {
    choice.format = nested ? Format::nf4_nested : Format::nf4;
  } else {
    choice.format = nested ? Format::fp4_nested : Format::fp4;
  }
  return choice;
}

}  // namespace rhapsode::plan
