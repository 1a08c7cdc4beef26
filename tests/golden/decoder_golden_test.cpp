// Every tiny checkpoint against what transformers computed with it: logits at every position, hidden states,
// greedy ids.
#include <gtest/gtest.h>

#include <cmath>

#include "models/golden_model.h"

namespace rhapsode {
namespace {

// fp32: error of a row relative to its norm. Sums are ordered otherwise than in torch, nothing else differs.
constexpr double kLogitsTolerance = 1e-4;
constexpr double kHiddenTolerance = 1e-4;

double relative_error(const float* found, const float* expected, size_t n) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < n; ++i) {
    const double d = static_cast<double>(found[i]) - static_cast<double>(expected[i]);
    error += d * d;
    norm += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
  }
  return std::sqrt(error) / std::sqrt(norm);
}

class DecoderGolden : public testing::TestWithParam<std::string> {};

TEST_P(DecoderGolden, LogitsAtEveryPosition) {
  const Golden golden = open_golden(GetParam());
  LoadedModel model(golden_directory(GetParam()), Dtype::f32, 2, 256);
  const size_t vocab = model.architecture.spec.vocab_size;
  for (const auto& [prompt, record] : golden.json.at("float32").items()) {
    const auto ids = record.at("ids").get<std::vector<uint32_t>>();
    const auto positions = record.at("logit_positions").get<std::vector<size_t>>();
    const std::vector<float> found = model.logits(ids);
    const std::vector<float>& expected = golden.tensors.at(prompt + ".logits");
    for (size_t i = 0; i < positions.size(); ++i)
      ASSERT_LE(relative_error(&found[positions[i] * vocab], &expected[i * vocab], vocab), kLogitsTolerance)
          << prompt << " position " << positions[i];
  }
}

TEST_P(DecoderGolden, HiddenStatesOfEveryLayer) {
  const Golden golden = open_golden(GetParam());
  LoadedModel model(golden_directory(GetParam()), Dtype::f32, 1, 256);
  const size_t hidden = model.architecture.spec.hidden_size;
  for (const auto& [prompt, record] : golden.json.at("float32").items()) {
    if (!record.contains("hidden_positions")) continue;
    const auto positions = record.at("hidden_positions").get<std::vector<size_t>>();
    const std::vector<float>& expected = golden.tensors.at(prompt + ".hidden");
    uint64_t layers_seen = 0;
    model.decoder.observe([&](uint64_t layer, const float* found, uint64_t stride, uint32_t) {
      ++layers_seen;
      for (size_t i = 0; i < positions.size(); ++i)
        EXPECT_LE(relative_error(found + positions[i] * stride,
                                 &expected[(layer * positions.size() + i) * hidden], hidden),
                  kHiddenTolerance)
            << prompt << " layer " << layer << " position " << positions[i];
    });
    model.logits(record.at("ids").get<std::vector<uint32_t>>());
    EXPECT_EQ(layers_seen, model.architecture.spec.num_hidden_layers + 1);
  }
}

TEST_P(DecoderGolden, GreedyIds) {
  const Golden golden = open_golden(GetParam());
  LoadedModel model(golden_directory(GetParam()), Dtype::f32, 2, 64);
  for (const auto& [prompt, record] : golden.json.at("float32").items())
    EXPECT_EQ(model.greedy(record.at("ids").get<std::vector<uint32_t>>(), 64),
              record.at("greedy").get<std::vector<uint32_t>>())
        << prompt;
}

// 16-bit: transformers rounds scores and probabilities of eager attention to the dtype, we keep them in fp32,
// so logits agree within a few roundings, and greedy ids wherever the margin exceeds that noise.
struct SixteenBit {
  Dtype dtype;
  const char* name;
  double tolerance;  // of a row, relative to its norm
};

void compare_sixteen_bit(const std::string& fixture, const SixteenBit& type) {
  const Golden golden = open_golden(fixture);
  LoadedModel model(golden_directory(fixture), type.dtype, 2, 256);
  const size_t vocab = model.architecture.spec.vocab_size;
  for (const auto& [prompt, record] : golden.json.at("float32").items()) {
    const auto ids = record.at("ids").get<std::vector<uint32_t>>();
    const std::vector<float> found = model.logits(ids);
    const std::vector<float>& expected = golden.tensors.at(prompt + "." + type.name + ".last_logits");
    EXPECT_LE(relative_error(&found[(ids.size() - 1) * vocab], expected.data(), vocab), type.tolerance)
        << prompt;
  }
}

TEST_P(DecoderGolden, Bfloat16Logits) {
  compare_sixteen_bit(GetParam(), {Dtype::bf16, "bfloat16", 0.05});
}
TEST_P(DecoderGolden, Float16Logits) {
  compare_sixteen_bit(GetParam(), {Dtype::f16, "float16", 0.01});
}

std::string test_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(Families, DecoderGolden, testing::ValuesIn(golden_fixtures()), test_name);

}  // namespace
}  // namespace rhapsode
