// Every tiny checkpoint against what transformers computed with it: logits at every position, hidden states,
// greedy ids.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <set>

#include "base/json.h"
#include "models/golden_model.h"

namespace rhapsode {
namespace {

// The dtype in which a fixture was recorded at every position: float32, or what the file's scales are in.
std::string primary_name(const Golden& golden) {
  return golden.json.at("primary").get<std::string>();
}

Dtype primary(const Golden& golden) {
  return *dtype_from_torch_name(primary_name(golden));
}

// Error of a row relative to its norm. In fp32 sums are ordered otherwise than in torch, nothing else
// differs. In 16 bits transformers rounds scores and probabilities of eager attention to the dtype, we keep
// them in fp32: rows agree within a few roundings, which squared ReLU and the int8 steps of BitNet's
// activations widen.
double tolerance(const Golden& golden, Dtype dtype) {
  if (dtype == Dtype::f32) return 1e-4;
  if (golden.json.at("family") == "bitnet") return 0.1;
  return dtype == Dtype::f16 ? 0.01 : 0.05;
}

double relative_error(const float* found, const float* expected, size_t n) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < n; ++i) {
    const double d = static_cast<double>(found[i]) - static_cast<double>(expected[i]);
    error += d * d;
    norm += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
  }
  return std::sqrt(error) / std::sqrt(norm);
}

// int8 finds outlier columns pass by pass: a prompt has to be one, as it is for transformers, and as hf-exact
// plans it.
uint32_t chunk_tokens(const std::string& fixture, uint32_t otherwise) {
  return fixture.find("int8") != std::string::npos ? 512 : otherwise;
}

class DecoderGolden : public testing::TestWithParam<std::string> {};

TEST_P(DecoderGolden, LogitsAtEveryPosition) {
  const Golden golden = open_golden(GetParam());
  LoadedModel model(golden_directory(GetParam()), primary(golden), 2, chunk_tokens(GetParam(), 256));
  const size_t vocab = model.architecture.spec.vocab_size;
  for (const auto& [prompt, record] : golden.json.at(primary_name(golden)).items()) {
    const auto ids = record.at("ids").get<std::vector<uint32_t>>();
    const auto positions = record.at("logit_positions").get<std::vector<size_t>>();
    const std::vector<float> found = model.logits(ids);
    const std::vector<float>& expected = golden.tensors.at(prompt + ".logits");
    for (size_t i = 0; i < positions.size(); ++i)
      ASSERT_LE(relative_error(&found[positions[i] * vocab], &expected[i * vocab], vocab),
                tolerance(golden, primary(golden)))
          << prompt << " position " << positions[i];
  }
}

TEST_P(DecoderGolden, HiddenStatesOfEveryLayer) {
  const Golden golden = open_golden(GetParam());
  LoadedModel model(golden_directory(GetParam()), primary(golden), 1, 256);
  const size_t hidden = model.architecture.spec.hidden_size;
  for (const auto& [prompt, record] : golden.json.at(primary_name(golden)).items()) {
    if (!record.contains("hidden_positions")) continue;
    const auto positions = record.at("hidden_positions").get<std::vector<size_t>>();
    const std::vector<float>& expected = golden.tensors.at(prompt + ".hidden");
    uint64_t layers_seen = 0;
    model.decoder.observe(
        [&, &prompt = prompt](uint64_t layer, const float* found, uint64_t stride, uint32_t) {
          ++layers_seen;
          for (size_t i = 0; i < positions.size(); ++i)
            EXPECT_LE(relative_error(found + positions[i] * stride,
                                     &expected[(layer * positions.size() + i) * hidden], hidden),
                      tolerance(golden, primary(golden)))
                << prompt << " layer " << layer << " position " << positions[i];
        });
    model.logits(record.at("ids").get<std::vector<uint32_t>>());
    EXPECT_EQ(layers_seen, model.architecture.spec.num_hidden_layers + 1);
  }
}

// The record whose greedy ids are ours: float32, or the 16 bits of the file with attention kept in float32.
const Json& exact_record(const Golden& golden) {
  return golden.json.at(golden.json.contains("float32_attention") ? "float32_attention"
                                                                  : primary_name(golden));
}

