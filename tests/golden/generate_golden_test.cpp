// Whole requests through the product's own path (config -> plan -> session -> generate) on tiny models,
// against transformers' generate(): greedy under every rule, guidance, beams with their scores, knobs
// combined, rows of left-padded batches, stop strings.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>

#include "models/golden_model.h"
#include "models/paths.h"
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
      std::filesystem::copy(paths::fixtures() + "/text/byte_level" + name, scratch.path());
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

// ./dev test prints these lines.
void say_compared(size_t count, const char* what, const char* unit = "requests") {
  std::printf("counted: %zu %s equal to transformers: %s\n", count, unit, what);
}

std::string label(const Json& golden) {
  return golden.at("model").get<std::string>() + " " + golden.at("prompt").get<std::string>() + " " +
         golden.at("name").get<std::string>();
}

std::string label_of_batch(const Json& golden, size_t row) {
  return golden.at("model").get<std::string>() + " batch " + golden.at("name").get<std::string>() + " row " +
         std::to_string(row) + " " + golden.at("params").dump();
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
  say_compared(compared, "greedy under every rule");
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
  say_compared(compared, "beams with their scores");
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
  say_compared(compared, "knobs combined");
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
                   label_of_batch(golden, i));
      ++compared;
    }
  }
  say_compared(compared, "rows of left-padded batches, each alone");
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
  say_compared(compared, "stop strings");
  EXPECT_GE(compared, 30u);
}

// Rows of a left-padded batch again, now as requests that run together, four at a time.
TEST(GenerateGolden, RequestsTogetherGiveWhatTransformersGives) {
  Cases cases("generation_combined.json");
  size_t compared = 0;
  for (const Json& golden : cases.json.at("cases")) {
    if (golden.at("kind") != "batch" || !golden.at("by_rule").empty()) continue;
    std::vector<runtime::GenerateRequest> requests;
    for (const Json& prompt : golden.at("prompts")) {
      requests.emplace_back();
      requests.back().prompt_ids = prompt.get<std::vector<uint32_t>>();
      requests.back().params = generation::golden_params(golden.at("params"));
    }
    const std::vector<runtime::GenerateResult> results =
        runtime::generate_batch(*cases.model(golden).session, requests);
    for (size_t i = 0; i < results.size(); ++i, ++compared)
      expect_equal(results[i], golden.at("rows").at(i), label_of_batch(golden, i));
  }
  say_compared(compared, "the same rows, four at a time", "rows");
  EXPECT_GE(compared, 200u);
}

bool same_steps(const runtime::GenerateResult& a, const runtime::GenerateResult& b) {
  if (a.steps.size() != b.steps.size()) return false;
  for (size_t i = 0; i < a.steps.size(); ++i)
    if (a.steps[i].id != b.steps[i].id || a.steps[i].top != b.steps[i].top ||
        a.steps[i].probs != b.steps[i].probs)
      return false;
  return true;
}

// Requests that have nothing in common, each with a trace: ids, logits and probabilities are the same bits as
// alone.
TEST(GenerateGolden, RequestsTogetherAreThoseAloneBitForBit) {
  Served served("llama-gqa");
  std::vector<runtime::GenerateRequest> requests;
  for (const char* prompt : {"p7", "p33", "p1", "long"}) {
    runtime::GenerateRequest request;
    request.prompt_ids = served.prompts.at(prompt).at("ids").get<std::vector<uint32_t>>();
    request.params.max_new_tokens = 12 + static_cast<int64_t>(requests.size()) * 5;
    request.params.seed = requests.size();
    request.trace = 5;
    requests.push_back(request);
  }
  requests[0].params.do_sample = requests[3].params.do_sample = true;
  requests[1].params.guidance_scale = 1.5;
  requests[2].params.do_sample = true;
  requests[2].params.num_return_sequences = 2;
  requests[3].params.repetition_penalty = 1.2;
  const std::vector<runtime::GenerateResult> together = runtime::generate_batch(*served.session, requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    const runtime::GenerateResult alone = runtime::generate(*served.session, requests[i]);
    ASSERT_EQ(together[i].sequences.size(), alone.sequences.size());
    for (size_t s = 0; s < alone.sequences.size(); ++s)
      EXPECT_EQ(together[i].sequences[s].ids, alone.sequences[s].ids) << i;
    EXPECT_TRUE(same_steps(together[i], alone)) << i;
  }
}

