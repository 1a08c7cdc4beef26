// SmolLM2-135M-Instruct in 8 and 4 bits against transformers with bitsandbytes: greedy answers where the two
// best logits are further apart than the stated noise, and perplexity of a text. `./dev test real` names the
// model in RHAPSODE_SMOLLM2.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "base/json.h"
#include "models/paths.h"
#include "runtime/generate.h"
#include "runtime/params.h"
#include "runtime/perplexity.h"
#include "support/scratch.h"

namespace rhapsode {
namespace {

// What differs from the library: the order of sums (nf4), the nested scales that its look-up rounds otherwise
// (nf4-nested), and the int8 codes and outlier columns of activations that a last bit decides (int8). How far
// that moves a perplexity the library shows by itself: `last_bits` of its record.
struct Case {
  const char* name;
  std::vector<const char*> keys;
  double logit_noise;
  std::optional<double> nll_noise;  // none: what `last_bits` span
};
const Case kCases[] = {
    {"int8", {"quantization: \"8bit\""}, 0.1, std::nullopt},
    {"nf4",
     {"quantization: \"4bit\"",
      "quantization_config: {bnb_4bit_use_double_quant: false, bnb_4bit_compute_dtype: float32}"},
     1e-3,
     1e-5},
    {"nf4-nested",
     {"quantization: \"4bit\"", "quantization_config: {bnb_4bit_compute_dtype: float32}"},
     0.1,
     2e-3},
    {"fp4",
     {"quantization: \"4bit\"",
      "quantization_config: {bnb_4bit_quant_type: fp4, bnb_4bit_use_double_quant: false, "
      "bnb_4bit_compute_dtype: float32}"},
     1e-3,
     1e-5},
};

class SmolLm2Quantized : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const char* directory = std::getenv("RHAPSODE_SMOLLM2");
    ASSERT_NE(directory, nullptr) << "run ./dev test real: it fetches the model";
    const testing::Scratch scratch;
    const std::string file = scratch.file("smollm2.yaml");
    std::ofstream yaml(file);
    yaml << "generator:\n  active_model: smollm2\n  models:\n    smollm2:\n      type: huggingface\n"
         << "      model_id: \"" << directory << "\"\n      torch_dtype: float32\n      do_sample: false\n"
         << "      max_tokens: 32\n      numerics: hf-exact\n";
    for (const char* key : GetParam().keys) yaml << "      " << key << "\n";
    yaml.close();
    runtime::Settings settings;
    settings.config.file = file;
    assembly_ = std::make_unique<runtime::Assembly>(runtime::assemble(settings));
    const plan::Plan plan = runtime::make_plan(*assembly_, 512, 1, 256);
    session_ = std::make_unique<runtime::Session>(*assembly_, plan, 1, nullptr);
    golden_ = read_json_file(paths::fixtures() + "/golden/smollm2/quantized.json");
    plain_ = read_json_file(paths::fixtures() + "/golden/smollm2/golden.json");
  }

  std::unique_ptr<runtime::Assembly> assembly_;
  std::unique_ptr<runtime::Session> session_;
  Json golden_, plain_;
};

TEST_P(SmolLm2Quantized, AnswersAreTheLibrarysWhereTheNoiseCannotDecide) {
  size_t compared = 0;
  for (const auto& [chat, record] : golden_.at(GetParam().name).at("chats").items()) {
    runtime::GenerateRequest request;
    request.prompt_ids = plain_.at("chats").at(chat).at("ids").get<std::vector<uint32_t>>();
    request.params = runtime::resolve_params(*assembly_);
    const std::vector<uint32_t> found = runtime::generate(*session_, request).sequences.front().ids;
    const auto expected = record.at("greedy").get<std::vector<uint32_t>>();
    const auto margins = record.at("margins").get<std::vector<double>>();
    for (size_t i = 0; i < expected.size(); ++i) {
      const bool same = i < found.size() && found[i] == expected[i];
      if (!same && margins[i] <= GetParam().logit_noise) break;  // from here on the texts are two
      ASSERT_TRUE(same) << chat << " token " << i << ", margin " << margins[i];
      ++compared;
    }
  }
  RecordProperty("compared", static_cast<int>(compared));
  EXPECT_GE(compared, 8u);
}

TEST_P(SmolLm2Quantized, PerplexityIsTheLibrarys) {
  const Json& expected = golden_.at(GetParam().name).at("perplexity");
  const std::string text =
      read_file(paths::fixtures() + "/" + plain_.at("perplexity").at("file").get<std::string>());
  const std::vector<uint32_t> ids = assembly_->tokenizer->encode(text, {false, true}).ids;
  const runtime::Perplexity found = runtime::perplexity(*session_, ids, expected.at("window").get<uint64_t>(),
                                                        expected.at("stride").get<uint64_t>(), nullptr);
  EXPECT_EQ(found.tokens, expected.at("tokens").get<uint64_t>());
  if (GetParam().nll_noise) {
    EXPECT_NEAR(found.nll, expected.at("nll").get<double>(), *GetParam().nll_noise);
    return;
  }
  std::vector<double> right = golden_.at(GetParam().name).at("last_bits").get<std::vector<double>>();
  right.push_back(expected.at("nll").get<double>());
  EXPECT_GE(found.nll, *std::min_element(right.begin(), right.end()));
  EXPECT_LE(found.nll, *std::max_element(right.begin(), right.end()));
}

INSTANTIATE_TEST_SUITE_P(Formats, SmolLm2Quantized, ::testing::ValuesIn(kCases), [](const auto& info) {
  std::string name = info.param.name;
  for (char& c : name)
    if (c == '-') c = '_';
  return name;
});

}  // namespace
}  // namespace rhapsode
