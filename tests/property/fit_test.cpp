// `quantize --fit` for budgets from too small to ample: what is chosen fits by the planner's own count, holds
// what it says, and is never worse than one format for all.
#include <gtest/gtest.h>

#include <random>

#include "models/golden_model.h"
#include "runtime/divergence.h"
#include "runtime/fit.h"
#include "runtime/generate.h"
#include "runtime/params.h"
#include "support/scratch.h"

namespace rhapsode {
namespace {

using plan::Bits;
using plan::index_of;

constexpr uint64_t kProcessBytes = 10'000'000;
constexpr uint64_t kSpare = 1 << 20;

class Opened {
 public:
  explicit Opened(const std::string& fixture, const std::string& keys = "") {
    settings_.config.file = scratch_.put(
        "rag.yaml", "generator:\n  active_model: tiny\n  models:\n    tiny:\n      model_id: \"" +
                        golden_directory(fixture) +
                        "\"\n      torch_dtype: bfloat16\n      max_context: 64\n" + keys);
    settings_.threads = 2;
    settings_.tokenizer = false;
    assembly = std::make_unique<runtime::Assembly>(runtime::assemble(settings_));
    for (uint32_t i = 0; i < 48; ++i)
      request.ids.push_back(static_cast<uint32_t>(i * 7919 % assembly->architecture.spec.vocab_size));
    request.process_bytes = kProcessBytes;
    request.window = 32;
  }
  // A fresh entry each time: a fit leaves its recipe there.
  runtime::Fit fit(uint64_t budget, bool portable = false) {
    const config::Config before = assembly->config;
    request.budget_bytes = budget;
    request.portable = portable;
    try {
      runtime::Fit made = runtime::fit(*assembly, request);
      expect_planned(made);
      expect_written(made, before.active());
      assembly->config = before;
      return made;
    } catch (...) {
      EXPECT_EQ(assembly->entry().quantization.has_value(), before.active().quantization.has_value());
      assembly->config = before;
      throw;
    }
  }

  std::unique_ptr<runtime::Assembly> assembly;
  runtime::FitRequest request;

