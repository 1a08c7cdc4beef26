// Every YAML snippet of the guide, and what check() says of it: exactly the listed findings.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "config/config.h"
#include "models/paths.h"

namespace rhapsode::config {
namespace {

const std::string kFolder = paths::fixtures() + "/config/";

std::string findings_of(const std::string& file) {
  std::string line = std::filesystem::path(file).filename().string();
  for (const Finding& f : check({file, "", {}}))
    line += " " + f.code + "@" + std::to_string(f.origin.line) + ":" + std::to_string(f.origin.column);
  return line;
}

// guide_findings.txt: one line a snippet: NAME CODE@LINE:COLUMN …
TEST(ConfigGuide, EverySnippetHasExactlyTheFindingsThatItDeserves) {
  std::ifstream expected(kFolder + "guide_findings.txt");
  std::set<std::string> listed;
  for (std::string line; std::getline(expected, line);) {
    const std::string name = line.substr(0, line.find(' '));
    listed.insert(name);
    EXPECT_EQ(findings_of(kFolder + "guide/" + name), line);
  }
  std::set<std::string> present;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder + "guide"))
    present.insert(entry.path().filename().string());
  EXPECT_EQ(listed, present);
  EXPECT_EQ(listed.size(), 58u);
}

TEST(ConfigGuide, TheEightCompleteConfigsLoad) {
  uint32_t complete = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder + "guide")) {
    const std::string name = entry.path().filename().string();
    const bool model = name >= "29" && name < "34", whole = name >= "56";
    if (!model && !whole) continue;
    ++complete;
    const Config config = load({entry.path().string(), "", {}});
    EXPECT_EQ(config.active().type->value, "huggingface") << name;
    EXPECT_FALSE(config.active().model_id.value.empty()) << name;
    EXPECT_TRUE(config.active().generation.max_new_tokens) << name;
  }
  EXPECT_EQ(complete, 8u);
}

TEST(ConfigGuide, AdvancedExampleIsReadWhole) {
  const Config config = load({kFolder + "guide/58-advanced-multi-gpu-quality.yaml", "", {}});
  const ModelEntry& m = config.active();
  EXPECT_EQ(config.active_model, "llama70b");
  EXPECT_EQ(m.dtype->value, Dtype::bf16);
  EXPECT_EQ(std::get<Strategy>(m.device_map->value), Strategy::balanced);
  ASSERT_EQ(m.max_memory.size(), 2u);
  EXPECT_EQ(m.max_memory[1].first.index, 1u);
  EXPECT_EQ(m.max_memory[1].second.value, 40'000'000'000u);
  EXPECT_EQ(m.quantization->value, Quantization::int8);
  EXPECT_TRUE(m.use_flash_attention_2->value);
  EXPECT_EQ(m.generation.max_new_tokens->value, 2048);
  EXPECT_EQ(m.generation.num_beams->value, 2);
  EXPECT_EQ(m.generation.length_penalty->value, 1.05);
  EXPECT_EQ(m.generation.early_stopping->value, EarlyStopping::yes);
  EXPECT_EQ(m.generation.early_stopping->origin.line, 27u);
  EXPECT_EQ(m.generation.early_stopping->origin.column, 23u);
}

}  // namespace
}  // namespace rhapsode::config
