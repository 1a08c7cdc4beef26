// SmolLM2-135M-Instruct, imported in float32, against what transformers does with the same file: ids,
// rendered chats, greedy answers, perplexity. `./dev test real` fetches the model and names it in
// RHAPSODE_SMOLLM2.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "models/paths.h"
#include "runtime/generate.h"
#include "runtime/params.h"
#include "runtime/perplexity.h"
#include "support/scratch.h"

namespace rhapsode {
namespace {

// Perplexity differs by the order of sums only.
constexpr double kNllTolerance = 1e-5;
// Below this gap between the best two logits float32 rounding may decide.
constexpr double kMargin = 1e-3;

class SmolLm2 : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* directory = std::getenv("RHAPSODE_SMOLLM2");
    if (directory == nullptr) return;
    const testing::Scratch scratch;  // other tests run beside this one, each in a process
    const std::string file = scratch.file("smollm2.yaml");
    std::ofstream(file)
        << "generator:\n  active_model: smollm2\n  models:\n    smollm2:\n      type: huggingface\n"
        << "      model_id: \"" << directory << "\"\n      torch_dtype: float32\n      do_sample: false\n"
        << "      max_tokens: 64\n";
    runtime::Settings settings;
    settings.config.file = file;
    assembly_ = new runtime::Assembly(runtime::assemble(settings));
    const plan::Plan plan = runtime::make_plan(*assembly_, 512, 1, 64);
    session_ = new runtime::Session(*assembly_, plan, 1, nullptr);
    golden_ = new Json(read_json_file(paths::fixtures() + "/golden/smollm2/golden.json"));
  }
  void SetUp() override { ASSERT_NE(session_, nullptr) << "run ./dev test real: it fetches the model"; }

  static runtime::Assembly* assembly_;
  static runtime::Session* session_;
  static Json* golden_;
};
runtime::Assembly* SmolLm2::assembly_ = nullptr;
runtime::Session* SmolLm2::session_ = nullptr;
Json* SmolLm2::golden_ = nullptr;

TEST_F(SmolLm2, NastyTextsGiveTheSameIdsAndText) {
  for (const auto& [name, record] : golden_->at("texts").items()) {
    const std::string text = record.at("text").get<std::string>();
    for (const bool special : {false, true}) {
      const Json& expected = record.at(special ? "special" : "plain");
      const std::vector<uint32_t> ids = assembly_->tokenizer->encode(text, {special, false}).ids;
      EXPECT_EQ(ids, expected.at("ids").get<std::vector<uint32_t>>()) << name;
      EXPECT_EQ(assembly_->tokenizer->decode(ids, false), expected.at("decoded").get<std::string>()) << name;
      EXPECT_EQ(assembly_->tokenizer->decode(ids, true),
                expected.at("decoded_without_special").get<std::string>())
          << name;
    }
  }
}

TEST_F(SmolLm2, ChatsRenderAndAnswerTheSame) {
  for (const auto& [name, record] : golden_->at("chats").items()) {
    std::string rendered;
    const std::vector<uint32_t> ids = assembly_->chat_template->encode(record.at("messages"), {}, &rendered);
    EXPECT_EQ(rendered, record.at("rendered").get<std::string>()) << name;
    EXPECT_EQ(ids, record.at("ids").get<std::vector<uint32_t>>()) << name;
    text::RenderOptions without_prompt;
    without_prompt.add_generation_prompt = false;
    EXPECT_EQ(assembly_->chat_template->render(record.at("messages"), without_prompt),
              record.at("rendered_without_prompt").get<std::string>());
    for (const double margin : record.at("margins").get<std::vector<double>>())
      ASSERT_GE(margin, kMargin) << name;
    runtime::GenerateRequest request;
    request.prompt_ids = ids;
    request.params = runtime::resolve_params(*assembly_);
    const runtime::GenerateResult result = runtime::generate(*session_, request);
    EXPECT_EQ(result.sequences.front().ids, record.at("greedy").get<std::vector<uint32_t>>()) << name;
    EXPECT_EQ(result.sequences.front().text, record.at("text").get<std::string>()) << name;
  }
}

TEST_F(SmolLm2, PerplexityOfAText) {
  const Json& expected = golden_->at("perplexity");
  const std::string text = read_file(paths::fixtures() + "/" + expected.at("file").get<std::string>());
  const std::vector<uint32_t> ids = assembly_->tokenizer->encode(text, {false, true}).ids;
  ASSERT_EQ(ids.size(), expected.at("tokens").get<size_t>());
  for (const Json& windows : expected.at("windows")) {
    const runtime::Perplexity found = runtime::perplexity(
        *session_, ids, windows.at("window").get<uint64_t>(), windows.at("stride").get<uint64_t>(), nullptr);
    EXPECT_EQ(found.tokens, windows.at("tokens").get<uint64_t>());
    EXPECT_NEAR(found.nll, windows.at("nll").get<double>(), kNllTolerance);
  }
}

TEST_F(SmolLm2, PromptLookupIsExactlyGreedy) {
  for (const auto& [name, record] : golden_->at("chats").items()) {
    runtime::GenerateRequest request;
    request.prompt_ids = record.at("ids").get<std::vector<uint32_t>>();
    request.params = runtime::resolve_params(*assembly_);
    request.params.prompt_lookup_num_tokens = 8;
    EXPECT_EQ(runtime::generate(*session_, request).sequences.front().ids,
              record.at("greedy").get<std::vector<uint32_t>>())
        << name;
  }
}

}  // namespace
}  // namespace rhapsode