 private:
  // The entry is the recipe's now: planned anew, it has the bytes and the formats that were said.
  void expect_planned(const runtime::Fit& made) {
    runtime::GenerateRequest typical;
    typical.params = runtime::resolve_params(*assembly);
    const runtime::RequestSize size = runtime::request_size(typical, assembly->architecture.spec.vocab_size);
    const plan::Plan plan = runtime::make_plan(*assembly, std::nullopt, size.sequences, size.logits_rows,
                                               kProcessBytes, size.choice_bytes);
    EXPECT_TRUE(plan.fits);
    EXPECT_EQ(plan::total_bytes(plan), made.total_bytes);
    EXPECT_EQ(runtime::module_formats(*assembly), made.formats);
  }
  // The keys that say the recipe, read as --set would be, say it.
  void expect_written(const runtime::Fit& made, const config::ModelEntry& before) {
    runtime::Settings settings = settings_;
    for (const auto& [key, value] : runtime::recipe_keys(made.recipe, before))
      settings.config.sets.push_back(key + "=" + value);
    EXPECT_EQ(runtime::module_formats(runtime::assemble(settings)), made.formats);
  }
  testing::Scratch scratch_;
  runtime::Settings settings_;
};

TEST(Fit, FitsEveryBudgetThatItDoesNotRefuse) {
  std::mt19937 random(3);
  int fitted = 0, refused = 0;
  for (const char* fixture : {"phi-mqa", "llama-mqa", "gpt_neox-parallel", "gemma2-caps"}) {
    Opened model(fixture);
    const runtime::Fit ample = model.fit(1'000'000'000);
    EXPECT_EQ(ample.divergence, 0.0);
    uint64_t least = UINT64_MAX, most = 0;
    for (const runtime::FitUniform& row : ample.uniforms) {
      least = std::min(least, row.total_bytes);
      most = std::max(most, row.total_bytes);
    }
    for (int i = 0; i < 12; ++i) {
      const uint64_t budget = least + kSpare - (most - least) + random() % (3 * (most - least) + 1);
      const bool portable = i % 3 == 2;
      try {
        const runtime::Fit made = model.fit(budget, portable);
        ++fitted;
        EXPECT_LE(made.total_bytes + kSpare, budget) << fixture;
        for (const runtime::FitUniform& row : made.uniforms)
          if (row.fits && row.divergence) {
            EXPECT_LE(made.divergence, *row.divergence) << fixture << " " << budget;
          }
        EXPECT_TRUE(!portable || made.recipe.eight_bit.empty());
      } catch (const Error& error) {
        ++refused;
        EXPECT_EQ(error.kind, ErrorKind::does_not_fit) << error.message;
        EXPECT_LT(budget, most + kSpare) << fixture;
      }
    }
  }
  EXPECT_GE(fitted, 20);
  EXPECT_GE(refused, 5);
}

// A group that is exchanged in a loaded model computes what a model does that was loaded so, bit for bit.
TEST(Fit, WhatIsMeasuredIsWhatALoadedRecipeGives) {
  Opened model("phi-mqa");
  const runtime::Fit ample = model.fit(1'000'000'000);
  const uint64_t plain_bytes = ample.uniforms[index_of(Bits::plain)].total_bytes;
  const runtime::Fit made = model.fit(plain_bytes + kSpare - 1);
  EXPECT_GE(made.divergence, 0.0);
  const auto session = [&](const plan::Recipe& recipe) {
    plan::apply_recipe(recipe, model.assembly->config.models.at("tiny"));
    return runtime::make_plan(*model.assembly, 32, 1, 32, kProcessBytes);
  };
  runtime::Session reference(*model.assembly, session({}), 1, nullptr);
  const runtime::Divergence divergence(reference, model.request.ids, 32, nullptr);
  EXPECT_EQ(divergence.of(reference, divergence.tokens()), 0.0);
  const std::vector<plan::MatrixGroup> groups = plan::matrix_groups(model.assembly->tensors);
  for (const Bits bits : {Bits::four, Bits::eight})
    for (size_t g = 0; g < groups.size(); ++g) {
      std::vector<Bits> one(groups.size(), Bits::plain);
      one[g] = bits;
      const plan::Plan plan = session(plan::recipe_of(groups, one, config::Quantization::nf4, {}));
      runtime::Session loaded(*model.assembly, plan, 1, nullptr);
      EXPECT_EQ(divergence.of(loaded, divergence.tokens()), *made.groups[g].loss[index_of(bits)])
          << groups[g].name;
    }
  const std::vector<Bits> eight(groups.size(), Bits::eight);
  runtime::Session all(*model.assembly,
                       session(plan::recipe_of(groups, eight, config::Quantization::nf4, {})), 1, nullptr);
  EXPECT_EQ(divergence.of(all, divergence.tokens()), *made.uniforms[index_of(Bits::eight)].divergence);
}

// Modules that the user leaves as they are stay so.
TEST(Fit, KeepsTheEntrysOwnSkipList) {
  Opened model("phi-mqa", "      quantization_config: {llm_int8_skip_modules: [dense]}\n");
  const runtime::Fit ample = model.fit(1'000'000'000);
  uint64_t least = UINT64_MAX;
  for (const runtime::FitUniform& row : ample.uniforms) least = std::min(least, row.total_bytes);
  const runtime::Fit made = model.fit(least + kSpare);
  EXPECT_EQ(made.formats.at("model.layers.0.self_attn.dense"), "bfloat16");
  EXPECT_EQ(made.recipe.skip.front(), "dense");
}

TEST(Fit, RefusesWeightsThatAreQuantizedAlready) {
  for (const char* fixture : {"llama-bnb-nf4", "llama-gptq", "bitnet-packed"}) {
    Opened model(fixture);
    const auto error = testing::error_of([&] { model.fit(1'000'000'000); });
    ASSERT_TRUE(error) << fixture;
    EXPECT_EQ(error->code, "already-quantized");
  }
}

}  // namespace
}  // namespace rhapsode