TEST_P(DecoderGolden, GreedyIds) {
  const Golden golden = open_golden(GetParam());
  LoadedModel model(golden_directory(GetParam()), primary(golden), 2, chunk_tokens(GetParam(), 64));
  for (const auto& [prompt, prompt_record] : golden.json.at(primary_name(golden)).items()) {
    const Json& record = exact_record(golden).at(prompt);
    EXPECT_EQ(model.greedy(prompt_record.at("ids").get<std::vector<uint32_t>>(), 64),
              record.at("greedy").get<std::vector<uint32_t>>())
        << prompt;
  }
}

// Fixtures that were recorded with float32 attention too.
class DecoderFloat32Attention : public testing::TestWithParam<std::string> {};

TEST_P(DecoderFloat32Attention, SixteenBitsAreExact) {
  const Golden golden = open_golden(GetParam());
  LoadedModel model(golden_directory(GetParam()), primary(golden), 2, 256);
  const size_t vocab = model.architecture.spec.vocab_size;
  for (const auto& [prompt, record] : golden.json.at(primary_name(golden)).items()) {
    const std::vector<float> found = model.logits(record.at("ids").get<std::vector<uint32_t>>());
    const std::vector<float>& expected = golden.tensors.at(prompt + ".float32_attention.last_logits");
    EXPECT_LE(relative_error(&found[found.size() - vocab], expected.data(), vocab), 1e-4) << prompt;
  }
}

class DecoderTernary : public testing::TestWithParam<std::string> {};

// Ternary weights by exact integer sums and one rounding: float32 differs by the order of roundings, 16 bits
// by those that transformers makes on the way.
TEST_P(DecoderTernary, FastIsClose) {
  const Golden golden = open_golden(GetParam());
  const Dtype dtype = primary(golden);
  LoadedModel model(golden_directory(GetParam()), dtype, 2, 256, {}, 512, false);
  ASSERT_NE(model.architecture.spec.linear, arch::LinearKind::dense);
  const size_t vocab = model.architecture.spec.vocab_size;
  for (const auto& [prompt, record] : golden.json.at(primary_name(golden)).items()) {
    const std::vector<float> found = model.logits(record.at("ids").get<std::vector<uint32_t>>());
    const std::vector<float>& expected = golden.tensors.at(prompt + ".logits");
    EXPECT_LE(relative_error(&found[found.size() - vocab], &expected[expected.size() - vocab], vocab),
              dtype == Dtype::f32 ? 1e-3 : 0.15)
        << prompt;
    if (dtype != Dtype::f32) continue;
    EXPECT_EQ(model.greedy(record.at("ids").get<std::vector<uint32_t>>(), 64),
              record.at("greedy").get<std::vector<uint32_t>>())
        << prompt;
  }
}

// Greedy ids are those of transformers up to a step whose best two logits are closer than the dtype's noise:
// a row's error is within `tolerance` of its norm, the gap between two of its logits within root two of that.
void compare_greedy(LoadedModel& model, const Json& prompt, const Json& record, double noise) {
  const auto expected = record.at("greedy").get<std::vector<uint32_t>>();
  std::vector<uint32_t> ids = prompt.at("ids").get<std::vector<uint32_t>>();
  const std::vector<uint32_t> found = model.greedy(ids, static_cast<uint32_t>(expected.size()));
  const auto first = std::mismatch(found.begin(), found.end(), expected.begin()).first - found.begin();
  if (first == static_cast<ptrdiff_t>(found.size())) return;
  ids.insert(ids.end(), found.begin(), found.begin() + first);
  const size_t vocab = model.architecture.spec.vocab_size;
  const std::vector<float> rows = model.logits(ids);
  double norm = 0;
  for (size_t i = rows.size() - vocab; i < rows.size(); ++i)
    norm += static_cast<double>(rows[i]) * static_cast<double>(rows[i]);
  EXPECT_LE(record.at("margins").at(static_cast<size_t>(first)).get<double>(),
            std::sqrt(2.0) * noise * std::sqrt(norm))
      << "step " << first;
}

void compare_sixteen_bit(const std::string& fixture, const char* name) {
  const Golden golden = open_golden(fixture);
  const Dtype dtype = *dtype_from_torch_name(name);
  LoadedModel model(golden_directory(fixture), dtype, 2, 256);
  const size_t vocab = model.architecture.spec.vocab_size;
  for (const auto& [prompt, record] : golden.json.at(primary_name(golden)).items()) {
    SCOPED_TRACE(prompt);
    const auto ids = record.at("ids").get<std::vector<uint32_t>>();
    const std::vector<float> found = model.logits(ids);
    const std::vector<float>& expected = golden.tensors.at(prompt + "." + name + ".last_logits");
    EXPECT_LE(relative_error(&found[(ids.size() - 1) * vocab], expected.data(), vocab),
              tolerance(golden, dtype));
    compare_greedy(model, record, golden.json.at(name).at(prompt), tolerance(golden, dtype));
  }
}

