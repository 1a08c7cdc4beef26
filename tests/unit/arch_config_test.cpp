// config.json as publishers write it, and what transformers makes of its keys: windows, rotary tables, heads,
// activations, tied matrices.
#include <gtest/gtest.h>

#include "arch/registry.h"
#include "base/json.h"
#include "models/golden_model.h"
#include "support/scratch.h"

namespace rhapsode::arch {
namespace {

using testing::error_of;
using testing::Scratch;

// The config of a fixture with some keys changed; a key that becomes "absent" is taken out.
Spec spec_of(const std::string& fixture, const Json& changes) {
  Json config = read_json_file(golden_directory(fixture) + "/config.json");
  for (const auto& [key, value] : changes.items()) {
    if (value == "absent")
      config.erase(key);
    else
      config[key] = value;
  }
  return parse_architecture(config.dump(), "config.json").spec;
}

std::optional<Error> error_with(const std::string& fixture, const Json& changes) {
  return error_of([&] { spec_of(fixture, changes); });
}

std::vector<uint32_t> windows(const Spec& spec) {
  std::vector<uint32_t> out;
  for (const LayerSpec& layer : spec.layers) out.push_back(layer.window);
  return out;
}

using Windows = std::vector<uint32_t>;

TEST(ArchConfig, QwenHasWindowsWhereItUsesThem) {
  const Json uses = {{"use_sliding_window", true}, {"sliding_window", 8}, {"num_hidden_layers", 3}};
  const auto with = [&](Json more) {
    more.update(uses);
    return windows(spec_of("qwen2-window", more));
  };
  EXPECT_EQ(with({{"max_window_layers", 0}}), (Windows{8, 8, 8}));
  EXPECT_EQ(with({{"max_window_layers", 2}}), (Windows{0, 0, 8}));
  EXPECT_EQ(with({{"max_window_layers", "absent"}}), (Windows{0, 0, 0}));
  EXPECT_EQ(windows(spec_of("qwen2-window", {{"sliding_window", nullptr}})), (Windows{0, 0, 0}));
  EXPECT_EQ(windows(spec_of("qwen2-window", {{"sliding_window", "absent"}})), (Windows{0, 4096, 4096}));
  EXPECT_EQ(windows(spec_of("qwen2-window", {{"use_sliding_window", false}})), (Windows{0, 0, 0}));
  const Json types = {"sliding_attention", "full_attention", "full_attention"};
  EXPECT_EQ(windows(spec_of("qwen2-window", {{"layer_types", types}})), (Windows{8, 0, 0}));
  const auto error = error_with("qwen2-window", {{"layer_types", types}, {"use_sliding_window", false}});
  EXPECT_EQ(error.value().path, "/sliding_window");
}

TEST(ArchConfig, SmolLm3HasWindowsOnLayersThatDoNotRotate) {
  const Json uses = {{"use_sliding_window", true}, {"sliding_window", 8}, {"no_rope_layers", {1, 0, 1}}};
  EXPECT_EQ(windows(spec_of("smollm3-listed", uses)), (Windows{0, 8, 0}));
  EXPECT_EQ(windows(spec_of("smollm3-listed", {{"sliding_window", 8}})), (Windows{0, 0, 0}));
}

TEST(ArchConfig, AWindowOfNullIsNone) {
  EXPECT_EQ(windows(spec_of("mistral-window", {{"sliding_window", nullptr}})), (Windows{0, 0}));
  EXPECT_EQ(windows(spec_of("mistral-window", {{"sliding_window", "absent"}})), (Windows{4096, 4096}));
  EXPECT_EQ(error_with("gemma2-caps", {{"sliding_window", nullptr}}).value().path, "/sliding_window");
}

TEST(ArchConfig, HeadsHaveTheSizeOfTheFamilyWhereNoKeySaysIt) {
  EXPECT_EQ(spec_of("qwen3-qk-norm", {{"head_dim", "absent"}}).head_dim, 128u);
  EXPECT_EQ(spec_of("gemma-mqa", {{"head_dim", "absent"}}).head_dim, 256u);
  EXPECT_EQ(spec_of("llama-mha-default-head-dim", {{"head_dim", nullptr}}).head_dim, 14u);
}

TEST(ArchConfig, GemmaTakesItsActivationFromHiddenAct) {
  EXPECT_EQ(spec_of("gemma-mqa", {{"hidden_act", "gelu"}}).activation, ActivationKind::gelu_tanh);
  EXPECT_EQ(
      spec_of("gemma-mqa", {{"hidden_act", "relu"}, {"hidden_activation", "gelu_pytorch_tanh"}}).activation,
      ActivationKind::relu);
  EXPECT_EQ(spec_of("gemma2-caps", {{"hidden_act", "relu"}}).activation, ActivationKind::gelu_tanh);
}

TEST(ArchConfig, SpellingsOfOneActivation) {
  for (const char* name : {"gelu_pytorch_tanh", "gelu_fast", "gelu_python_tanh", "gelu_accurate"})
    EXPECT_EQ(spec_of("llama-gqa", {{"hidden_act", name}}).activation, ActivationKind::gelu_tanh) << name;
  EXPECT_EQ(spec_of("llama-gqa", {{"hidden_act", "gelu_python"}}).activation, ActivationKind::gelu_erf);
  for (const char* name :
       {"quick_gelu", "gelu_10", "mish", "tanh", "sigmoid", "relu6", "leaky_relu", "xielu"}) {
    const auto error = error_with("llama-gqa", {{"hidden_act", name}});
    EXPECT_EQ(error.value().kind, ErrorKind::unsupported) << name;
    EXPECT_NE(error->found.find(name), std::string::npos);
  }
}

TEST(ArchConfig, MasksInBothDirectionsAreRefused) {
  for (const char* fixture : {"gemma-mqa", "gemma2-caps", "gemma3-gqa"})
    EXPECT_EQ(error_with(fixture, {{"use_bidirectional_attention", true}}).value().kind,
              ErrorKind::unsupported);
}

RopeTable table_of(const std::string& fixture, const Json& changes) {
  return spec_of(fixture, changes).rope_tables.front();
}

TEST(ArchConfig, RopeScalingWinsOverRopeParameters) {
  const Json linear = {{"rope_type", "linear"}, {"factor", 2.0}};
  const Json other = {{"rope_type", "default"}, {"rope_theta", 5e5}};
  const RopeTable both = table_of("llama-gqa", {{"rope_scaling", linear}, {"rope_parameters", other}});
  EXPECT_EQ(both.kind, RopeKind::linear);
  EXPECT_EQ(both.theta, 10000.0);
  const RopeTable empty =
      table_of("llama-gqa", {{"rope_scaling", Json::object()}, {"rope_parameters", other}});
  EXPECT_EQ(empty.kind, RopeKind::standard);
  EXPECT_EQ(empty.theta, 5e5);
}

TEST(ArchConfig, TheOriginalLengthOfScaledTables) {
  const char* key = "original_max_position_embeddings";
  Json llama3 = {
      {"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}};
  EXPECT_EQ(table_of("llama-gqa", {{"rope_scaling", llama3}}).original_max_position_embeddings, 512u);
  llama3[key] = 64;
  EXPECT_EQ(table_of("llama-gqa", {{"rope_scaling", llama3}}).original_max_position_embeddings, 64u);
  EXPECT_EQ(table_of("llama-gqa", {{"rope_scaling", llama3}, {key, 32}}).original_max_position_embeddings,
            32u);
  Json longrope = read_json_file(golden_directory("phi3-longrope") + "/config.json").at("rope_scaling");
  longrope[key] = 99;
  const RopeTable phi3 = table_of("phi3-longrope", {{"rope_scaling", longrope}, {key, "absent"}});
  EXPECT_EQ(phi3.original_max_position_embeddings, 4096u);
  EXPECT_TRUE(phi3.recomputes);
}

TEST(ArchConfig, PhiThreeKnowsLongropeByItsOldNamesAndNoOtherScaling) {
  Json block = read_json_file(golden_directory("phi3-longrope") + "/config.json").at("rope_scaling");
  for (const char* name : {"su", "yarn", "longrope"}) {
    block["type"] = name;
    EXPECT_EQ(table_of("phi3-longrope", {{"rope_scaling", block}}).kind, RopeKind::longrope) << name;
  }
  const Json linear = {{"type", "linear"}, {"factor", 2.0}};
  EXPECT_EQ(error_with("phi3-longrope", {{"rope_scaling", linear}}).value().path, "/rope_scaling/type");
  const Json su = {{"type", "su"}, {"factor", 2.0}};
  EXPECT_EQ(error_with("llama-gqa", {{"rope_scaling", su}}).value().kind, ErrorKind::unsupported);
}

TEST(ArchConfig, APartOfAHeadRotatesInFamiliesThatKnowIt) {
  EXPECT_EQ(table_of("llama-gqa", {{"partial_rotary_factor", 0.5}}).rotary_dims, 10u);
  const Json linear = {{"type", "linear"}, {"factor", 2.0}};
  const auto error = error_with("llama-gqa", {{"partial_rotary_factor", 0.4}, {"rope_scaling", linear}});
  EXPECT_EQ(error.value().path, "/partial_rotary_factor");
  EXPECT_EQ(table_of("gpt_neox-parallel", {{"rotary_pct", 0.5}}).rotary_dims, 8u);
  EXPECT_EQ(
      table_of("gpt_neox-parallel", {{"rotary_pct", "absent"}, {"partial_rotary_factor", 0.5}}).rotary_dims,
      4u);
  EXPECT_EQ(table_of("gpt_neox-parallel", {{"rope_theta", 777.0}}).theta, 10000.0);
  EXPECT_EQ(table_of("gpt_neox-parallel", {{"rotary_emb_base", 777}}).theta, 777.0);
}

// A checkpoint of one shard with a tensor called otherwise; the header keeps its length.
void rename_tensor(const std::string& file, const std::string& from, std::string to, const Scratch& scratch) {
  std::string bytes = read_file(file);
  const size_t at = bytes.find("\"" + from + "\":");
  ASSERT_NE(at, std::string::npos);
  to = "\"" + to + "\"" + std::string(from.size() - to.size(), ' ');
  bytes.replace(at, to.size(), to);
  scratch.put("model.safetensors", bytes);
}

TEST(ArchConfig, OfATiedPairTheCheckpointMayHoldEither) {
  const Scratch scratch;
  const std::string source = golden_directory("llama-tied");
  scratch.put("config.json", read_file(source + "/config.json"));
  rename_tensor(source + "/model.safetensors", "model.embed_tokens.weight", "lm_head.weight", scratch);
  Architecture architecture = read_architecture(scratch.path().string());
  const Checkpoint checkpoint = Checkpoint::open(scratch.path().string());
  const ModelTensors names = bind_tensors(architecture, checkpoint);
  EXPECT_EQ(names.embed_tensor, "lm_head.weight");
  EXPECT_EQ(names.lm_head.parts.front().weight.front().tensor, "lm_head.weight");
  EXPECT_TRUE(architecture.spec.tie_word_embeddings);
}

// With two different matrices nothing is tied, whatever config.json says: tests/golden runs this one.
TEST(ArchConfig, MatricesThatDifferAreNotTied) {
  Architecture architecture = read_architecture(golden_directory("llama-two-heads"));
  EXPECT_TRUE(architecture.spec.tie_word_embeddings);
  const Checkpoint checkpoint = Checkpoint::open(golden_directory("llama-two-heads"));
  const ModelTensors names = bind_tensors(architecture, checkpoint);
  EXPECT_FALSE(architecture.spec.tie_word_embeddings);
  EXPECT_EQ(names.lm_head.parts.front().weight.front().tensor, "lm_head.weight");
  EXPECT_EQ(architecture.spec.notes.size(), 1u);
}

}  // namespace
}  // namespace rhapsode::arch
