// The chooser behind `quantize --fit`: formats for a model's matrices, group by group, so that all of it fits
// into a number of bytes and its answers stay as near as possible to those of the unquantized model. Measures
// on a text; the bytes are the planner's. Writes nothing.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "plan/recipe.h"
#include "runtime/assembly.h"

namespace rhapsode::runtime {

struct FitRequest {
  uint64_t budget_bytes = 0;              // of everything that the plan counts, on all devices
  std::vector<uint32_t> ids;              // of the text to measure on
  uint64_t window = 512;                  // tokens of one context
  bool portable = false;                  // one format and a skip list, which transformers understands too
  std::optional<uint64_t> process_bytes;  // what the process counts for; absent: measured
  std::function<void(uint64_t done_tokens, uint64_t total_tokens)> progress;  // may throw to stop
};

struct FitGroup {
  std::string name;
  plan::Bits bits = plan::Bits::plain;        // chosen
  std::array<uint64_t, 3> bytes{};            // by Bits: of the matrices, scales and padding included
  std::array<std::optional<double>, 3> loss;  // by Bits: divergence where this group alone is held so, on
                                              // the text's first 256 tokens
};

// The whole model in one format.
struct FitUniform {
  plan::Bits bits = plan::Bits::plain;
  uint64_t total_bytes = 0, weights_bytes = 0;
  bool fits = false;
  std::optional<double> divergence;  // absent: not measured, because it is not needed
};

struct Fit {
  plan::Recipe recipe;
  plan::Plan plan;  // of the recipe
  uint64_t total_bytes = 0, weights_bytes = 0;
  double divergence = 0;  // of the recipe, measured as a whole
  std::vector<FitGroup> groups;
  std::vector<FitUniform> uniforms;            // 4bit, 8bit, unquantized
  std::map<std::string, std::string> formats;  // module -> nf4-nested, int8, bfloat16, …
};

// The assembly's active entry is the recipe's afterwards. Throws does_not_fit where not even the smallest
// formats do, unsupported where the checkpoint is quantized already.
Fit fit(Assembly& assembly, const FitRequest& request);

// The format of each matrix of the assembly's active entry.
std::map<std::string, std::string> module_formats(const Assembly& assembly);

// As --set would say it: {quantization=4bit, quantization_config.llm_int8_skip_modules=[…], …}. Keys that the
// entry did not have and the recipe does not need are left out.
std::vector<std::pair<std::string, std::string>> recipe_keys(const plan::Recipe& recipe,
                                                             const config::ModelEntry& before);

}  // namespace rhapsode::runtime
