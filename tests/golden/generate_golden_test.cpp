// Whole requests through the product's own path (config -> plan -> session -> generate) on tiny models,
// against transformers' generate(): greedy under every rule, guidance, beams with their scores, knobs
// combined, rows of left-padded batches, stop strings.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>

#include "models/golden_model.h"
#include "runtime/generate.h"
#include "support/generation_params.h"
#include "support/scratch.h"

namespace rhapsode {
namespace {

constexpr double kScoreTolerance = 1e-4;  // of a score, or of 1 where it is smaller

// A tiny checkpoint behind a YAML file, as a user has it, with a tokenizer that is not its own: ids are what
// counts, and stop strings need some text.
struct Served {
  explicit Served(const std::string& fixture) : prompts(open_golden(fixture).json.at("float32")) {
    for (const auto& entry : std::filesystem::directory_iterator(golden_directory(fixture)))
      std::filesystem::copy(entry.path(), scratch.path());
    for (const char* name : {"/tokenizer.json", "/tokenizer_config.json"})
      std::filesystem::copy(std::string(RHAPSODE_FIXTURES) + "/text/byte_level" + name, scratch.path());
    const std::string file =
        scratch.put("rag.yaml",
                    "generator:\n  active_model: tiny\n  models:\n    tiny:\n      type: huggingface\n"
                    "      model_id: \"" +
                        scratch.path().string() + "\"\n      torch_dtype: float32\n");
    runtime::Settings settings;
    settings.config.file = file;
    settings.threads = 2;
    assembly = std::make_unique<runtime::Assembly>(runtime::assemble(settings));
    session =
        std::make_unique<runtime::Session>(*assembly, runtime::make_plan(*assembly, 512, 8, 8), 8, nullptr);
  }
  const testing::Scratch scratch;
  Json prompts;
  std::unique_ptr<runtime::Assembly> assembly;
  std::unique_ptr<runtime::Session> session;
};

struct Cases {
  explicit Cases(const std::string& name = "generation.json")
      : json(read_json_file(golden_directory(name))) {}

  Json json;
  std::map<std::string, std::unique_ptr<Served>> served;

  Served& model(const Json& golden) {
    auto& slot = served[golden.at("model").get<std::string>()];
    if (!slot) slot = std::make_unique<Served>(golden.at("model").get<std::string>());
    return *slot;
  }
  runtime::GenerateResult run(const Json& golden) {
    return run(golden, model(golden).prompts.at(golden.at("prompt").get<std::string>()).at("ids"));
  }
  runtime::GenerateResult run(const Json& golden, const Json& prompt) {
    runtime::GenerateRequest request;
    request.prompt_ids = prompt.get<std::vector<uint32_t>>();
    request.params = generation::golden_params(golden.at("params"));
    return runtime::generate(*model(golden).session, request);
  }
};

// `expected`: ids of each sequence and, of beams, their scores.
void expect_equal(const runtime::GenerateResult& result, const Json& expected, const std::string& what) {
  const Json& ids = expected.at("ids");
  ASSERT_EQ(result.sequences.size(), ids.size()) << what;
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(result.sequences[i].ids, ids.at(i).get<std::vector<uint32_t>>()) << what << " sequence " << i;
    if (!expected.contains("scores")) continue;
    const double score = expected.at("scores").at(i).get<double>();
    EXPECT_NEAR(result.sequences[i].score.value(), score, kScoreTolerance * std::max(1.0, std::abs(score)))
        << what << " sequence " << i;
  }
}

std::string label(const Json& golden) {
  return golden.at("model").get<std::string>() + " " + golden.at("prompt").get<std::string>() + " " +
         golden.at("name").get<std::string>();
}

TEST(GenerateGolden, GreedyUnderEveryRule) {
  Cases cases;
  size_t compared = 0;
  for (const Json& golden : cases.json.at("cases")) {
    if (golden.at("kind") != "greedy") continue;
    EXPECT_EQ(cases.run(golden).sequences.front().ids, golden.at("ids").at(0).get<std::vector<uint32_t>>())
        << label(golden);
    ++compared;
  }
  EXPECT_GE(compared, 90u);
}

TEST(GenerateGolden, BeamsWithTheirScores) {
  Cases cases;
  size_t compared = 0;
  for (const Json& golden : cases.json.at("cases")) {
    if (golden.at("kind") != "beam") continue;
    expect_equal(cases.run(golden), golden, label(golden));
    ++compared;
  }
  EXPECT_GE(compared, 50u);
}

TEST(GenerateGolden, KnobsCombined) {
  Cases cases("generation_combined.json");
  size_t compared = 0;
  for (const Json& golden : cases.json.at("cases")) {
    if (golden.at("kind") != "combined") continue;
    expect_equal(cases.run(golden), golden, label(golden) + " " + golden.at("params").dump());
    ++compared;
  }
  EXPECT_GE(compared, 240u);
}

// Each sequence of a left-padded batch of transformers, alone here.
TEST(GenerateGolden, RowsOfLeftPaddedBatches) {
  Cases cases("generation_combined.json");
  size_t compared = 0;
  for (const Json& golden : cases.json.at("cases")) {
    if (golden.at("kind") != "batch") continue;
    const auto by_rule = golden.at("by_rule").get<std::vector<size_t>>();
    for (size_t i = 0; i < golden.at("prompts").size(); ++i) {
      if (std::find(by_rule.begin(), by_rule.end(), i) != by_rule.end()) continue;
      expect_equal(cases.run(golden, golden.at("prompts").at(i)), golden.at("rows").at(i),
                   golden.at("model").get<std::string>() + " batch " + golden.at("name").get<std::string>() +
                       " row " + std::to_string(i) + " " + golden.at("params").dump());
      ++compared;
    }
  }
  EXPECT_GE(compared, 200u);
}

TEST(GenerateGolden, StopStrings) {
  Cases cases("generation_combined.json");
  size_t compared = 0;
  for (const Json& golden : cases.json.at("cases")) {
    if (golden.at("kind") != "stop") continue;
    expect_equal(cases.run(golden), golden, label(golden) + " " + golden.at("params").dump());
    ++compared;
  }
  EXPECT_GE(compared, 30u);
}

}  // namespace
}  // namespace rhapsode
