// The placement rules of transformers' planner on a tree small enough to follow by hand, and on the shape of
// Llama-2-7B. Thousands of random cases are in tests/golden.
#include <gtest/gtest.h>

#include "arch/registry.h"
#include "config/skip_entry.h"
#include "plan/balance.h"

namespace rhapsode::plan {
namespace {

using config::DeviceName;
using config::Strategy;

const DeviceName kCpu{DeviceName::Kind::cpu, 0}, kDisk{DeviceName::Kind::disk, 0};
DeviceName gpu(uint32_t index) {
  return {DeviceName::Kind::gpu, index};
}

Module leaf(const std::string& name, double bytes) {
  return {name, false, {{"weight", bytes}}, {}, {}};
}

// An embedding, four blocks of two linears, a head; 800 bytes each.
ModuleTree tiny(bool no_split = true, bool tied = false) {
  ModuleTree tree;
  tree.root.children.push_back(leaf("embed", 800));
  Module layers{"layers", false, {}, {}, {}};
  for (int i = 0; i < 4; ++i) {
    const std::string block = "layers." + std::to_string(i);
    layers.children.push_back({block, no_split, {}, {}, {leaf(block + ".a", 400), leaf(block + ".b", 400)}});
  }
  tree.root.children.push_back(layers);
  tree.root.children.push_back(leaf("head", tied ? 0 : 800));
  if (tied) tree.tied = {{"embed.weight", "head.weight"}};
  return tree;
}

ModuleMap blocks(const std::string& prefix, uint32_t first, uint32_t last, DeviceName device) {
  ModuleMap map;
  for (uint32_t i = first; i <= last; ++i) map[prefix + std::to_string(i)] = device;
  return map;
}

ModuleMap joined(std::initializer_list<ModuleMap> maps) {
  ModuleMap all;
  for (const ModuleMap& map : maps) all.insert(map.begin(), map.end());
  return all;
}

struct Example {
  Budgets budgets;
  ModuleMap expected;
};

TEST(InferMap, WorkedExamples) {
  const std::string l = "layers.";
  const Example examples[] = {
      {{{gpu(0), 2400}, {kCpu, 1e5}},
       joined({{{"embed", gpu(0)}, {"layers.0", gpu(0)}, {"head", kCpu}}, blocks(l, 1, 3, kCpu)})},
      {{{gpu(0), 4799}, {kCpu, 1e5}},
       joined({{{"embed", gpu(0)}, {"layers.3", kCpu}, {"head", kCpu}}, blocks(l, 0, 2, gpu(0))})},
      {{{gpu(0), 4800}, {kCpu, 1e5}}, {{"", gpu(0)}}},
      {{{gpu(0), 3200}, {gpu(1), 3200}, {kCpu, 1e5}},
       joined({{{"embed", gpu(0)}, {"head", gpu(1)}}, blocks(l, 0, 1, gpu(0)), blocks(l, 2, 3, gpu(1))})},
      {{{gpu(0), 1600}, {gpu(1), 3200}, {kCpu, 1e5}},
       {{"embed", gpu(0)}, {"layers", gpu(1)}, {"head", kCpu}}},
      {{{gpu(0), 2400}, {kCpu, 2400}},
       joined({{{"embed", gpu(0)}, {"layers.0", gpu(0)}, {"layers.3", kDisk}, {"head", kDisk}},
               blocks(l, 1, 2, kCpu)})},
      {{{gpu(0), 2400}},
       joined({{{"embed", gpu(0)}, {"layers.0", gpu(0)}, {"head", kDisk}}, blocks(l, 1, 3, kDisk)})},
      {{{gpu(0), 1599}, {kCpu, 1e5}}, {{"", kCpu}}},
  };
  for (const Example& example : examples) EXPECT_EQ(infer_map(tiny(), example.budgets), example.expected);
}

TEST(InferMap, SplitsWhatMayBeSplit) {
  EXPECT_EQ(infer_map(tiny(false), {{gpu(0), 2000}, {kCpu, 1e5}}),
            joined({{{"embed", gpu(0)}, {"layers.0.a", gpu(0)}, {"layers.0.b", kCpu}, {"head", kCpu}},
                    blocks("layers.", 1, 3, kCpu)}));
}

TEST(InferMap, TiedWeightsStayTogether) {
  EXPECT_EQ(
      infer_map(tiny(true, true), {{gpu(0), 2400}, {kCpu, 1e5}}),
      joined({{{"embed", gpu(0)}, {"head", gpu(0)}, {"layers.0", gpu(0)}}, blocks("layers.", 1, 3, kCpu)}));
}

TEST(Balance, BudgetsAndMaps) {
  const ModuleTree tree = tiny();
  BudgetRequest request{Strategy::balanced, {{gpu(0), 1e4}, {gpu(1), 1e4}, {kCpu, 1e5}}, true, false};
  Budgets budgets = strategy_budgets(tree, request);
  EXPECT_EQ(budgets, (Budgets{{gpu(0), 3400}, {gpu(1), 1e4}, {kCpu, 1e5}}));
  EXPECT_EQ(infer_map(tree, budgets), joined({{{"embed", gpu(0)}, {"head", gpu(1)}},
                                              blocks("layers.", 0, 1, gpu(0)),
                                              blocks("layers.", 2, 3, gpu(1))}));
  request.strategy = Strategy::balanced_low_0;
  budgets = strategy_budgets(tree, request);
  EXPECT_EQ(budgets, (Budgets{{gpu(0), 0}, {gpu(1), 1e4}, {kCpu, 1e5}}));
  EXPECT_EQ(infer_map(tree, budgets), (ModuleMap{{"", gpu(1)}}));
  request = {Strategy::balanced, {{gpu(0), 1e4}, {gpu(1), 1e4}, {gpu(2), 1e4}}, true, false};
  budgets = strategy_budgets(tree, request);
  EXPECT_EQ(budgets, (Budgets{{gpu(0), 2600}, {gpu(1), 2600}, {gpu(2), 1e4}}));
  EXPECT_EQ(infer_map(tree, budgets), joined({{{"embed", gpu(0)}, {"layers.0", gpu(0)}, {"head", gpu(2)}},
                                              blocks("layers.", 1, 3, gpu(1))}));
}

TEST(Balance, NobodyNamedLimits) {
  const BudgetRequest request{Strategy::automatic, {{gpu(0), 1e4}, {kCpu, 1e5}}, false, true};
  const Budgets budgets = strategy_budgets(tiny(), request);
  EXPECT_EQ(budgets.at(gpu(0)), 1e4 * 0.9 * 0.90);
  EXPECT_EQ(budgets.at(kCpu), 1e5 * 0.90 * 0.90);
}

// Llama-2-7B in fp16.
ModuleTree llama(const std::string& changes, const TreeOptions& options) {
  const arch::Architecture architecture = arch::parse_architecture(
      R"({"model_type":"llama","hidden_act":"silu",)" + changes + "}", "config.json");
  const arch::ModelTensors tensors =
      architecture.family->tensors(architecture.spec, [](const std::string&) { return false; });
  return module_tree(architecture.spec, tensors, options);
}
constexpr const char* kLlama7 =
    R"("hidden_size":4096,"intermediate_size":11008,"num_hidden_layers":32,"num_attention_heads":32,
       "vocab_size":32000,"tie_word_embeddings":false)";

ModuleMap llama_map(uint32_t count, uint32_t first_elsewhere, DeviceName here, DeviceName there) {
  return joined(
      {{{"model.embed_tokens", here}, {"model.norm", there}, {"model.rotary_emb", there}, {"lm_head", there}},
       blocks("model.layers.", 0, first_elsewhere - 1, here),
       blocks("model.layers.", first_elsewhere, count - 1, there)});
}

constexpr double kGiB = 0x1p30;

TEST(InferMap, LlamaShapes) {
  const ModuleTree tree = llama(kLlama7, {Dtype::f16, CountedBits::dense, {}});
  EXPECT_EQ(tree_sizes(tree).of(""), 13'476'831'744);
  EXPECT_EQ(tree_sizes(tree).of("model.layers.7"), 404'766'720);
  EXPECT_EQ(infer_map(tree, {{gpu(0), 8 * kGiB}, {kCpu, 30 * kGiB}}), llama_map(32, 19, gpu(0), kCpu));
  EXPECT_EQ(infer_map(tree, {{gpu(0), 8e9}, {kCpu, 30e9}}), llama_map(32, 18, gpu(0), kCpu));
  BudgetRequest request{
      Strategy::balanced, {{gpu(0), 24 * kGiB}, {gpu(1), 24 * kGiB}, {kCpu, 64 * kGiB}}, true, false};
  const Budgets budgets = strategy_budgets(tree, request);
  EXPECT_EQ(budgets.at(gpu(0)), 7'244'374'272);
  EXPECT_EQ(infer_map(tree, budgets), llama_map(32, 16, gpu(0), gpu(1)));
  request.strategy = Strategy::sequential;
  EXPECT_EQ(infer_map(tree, strategy_budgets(tree, request)), (ModuleMap{{"", gpu(0)}}));
  request.strategy = Strategy::balanced_low_0;
  EXPECT_EQ(infer_map(tree, strategy_budgets(tree, request)), (ModuleMap{{"", gpu(1)}}));
}

TEST(InferMap, LlamaInFourBits) {
  const ModuleTree tree = llama(kLlama7, {Dtype::f16, CountedBits::four, {}});
  EXPECT_EQ(tree_sizes(tree).of(""), 3'762'823'680);
  EXPECT_EQ(tree_sizes(tree).of("model.layers.0"), 101'203'968);
  EXPECT_EQ(infer_map(tree, {{gpu(0), 3 * kGiB}, {kCpu, 30 * kGiB}}), llama_map(32, 26, gpu(0), kCpu));
}

TEST(InferMap, TiedLlama) {
  const ModuleTree tree = llama(
      R"("hidden_size":2048,"intermediate_size":8192,"num_hidden_layers":16,"num_attention_heads":32,
         "num_key_value_heads":8,"head_dim":64,"vocab_size":128256,"tie_word_embeddings":true)",
      {Dtype::bf16, CountedBits::dense, {}});
  ModuleMap expected = llama_map(16, 3, gpu(0), kCpu);
  expected["lm_head"] = gpu(0);
  EXPECT_EQ(infer_map(tree, {{gpu(0), kGiB}, {kCpu, 16 * kGiB}}), expected);
}

TEST(SkipList, MatchesAtBoundaries) {
  EXPECT_TRUE(config::skip_matches("model.layers.1", "model.layers.1.mlp.up_proj"));
  EXPECT_FALSE(config::skip_matches("model.layers.1", "model.layers.10.mlp.up_proj"));
  EXPECT_FALSE(config::skip_matches("self_attn", "model.layers.1.self_attn.q_proj"));
  EXPECT_TRUE(config::skip_matches("q_proj", "model.layers.1.self_attn.q_proj"));
  EXPECT_TRUE(config::skip_matches("head", "lm_head"));
}

TEST(DeviceOf, PrefixesEndAtDots) {
  const ModuleMap map{{"model.layers.1", gpu(1)}, {"model", gpu(0)}};
  EXPECT_EQ(*device_of(map, "model.layers.10"), gpu(0));
  EXPECT_EQ(*device_of(map, "model.layers.1.mlp"), gpu(1));
  EXPECT_EQ(device_of(map, "lm_head"), nullptr);
}

}  // namespace
}  // namespace rhapsode::plan
