// Whole requests through the product's own path (config -> plan -> session -> generate) on tiny models,
// against transformers' generate(): greedy under every rule, guidance, beams with their scores.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <memory>

#include "models/golden_model.h"
#include "runtime/generate.h"
#include "support/generation_params.h"

namespace rhapsode {
namespace {

constexpr double kScoreTolerance = 1e-4;  // of a score, or of 1 where it is smaller

// A tiny checkpoint behind a YAML file, as a user has it.
struct Served {
  explicit Served(const std::string& fixture) : prompts(open_golden(fixture).json.at("float32")) {
    const std::string file = ::testing::TempDir() + fixture + ".yaml";
    std::ofstream(file) << "generator:\n  active_model: tiny\n  models:\n    tiny:\n      type: huggingface\n"
                        << "      model_id: \"" << golden_directory(fixture)
                        << "\"\n      torch_dtype: float32\n";
    runtime::Settings settings;
    settings.config.file = file;
    settings.threads = 2;
    settings.tokenizer = false;
    assembly = std::make_unique<runtime::Assembly>(runtime::assemble(settings));
    session =
        std::make_unique<runtime::Session>(*assembly, runtime::make_plan(*assembly, 512, 8, 8), 8, nullptr);
  }
  Json prompts;
  std::unique_ptr<runtime::Assembly> assembly;
  std::unique_ptr<runtime::Session> session;
};

struct Cases {
  Json json = read_json_file(golden_directory("generation.json"));
  std::map<std::string, std::unique_ptr<Served>> served;

  runtime::GenerateResult run(const Json& golden) {
    auto& slot = served[golden.at("model").get<std::string>()];
    if (!slot) slot = std::make_unique<Served>(golden.at("model").get<std::string>());
    runtime::GenerateRequest request;
    request.prompt_ids =
        slot->prompts.at(golden.at("prompt").get<std::string>()).at("ids").get<std::vector<uint32_t>>();
    request.params = generation::golden_params(golden.at("params"));
    return runtime::generate(*slot->session, request);
  }
};

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
    const runtime::GenerateResult result = cases.run(golden);
    const Json& ids = golden.at("ids");
    ASSERT_EQ(result.sequences.size(), ids.size()) << label(golden);
    for (size_t i = 0; i < ids.size(); ++i) {
      EXPECT_EQ(result.sequences[i].ids, ids.at(i).get<std::vector<uint32_t>>())
          << label(golden) << " sequence " << i;
      const double score = golden.at("scores").at(i).get<double>();
      EXPECT_NEAR(result.sequences[i].score.value(), score, kScoreTolerance * std::max(1.0, std::abs(score)))
          << label(golden);
    }
    ++compared;
  }
  EXPECT_GE(compared, 50u);
}

}  // namespace
}  // namespace rhapsode
