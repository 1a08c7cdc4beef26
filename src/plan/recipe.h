// A recipe: which matrices of a model are held in 4 bits, in 8 or as they are, so that all fit into a number
// of bytes at the smallest loss. Owns the groups, the choice and how a config says it. A pure function of
// bytes and of losses that somebody measured; loads nothing.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "arch/spec.h"
#include "config/config.h"

namespace rhapsode::plan {

enum class Bits : uint8_t { four, eight, plain };
constexpr std::array<Bits, 3> kAllBits{Bits::four, Bits::eight, Bits::plain};
constexpr size_t index_of(Bits bits) {
  return static_cast<size_t>(bits);
}

// What changes its format as one: the matrices of a block's attention, or of its feed-forward part.
struct MatrixGroup {
  std::string name;  // model.layers.3.mlp
  size_t layer = 0;
  bool attention = false;
  std::vector<std::string> entries;  // names that cover its matrices and no others
};
// Two of each block, in model order.
std::vector<MatrixGroup> matrix_groups(const arch::ModelTensors& tensors);
// The matrices of a group.
std::array<const arch::LinearSource*, 2> sources_of(const MatrixGroup& group,
                                                    const arch::ModelTensors& tensors);

struct GroupOption {
  Bits bits = Bits::plain;
  uint64_t bytes = 0;
  double loss = 0;  // of this group alone, in any unit that adds up
};

// One option of each group: from the smallest ones upwards, again and again the step that takes away the most
// loss for its bytes. nullopt where the smallest do not fit. Never exceeds the budget.
std::optional<std::vector<Bits>> choose_bits(const std::vector<std::vector<GroupOption>>& groups,
                                             uint64_t budget_bytes);

// The same as keys of a model entry.
struct Recipe {
  config::Quantization quantization = config::Quantization::none;
  std::vector<std::string> skip;       // llm_int8_skip_modules, with those that the entry had
  std::vector<std::string> eight_bit;  // load_in_8bit_modules
};
// four_bit: nf4 or fp4, where 4 bits are chosen at all.
Recipe recipe_of(const std::vector<MatrixGroup>& groups, const std::vector<Bits>& bits,
                 config::Quantization four_bit, const std::vector<std::string>& skipped_before);
void apply_recipe(const Recipe& recipe, config::ModelEntry& entry);

// Names that differ in one number become one entry: model\.layers\.(0|3)\.mlp.
std::vector<std::string> merged_entries(const std::vector<std::string>& names);

}  // namespace rhapsode::plan