// Fixtures that exist in float32 and were recorded in that dtype too. transformers cannot load BitNet's
// quantized files in another dtype than their own.
class DecoderBfloat16 : public testing::TestWithParam<std::string> {};
class DecoderFloat16 : public testing::TestWithParam<std::string> {};

TEST_P(DecoderBfloat16, LogitsAndIdsWithinItsNoise) {
  compare_sixteen_bit(GetParam(), "bfloat16");
}
TEST_P(DecoderFloat16, LogitsAndIdsWithinItsNoise) {
  compare_sixteen_bit(GetParam(), "float16");
}

// What the golden sets must hold for the tests above to mean something: for each family three configurations,
// with shapes in which one size cannot stand for another.
TEST(GoldenFixtures, OfEveryFamilyThreeWithAsymmetricShapes) {
  const std::set<std::string_view> own_head_dim{"llama", "mistral", "qwen3",
                                                "gemma", "gemma2",  "gemma3_text"};
  const std::set<std::string_view> windowed{"mistral", "qwen2", "phi3", "smollm3", "gemma2", "gemma3_text"};
  for (const arch::Family& family : arch::families()) {
    size_t count = 0, odd = 0, grouped = 0, widths_differ = 0, short_window = 0;
    for (const std::string& name : golden_fixtures()) {
      const arch::Spec spec = arch::read_architecture(golden_directory(name)).spec;
      if (spec.model_type != family.model_type) continue;
      ++count;
      odd += spec.vocab_size % 2;
      grouped += spec.num_key_value_heads < spec.num_attention_heads;
      widths_differ += spec.q_rows() != spec.hidden_size;
      short_window += std::any_of(spec.layers.begin(), spec.layers.end(), [](const arch::LayerSpec& layer) {
        return layer.window > 0 && layer.window < 33;  // the second longest prompt
      });
    }
    EXPECT_GE(count, 3u) << family.model_type;
    EXPECT_GE(odd, 3u) << family.model_type;
    EXPECT_TRUE(grouped > 0 || family.model_type == "gpt_neox") << family.model_type;
    EXPECT_TRUE(widths_differ > 0 || !own_head_dim.contains(family.model_type)) << family.model_type;
    EXPECT_TRUE(short_window > 0 || !windowed.contains(family.model_type)) << family.model_type;
    std::printf("counted: %zu golden sets of the families: %s\n", count,
                std::string(family.model_type).c_str());
  }
}

// Names of the fixtures whose `file` holds one text and not the other.
std::vector<std::string> fixtures_with(const std::string& file, const std::string& text,
                                       const std::string& absent = "\n\n") {
  std::vector<std::string> names;
  for (const std::string& name : golden_fixtures()) {
    const std::string json = read_file(golden_directory(name) + "/" + file);
    if (json.find(text) != std::string::npos && json.find(absent) == std::string::npos) names.push_back(name);
  }
  return names;
}

std::string test_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(Families, DecoderGolden, testing::ValuesIn(golden_fixtures()), test_name);
INSTANTIATE_TEST_SUITE_P(Families, DecoderFloat32Attention,
                         testing::ValuesIn(fixtures_with("golden.json", "\"float32_attention\":{")),
                         test_name);
INSTANTIATE_TEST_SUITE_P(Families, DecoderTernary,
                         testing::ValuesIn(fixtures_with("config.json", "\"quant_method\": \"bitnet\"")),
                         test_name);
INSTANTIATE_TEST_SUITE_P(Families, DecoderBfloat16,
                         testing::ValuesIn(fixtures_with("golden.json", "\"bfloat16\":{",
                                                         "\"primary\":\"bfloat16\"")),
                         test_name);
INSTANTIATE_TEST_SUITE_P(Families, DecoderFloat16,
                         testing::ValuesIn(fixtures_with("golden.json", "\"float16\":{")), test_name);

}  // namespace
}  // namespace rhapsode
