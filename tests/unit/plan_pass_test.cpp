// How many tokens of a prompt a pass takes.
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

}  // namespace
}  // namespace rhapsode::plan