// A forced first token leaves each beam one choice; what follows is the search after a prompt that ends with
// it.
TEST(GenerateGolden, BeamsAfterAForcedTokenAreThoseOfALongerPrompt) {
  for (const char* fixture : {"llama-gqa", "gemma2-caps"}) {
    Served served(fixture);
    for (const int64_t beams : {2, 3, 5}) {
      runtime::GenerateRequest forced;
      forced.prompt_ids = {7};
      forced.params.num_beams = forced.params.num_return_sequences = beams;
      forced.params.length_penalty = 0.0;
      forced.params.max_new_tokens = 10;
      runtime::GenerateRequest longer = forced;
      forced.params.forced_bos_token_id = 31;
      longer.prompt_ids.push_back(31);
      longer.params.max_new_tokens = 9;
      const auto a = runtime::generate(*served.session, forced),
                 b = runtime::generate(*served.session, longer);
      ASSERT_EQ(a.sequences.size(), static_cast<size_t>(beams));
      ASSERT_EQ(b.sequences.size(), a.sequences.size());
      for (size_t i = 0; i < a.sequences.size(); ++i) {
        std::vector<uint32_t> expected{31};
        expected.insert(expected.end(), b.sequences[i].ids.begin(), b.sequences[i].ids.end());
        EXPECT_EQ(a.sequences[i].ids, expected) << fixture << " " << beams << " sequence " << i;
        EXPECT_EQ(a.sequences[i].score, b.sequences[i].score);
      }
    }
  }
}

// Where rotations depend on the length of a pass, a draft must not reach where they change: the answer with
// drafts is the plain one, and both are transformers'.
TEST(GenerateGolden, DraftsAreEqualWhereRotationsDependOnTheLength) {
  size_t drafted = 0;
  for (const char* fixture : {"llama-rope-dynamic", "phi3-longrope", "gpt_neox-longrope"}) {
    Served served(fixture);
    for (const char* prompt : {"p33", "p7"}) {
      runtime::GenerateRequest request;
      request.prompt_ids = served.prompts.at(prompt).at("ids").get<std::vector<uint32_t>>();
      request.params.max_new_tokens = 64;
      const auto plain = runtime::generate(*served.session, request).sequences.front().ids;
      EXPECT_EQ(plain, served.prompts.at(prompt).at("greedy").get<std::vector<uint32_t>>()) << fixture;
      request.params.prompt_lookup_num_tokens = 6;
      request.params.max_matching_ngram_size = 1;
      EXPECT_EQ(runtime::generate(*served.session, request).sequences.front().ids, plain) << fixture;
      ++drafted;
    }
  }
  EXPECT_EQ(drafted, 6u);
}

// A conversation goes on: of a prompt that begins with the one before and its answer only the rest is
// computed, and the answer is that of the whole prompt.
TEST(GenerateGolden, ThePromptThatGoesOnIsComputedFromWhereItDiffers) {
  Served served("llama-gqa");
  runtime::GenerateRequest first;
  first.prompt_ids = served.prompts.at("p33").at("ids").get<std::vector<uint32_t>>();
  first.params.max_new_tokens = 9;
  first.keep_sequence = true;
  const runtime::GenerateResult answer = runtime::generate(*served.session, first);
  EXPECT_EQ(answer.reused_tokens, 0u);
  runtime::GenerateRequest second = first;
  for (const uint32_t id : answer.sequences.front().ids) second.prompt_ids.push_back(id);
  for (const uint32_t id : {5u, 9u, 17u, 3u}) second.prompt_ids.push_back(id);
  const runtime::GenerateResult kept = runtime::generate(*served.session, second);
  // The answer's last token was never computed with.
  EXPECT_EQ(kept.reused_tokens, first.prompt_ids.size() + 8);
  runtime::GenerateRequest fresh = second;
  fresh.keep_sequence = false;
  fresh.prompt_ids.front() += 1;
  EXPECT_EQ(runtime::generate(*served.session, fresh).reused_tokens, 0u);
  fresh.prompt_ids.front() -= 1;
  const runtime::GenerateResult whole = runtime::generate(*served.session, fresh);
  EXPECT_EQ(whole.reused_tokens, 0u);
  EXPECT_EQ(kept.sequences.front().ids, whole.sequences.front().ids);
}

}  // namespace
}  // namespace rhapsode
