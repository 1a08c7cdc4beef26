// In which format each matrix of a model and its KV cache are held: the config's quantization, made concrete.
// A pure function of the config entry and a module's name and shape; the planner counts by it and the loader
// packs by it.
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "arch/spec.h"
#include "config/config.h"
#include "quant/formats.h"

namespace rhapsode::plan {

// How one matrix is held and multiplied.
struct WeightFormat {
  quant::Format format = quant::Format::f32;
  Dtype compute = Dtype::f32;  // the product is formed and rounded in it, then in the model's dtype
  // 4-bit: dequantize to `compute` and sum in fp32, as bitsandbytes does on a CPU. False: 16-bit fixed
  // point, whose error is below that of rounding to a 16-bit dtype.
  // Ternary: every rounding of transformers. False: one rounding of the exact integer sum.
  bool exact = false;
  bool bytes = false;  // 4-bit, not exact: by int8 activations, coarser than fixed point
  // 4-bit blocks that are no runs of 64 columns (they cross rows, or are of another size) are held as their
  // dequantized values.
  const quant::FourBitCode* dequantized = nullptr;
  bool dequantized_nested = false;
  bool own_map = false;  // nested scales by the checkpoint's map, which stands behind the panels
  arch::LinearKind kind = arch::LinearKind::dense;  // of ternary weights
};

// llm_int8_threshold as bitsandbytes compares activations, which are float16 there, with it: the nearest
// float16, from above 65504 on infinity. 0 turns outlier columns off, which is NaN here.
float outlier_threshold(double asked);

struct Formats {
  Dtype dtype = Dtype::f32;     // of the model
  Dtype kv_dtype = Dtype::f32;  // of the KV cache: the model's, or i8
  config::Quantization quantization = config::Quantization::none;
  bool nested = true;  // bnb_4bit_use_double_quant
  Dtype compute = Dtype::f32;
  bool exact = false;                   // numerics: hf-exact
  bool bytes = false;                   // numerics: int8
  float int8_threshold = 6.0f;          // as outlier_threshold() has it
  bool int8_row_outliers = false;       // llm_int8_outliers: row
  std::optional<Dtype> stored_compute;  // of weights that are stored in 4 bits, over the checkpoint's own
  std::vector<std::string> skipped;     // patterns of modules that stay in dtype
  std::vector<std::string> eight_bit;   // of those that 4bit holds in 8 bits

  static Formats dense(Dtype dtype);
  static Formats choose(const config::ModelEntry& entry, Dtype dtype, const arch::ModelTensors& tensors,
                        const arch::StoredQuantization& stored);

  WeightFormat of(const arch::LinearPart& part, uint64_t cols) const;

 private:
  WeightFormat four_bit(bool nf4, bool is_nested, uint64_t block, Dtype to, uint64_t cols) const;
};

}  // namespace rhapsode::plan
