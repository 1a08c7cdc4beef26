// What a plan derives from `numerics`: how many tokens of a prompt a pass takes, how 4-bit weights are
// multiplied.
#include <gtest/gtest.h>

#include "models/golden_model.h"
#include "runtime/assembly.h"
#include "support/scratch.h"

namespace rhapsode::plan {
namespace {

constexpr uint64_t kContext = 400;

Plan planned(const std::string& fixture, const std::vector<std::string>& lines, uint32_t logits_rows = 1) {
  const testing::Scratch scratch;
  std::string yaml = "generator:\n  active_model: tiny\n  models:\n    tiny:\n      model_id: \"" +
                     golden_directory(fixture) + "\"\n      torch_dtype: float32\n";
  for (const std::string& line : lines) yaml += "      " + line + "\n";
  runtime::Settings settings;
  settings.config.file = scratch.put("rag.yaml", yaml);
  settings.tokenizer = false;
  settings.threads = 1;
  return runtime::make_plan(runtime::assemble(settings), kContext, 1, logits_rows);
}

uint32_t pass_tokens(const std::string& fixture, const std::vector<std::string>& lines) {
  return planned(fixture, lines).limits.chunk_tokens;
}

TEST(PassTokens, OfHfExactInt8AreThoseOfTheWholePrompt) {
  EXPECT_EQ(pass_tokens("llama-bnb-int8-odd-bias", {"numerics: hf-exact"}), kContext);
  EXPECT_EQ(pass_tokens("llama-gqa", {"numerics: hf-exact", "quantization: 8bit"}), kContext);
}

TEST(PassTokens, AreFewWhereNoTokenDependsOnALaterOne) {
  EXPECT_EQ(pass_tokens("llama-gqa", {"numerics: hf-exact"}), kChunkTokens);
  EXPECT_EQ(pass_tokens("llama-gqa", {"numerics: hf-exact", "quantization: 4bit"}), kChunkTokens);
  EXPECT_EQ(pass_tokens("llama-gqa", {"quantization: 8bit"}), kChunkTokens);
  EXPECT_EQ(pass_tokens("llama-gqa", {"numerics: hf-exact", "quantization: 8bit", "llm_int8_outliers: row"}),
            kChunkTokens);
  EXPECT_EQ(pass_tokens("llama-gqa", {"numerics: hf-exact", "quantization: 8bit",
                                      "quantization_config: {llm_int8_threshold: 0}"}),
            kChunkTokens);
}

TEST(PassTokens, AreCountedInTheWorkspace) {
  const std::vector<std::string> lines = {"numerics: hf-exact", "quantization: 8bit"};
  const Plan whole = planned("llama-gqa", lines);
  const Plan parts = planned("llama-gqa", {"quantization: 8bit"});
  EXPECT_GT(whole.devices.front().workspace_bytes, parts.devices.front().workspace_bytes);
  EXPECT_EQ(planned("llama-gqa", lines, kContext).limits.chunk_tokens, kContext);
}

WeightFormat four_bit(const std::vector<std::string>& lines) {
  arch::LinearPart part;
  part.module = "model.layers.0.mlp.down_proj";
  part.rows = 64;
  return planned("llama-gqa", lines).formats.of(part, 128);
}

TEST(Numerics, OfFourBitWeights) {
  const std::string bits = "quantization: 4bit",
                    half = "quantization_config: {bnb_4bit_compute_dtype: bfloat16}";
  EXPECT_FALSE(four_bit({bits, half}).exact);
  EXPECT_FALSE(four_bit({bits, half}).bytes);
  EXPECT_TRUE(four_bit({bits, half, "numerics: hf-exact"}).exact);
  EXPECT_TRUE(four_bit({bits}).exact);  // computed in float32
  for (const auto& lines : {std::vector<std::string>{bits, half}, std::vector<std::string>{bits}}) {
    std::vector<std::string> asked = lines;
    asked.push_back("numerics: int8");
    EXPECT_TRUE(four_bit(asked).bytes);
    EXPECT_FALSE(four_bit(asked).exact);
  }
}

}  // namespace
}  // namespace rhapsode::plan
