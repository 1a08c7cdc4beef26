// The models of the guide in their true shapes, loaded and run by the real binary from checkpoints of holes.
// Some minutes and up to 8 GB of memory, so not among the everyday tests: ./dev test shapes.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>

#include "e2e/program.h"
#include "models/true_shapes.h"
#include "support/scratch.h"

namespace rhapsode::testing {
namespace {

struct Case {
  const char* shape;
  const char* keys;  // of the model entry
};

const Case kCases[] = {
    {"llama_2_7b", "quantization: 4bit"}, {"llama_2_7b", "quantization: 8bit"},
    {"mistral_7b", "quantization: 4bit"}, {"gemma_2_9b", "quantization: 4bit"},
    {"phi_2", "quantization: null"},      {"bitnet_2b", "quantization: null"},
};

class TrueShapes : public ::testing::TestWithParam<Case> {};

TEST_P(TrueShapes, LoadAndAnswer) {
  const Scratch scratch;
  write_holes(scratch.path().string(), true_shape(GetParam().shape), 16);
  const std::string yaml = scratch.put(
      "rag.yaml",
      "generator:\n  active_model: m\n  models:\n    m:\n      type: huggingface\n      model_id: \"" +
          scratch.path().string() + "\"\n      do_sample: false\n      max_new_tokens: 4\n      " +
          GetParam().keys + "\n");
  const auto start = std::chrono::steady_clock::now();
  Launch launch{{"run", "-c", yaml, "--ids", "3,1,4,1,5,9,2,6", "--json", "-q"}, "", {}};
  launch.patience_ms = 1'200'000;
  const Outcome outcome = run_program(launch);
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
  ASSERT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  const Json result = outcome.json();
  EXPECT_TRUE(result.at("output_ids").size() == 4 || result.at("finish_reason") == "stop") << outcome.out;
  const double planned = result.at("memory").at("plan_bytes").get<double>();
  const double peak = result.at("memory").at("peak_rss_bytes").get<double>();
  EXPECT_LE(peak, planned * 1.03);
  const Json& timings = result.at("timings");
  std::printf("%s, %s: %.1f s in all, load %.1f s, prompt of 8 %.2f s, plan %.3f GB, peak %.3f GB\n",
              GetParam().shape, GetParam().keys, wall.count(), timings.at("load_ms").get<double>() / 1e3,
              timings.at("prompt_ms").get<double>() / 1e3, planned / 1e9, peak / 1e9);
}

INSTANTIATE_TEST_SUITE_P(Guide, TrueShapes, ::testing::ValuesIn(kCases), [](const auto& info) {
  std::string name = std::string(info.param.shape) + "_" + info.param.keys;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
});

}  // namespace
}  // namespace rhapsode::testing
