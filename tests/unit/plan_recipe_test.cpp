// Choosing formats under a budget, and saying them in a config.
#include "plan/recipe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>

#include "models/golden_model.h"
#include "plan/formats.h"

namespace rhapsode::plan {
namespace {

using config::Quantization;
using Options = std::vector<std::vector<GroupOption>>;

const GroupOption& option_of(const std::vector<GroupOption>& options, Bits bits) {
  return *std::find_if(options.begin(), options.end(), [&](const auto& o) { return o.bits == bits; });
}

struct Sums {
  uint64_t bytes = 0;
  double loss = 0;
};

Sums sums(const Options& groups, const std::vector<Bits>& bits) {
  Sums out;
  for (size_t g = 0; g < groups.size(); ++g) {
    out.bytes += option_of(groups[g], bits[g]).bytes;
    out.loss += option_of(groups[g], bits[g]).loss;
  }
  return out;
}

Options random_groups(std::mt19937& random, size_t count) {
  std::uniform_real_distribution<double> loss(0.0, 1.0);
  Options groups;
  for (size_t g = 0; g < count; ++g) {
    const uint64_t size = 1 + random() % 100;
    const double most = loss(random);
    groups.push_back({{Bits::four, size, most},
                      {Bits::eight, 2 * size, most * 0.1 * loss(random)},
                      {Bits::plain, 4 * size, 0.0}});
  }
  return groups;
}

TEST(Recipe, NeverExceedsTheBudgetAndIsNoWorseThanAnyUniformChoice) {
  std::mt19937 random(7);
  for (int i = 0; i < 2000; ++i) {
    const Options groups = random_groups(random, 1 + random() % 12);
    uint64_t least = 0;
    for (const auto& options : groups) least += options[0].bytes;
    const uint64_t budget = random() % (5 * least);
    const auto chosen = choose_bits(groups, budget);
    ASSERT_EQ(chosen.has_value(), budget >= least);
    if (!chosen) continue;
    EXPECT_LE(sums(groups, *chosen).bytes, budget);
    const std::vector<Bits> four(groups.size(), Bits::four), plain(groups.size(), Bits::plain);
    EXPECT_LE(sums(groups, *chosen).loss, sums(groups, four).loss);
    if (sums(groups, plain).bytes <= budget) {
      EXPECT_EQ(sums(groups, *chosen).loss, 0.0);
    }
  }
}

// Every choice of six groups: the greedy one is near the best.
TEST(Recipe, IsNearTheBestOfAllChoices) {
  std::mt19937 random(11);
  double greedy_sum = 0, best_sum = 0;
  for (int i = 0; i < 200; ++i) {
    const Options groups = random_groups(random, 6);
    uint64_t least = 0;
    for (const auto& options : groups) least += options[0].bytes;
    const uint64_t budget = least + random() % (2 * least);
    double best = std::numeric_limits<double>::infinity();
    for (int code = 0; code < 729; ++code) {
      std::vector<Bits> bits;
      for (int g = 0, rest = code; g < 6; ++g, rest /= 3)
        bits.push_back(kAllBits[static_cast<size_t>(rest % 3)]);
      const Sums tried = sums(groups, bits);
      if (tried.bytes <= budget) best = std::min(best, tried.loss);
    }
    const double greedy = sums(groups, *choose_bits(groups, budget)).loss;
    EXPECT_GE(greedy, best);
    greedy_sum += greedy, best_sum += best;
  }
  EXPECT_LE(greedy_sum, 1.15 * best_sum);
}

TEST(Recipe, MergesNamesThatDifferInANumber) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(merged_entries({}), Names{});
  EXPECT_EQ(merged_entries({"model.layers.3.mlp"}), Names{R"(model\.layers\.3\.mlp)"});
  EXPECT_EQ(merged_entries({"model.layers.0.mlp", "model.layers.0.self_attn", "model.layers.12.mlp"}),
            (Names{R"(model\.layers\.(0|12)\.mlp)", R"(model\.layers\.0\.self_attn)"}));
  EXPECT_EQ(merged_entries({"lm_head", "lm_head2"}), (Names{"lm_head", "lm_head2"}));
}

// Of every family: a recipe, applied to an entry, gives each group the format that was chosen for it.
TEST(Recipe, AnEntryHoldsWhatWasChosen) {
  std::mt19937 random(5);
  size_t checked = 0;
  for (const std::string& fixture : golden_fixtures()) {
    const std::string directory = golden_directory(fixture);
    arch::Architecture architecture = arch::read_architecture(directory);
    const Checkpoint checkpoint = Checkpoint::open(directory);
    const arch::ModelTensors tensors = arch::bind_tensors(architecture, checkpoint);
    if (architecture.spec.stored.kind != arch::StoredKind::none ||
        tensors.layers.front().o.parts.front().kind != arch::LinearKind::dense)
      continue;
    const std::vector<MatrixGroup> groups = matrix_groups(tensors);
    ASSERT_EQ(groups.size(), 2 * tensors.layers.size());
    std::vector<Bits> bits;
    for (size_t g = 0; g < groups.size(); ++g) bits.push_back(kAllBits[random() % 3]);
    config::ModelEntry entry;
    apply_recipe(recipe_of(groups, bits, Quantization::nf4, {}), entry);
    const Formats formats = Formats::choose(entry, Dtype::bf16, tensors, architecture.spec.stored);
    for (size_t g = 0; g < groups.size(); ++g)
      for (const arch::LinearSource* source : sources_of(groups[g], tensors))
        for (const arch::LinearPart& part : source->parts) {
          const WeightFormat format = formats.of(part, source->cols);
          const bool four = quant::is_four_bit(format.format) || format.dequantized != nullptr;
          const Bits held = four                                   ? Bits::four
                            : format.format == quant::Format::int8 ? Bits::eight
                                                                   : Bits::plain;
          EXPECT_EQ(held, bits[g]) << fixture << " " << part.module;
          ++checked;
        }
  }
  EXPECT_GE(checked, 300u);
}

}  // namespace
}  // namespace rhapsode::plan
