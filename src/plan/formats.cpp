#include "plan/formats.h"

#include <algorithm>

#include "base/error.h"
#include "config/skip_entry.h"

namespace rhapsode::plan {
namespace {

using arch::StoredKind;
using config::Quantization;
using quant::Format;

Error contradiction(const config::Origin& origin, const char* key, const std::string& message) {
  return Error(ErrorKind::config, "already-quantized", message)
      .in(origin.file, origin.line, origin.column)
      .at(key);
}

template <class Body>
void for_parts(const arch::ModelTensors& tensors, Body body) {
  for (const arch::LinearPart& part : tensors.lm_head.parts) body(part);
  for (const arch::LayerTensors& layer : tensors.layers)
    for (const arch::LinearSource* source : {&layer.qkv, &layer.o, &layer.up, &layer.down})
      for (const arch::LinearPart& part : source->parts) body(part);
}

void check_ternary(const config::ModelEntry& entry, const arch::ModelTensors& tensors) {
  if (!entry.quantization || entry.quantization->value == Quantization::none || tensors.layers.empty() ||
      tensors.layers.front().o.parts.front().kind == arch::LinearKind::dense)
    return;
  const config::Origin& origin = entry.quantization->origin;
  throw Error(ErrorKind::unsupported, "already-quantized", "the checkpoint's weights are ternary already")
      .in(origin.file, origin.line, origin.column)
      .at("quantization")
      .want("null")
      .hint("remove the key: 2 bits a weight are used as they are");
}

// What the YAML says of weights that are quantized already must be what they are.
void check_stored(const config::ModelEntry& entry, const arch::ModelTensors& tensors,
                  const arch::StoredQuantization& stored) {
  const bool eight = stored.kind == StoredKind::int8;
  if (stored.kind == StoredKind::gptq || stored.kind == StoredKind::awq) {
    if (!entry.quantization || entry.quantization->value == Quantization::none) return;
    throw contradiction(entry.quantization->origin, "quantization",
                        "the checkpoint's weights are quantized already, by another method")
        .saw(stored.kind == StoredKind::gptq ? "gptq in config.json" : "awq in config.json")
        .want("null")
        .hint("remove the key, or name a checkpoint that is not quantized");
  }
  if (entry.quantization && entry.quantization->value != Quantization::none &&
      (entry.quantization->value == Quantization::int8) != eight)
    throw contradiction(entry.quantization->origin, "quantization",
                        "the checkpoint's weights are quantized already, to another number of bits")
        .saw(eight ? "4bit" : "8bit")
        .want(eight ? "8bit, as they are stored, or null" : "4bit, as they are stored, or null")
        .hint("remove the key, or name a checkpoint that is not quantized");
  const config::QuantizationConfig& asked = entry.quantization_config;
  if (asked.bnb_4bit_quant_type && !eight && (asked.bnb_4bit_quant_type->value == "nf4") != stored.nf4)
    throw contradiction(asked.bnb_4bit_quant_type->origin, "quantization_config.bnb_4bit_quant_type",
                        "the checkpoint's weights are quantized already, with another code")
        .saw(asked.bnb_4bit_quant_type->value)
        .want(stored.nf4 ? "nf4" : "fp4")
        .hint("remove the key: the codes are used as they are");
  if (asked.load_in_8bit_modules && !asked.load_in_8bit_modules->value.empty())
    throw contradiction(asked.load_in_8bit_modules->origin, "quantization_config.load_in_8bit_modules",
                        "the checkpoint's weights are quantized already, each to the bits that it has")
        .saw(eight ? "8bit" : "4bit")
        .want("no such key")
        .hint("remove the key, or name a checkpoint that is not quantized");
  for_parts(tensors, [&](const arch::LinearPart& part) {
    if (part.stored.kind == StoredKind::none) return;
    if (asked.bnb_4bit_use_double_quant && !eight &&
        asked.bnb_4bit_use_double_quant->value != part.stored.nested)
      throw contradiction(asked.bnb_4bit_use_double_quant->origin,
                          "quantization_config.bnb_4bit_use_double_quant",
                          "the checkpoint's scales are stored otherwise")
          .saw(asked.bnb_4bit_use_double_quant->value ? "true" : "false")
          .want((part.stored.nested ? "true: so is " : "false: so is ") + part.module)
          .hint("remove the key: the scales are used as they are");
    if (!asked.llm_int8_skip_modules) return;
    for (const std::string& entry_text : asked.llm_int8_skip_modules->value)
      if (config::skip_matches(entry_text, part.module))
        throw contradiction(asked.llm_int8_skip_modules->origin, "quantization_config.llm_int8_skip_modules",
                            "a module that shall stay as it was is stored quantized")
            .saw("\"" + entry_text + "\"")
            .want("modules that the checkpoint stores plain; " + part.module + " is not")
            .hint("name a checkpoint that is not quantized");
  });
}

// Of 4bit alone.
std::vector<std::string> eight_bit_list(const config::ModelEntry& entry) {
  const auto& list = entry.quantization_config.load_in_8bit_modules;
  const auto now = entry.quantization ? entry.quantization->value : Quantization::none;
  if (!list || now == Quantization::none || now == Quantization::int8) return {};
  return list->value;
}

}  // namespace

float outlier_threshold(double asked) {
  if (asked == 0.0) return std::numeric_limits<float>::quiet_NaN();
  return round_to(Dtype::f16, static_cast<float>(asked));
}

Formats Formats::dense(Dtype dtype) {
  Formats formats;
  formats.dtype = formats.compute = formats.kv_dtype = dtype;
  return formats;
}

Formats Formats::choose(const config::ModelEntry& entry, Dtype dtype, const arch::ModelTensors& tensors,
                        const arch::StoredQuantization& stored) {
  Formats formats = dense(dtype);
  check_ternary(entry, tensors);
  const config::QuantizationConfig& asked = entry.quantization_config;
  if (stored.kind != StoredKind::none) {
    check_stored(entry, tensors, stored);
    formats.int8_threshold = outlier_threshold(stored.int8_threshold);
    if (asked.bnb_4bit_compute_dtype) formats.stored_compute = asked.bnb_4bit_compute_dtype->value;
  } else {
    if (entry.quantization) formats.quantization = entry.quantization->value;
    if (asked.bnb_4bit_use_double_quant) formats.nested = asked.bnb_4bit_use_double_quant->value;
    if (asked.bnb_4bit_compute_dtype) formats.compute = asked.bnb_4bit_compute_dtype->value;
    if (asked.llm_int8_skip_modules) formats.skipped = asked.llm_int8_skip_modules->value;
    const std::string& head = tensors.lm_head.parts.front().module;
    const auto names_head = [&](const std::string& entry_text) {
      return config::skip_matches(entry_text, head);
    };
    if (std::none_of(formats.skipped.begin(), formats.skipped.end(), names_head))
      formats.skipped.push_back(head);
    formats.eight_bit = eight_bit_list(entry);
  }
  if (asked.llm_int8_threshold) formats.int8_threshold = outlier_threshold(asked.llm_int8_threshold->value);
  if (entry.kv_cache_dtype && entry.kv_cache_dtype->value == "int8") formats.kv_dtype = Dtype::i8;
  if (entry.numerics) {
    formats.exact = entry.numerics->value == "hf-exact";
    formats.bytes = entry.numerics->value == "int8";
  }
  if (entry.llm_int8_outliers) formats.int8_row_outliers = entry.llm_int8_outliers->value == "row";
  return formats;
}

WeightFormat Formats::four_bit(bool nf4, bool is_nested, uint64_t block, Dtype to, uint64_t cols) const {
  WeightFormat choice;
  choice.compute = to;
  choice.bytes = bytes;
  choice.exact = exact || (to == Dtype::f32 && !bytes);
  if (cols % quant::kBlockCols != 0 || block != quant::kBlockCols) {
    choice.format = quant::dense_format(to);
    choice.dequantized = nf4 ? &quant::kNf4 : &quant::kFp4;
    choice.dequantized_nested = is_nested;
  } else if (nf4) {
    choice.format = is_nested ? Format::nf4_nested : Format::nf4;
  } else {
    choice.format = is_nested ? Format::fp4_nested : Format::fp4;
  }
  return choice;
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
  if (part.stored.kind == StoredKind::four_bit) {
    choice = four_bit(part.stored.nf4, part.stored.nested, part.stored.block,
                      stored_compute.value_or(part.stored.compute), cols);
    choice.own_map = quant::is_nested(choice.format);
    return choice;
  }
  if (part.stored.kind == StoredKind::gptq || part.stored.kind == StoredKind::awq) return choice;
  const auto matches = [&](const std::string& pattern) { return config::skip_matches(pattern, part.module); };
  const bool eight = part.stored.kind == StoredKind::int8;
  if (!eight && (quantization == Quantization::none || std::any_of(skipped.begin(), skipped.end(), matches)))
    return choice;
  if (eight || quantization == Quantization::int8 ||
      std::any_of(eight_bit.begin(), eight_bit.end(), matches)) {
    choice.format = Format::int8;
    return choice;
  }
  return four_bit(quantization == Quantization::nf4, nested, quant::kBlockCols, compute, cols);
}

}  // namespace rhapsode::plan
