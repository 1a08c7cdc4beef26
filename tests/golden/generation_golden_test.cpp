// The distribution that sampling draws from, on tiny models, against transformers. Whole runs are in
// generate_golden_test.cpp; the rules alone are tested in tests/unit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <map>
#include <memory>

#include "generation/request_state.h"
#include "models/golden_model.h"
#include "support/generation_params.h"

namespace rhapsode {
namespace {

// Of a probability: logits agree to about 1e-6 of their norm.
constexpr double kProbabilityTolerance = 2e-4;
constexpr int64_t kDefaultTopK = 50;  // generate()'s, where a case names none

struct Cases {
  Json json = read_json_file(golden_directory("generation.json"));
  std::map<std::string, std::unique_ptr<LoadedModel>> models;
  std::map<std::string, Json> prompts;

  LoadedModel& model(const std::string& fixture) {
    auto& slot = models[fixture];
    if (!slot) {
      slot = std::make_unique<LoadedModel>(golden_directory(fixture), Dtype::f32, 1, 256);
      prompts[fixture] = open_golden(fixture).json.at("float32");
    }
    return *slot;
  }
};

std::vector<uint32_t> prompt_of(Cases& cases, const Json& golden) {
  cases.model(golden.at("model"));
  return cases.prompts.at(golden.at("model")).at(golden.at("prompt").get<std::string>()).at("ids");
}

generation::Params params_of(const Json& golden) {
  const Json& given = golden.at("params");
  generation::Params params = generation::golden_params(given);
  if (params.do_sample && !given.contains("top_k")) params.top_k = kDefaultTopK;
  return params;
}

std::string label(const Json& golden) {
  return golden.at("model").get<std::string>() + " " + golden.at("prompt").get<std::string>() + " " +
         golden.at("name").get<std::string>();
}

// Two probabilities so close that rounding may exchange their places.
bool has_near_neighbour(const Json& probs, size_t i) {
  const double p = probs[i][1].get<double>();
  const double room = 2 * kProbabilityTolerance * p;
  return (i > 0 && probs[i - 1][1].get<double>() - p < room) ||
         (i + 1 < probs.size() && p - probs[i + 1][1].get<double>() < room);
}

TEST(GenerationGolden, DistributionThatIsDrawnFrom) {
  Cases cases;
  size_t compared = 0;
  for (const Json& golden : cases.json.at("cases")) {
    if (golden.at("kind") != "distribution") continue;
    const auto prompt = prompt_of(cases, golden);
    LoadedModel& model = cases.model(golden.at("model"));
    const uint64_t vocab = model.architecture.spec.vocab_size;
    generation::RequestOptions options;
    options.trace_entries = static_cast<uint32_t>(vocab);
    generation::RequestState state(params_of(golden), prompt, vocab, options);
    model::Sequence sequence;
    model.decoder.prefill(sequence, prompt);
    const auto row = model.decoder.logits(0);
    std::vector<float> scores(row.begin(), row.end());
    const generation::TopProbabilities found = state.push_logits(scores).top.at(0);
    model.cache.release(sequence);
    EXPECT_EQ(found.size(), golden.at("kept").get<size_t>()) << label(golden);
    const Json& expected = golden.at("probs");
    ASSERT_GE(found.size(), expected.size()) << label(golden);
    for (size_t i = 0; i < expected.size(); ++i) {
      const double p = expected[i][1].get<double>();
      EXPECT_NEAR(found[i].second, p, kProbabilityTolerance * std::max(p, 1e-3))
          << label(golden) << " place " << i;
      const uint32_t id = has_near_neighbour(expected, i) ? found[i].first : expected[i][0].get<uint32_t>();
      EXPECT_EQ(found[i].first, id) << label(golden) << " place " << i;
    }
    ++compared;
  }
  std::printf("counted: %zu distributions equal to transformers: sampling\n", compared);
  EXPECT_GE(compared, 100u);
}

}  // namespace
}  // namespace rhapsode
