// The models of the guide in their true shapes, planned by the real binary. Byte totals are those of the
// published files. tests/shapes loads and runs them.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <sstream>

#include "e2e/program.h"
#include "models/true_shapes.h"
#include "support/scratch.h"

namespace rhapsode::testing {
namespace {

class RealShapes : public ::testing::TestWithParam<TrueShape> {};

TEST_P(RealShapes, PlanSaysThePublishedBytes) {
  const Scratch scratch;
  const Holes holes = write_holes(scratch.path().string(), GetParam(), 0);
  ASSERT_EQ(holes.bytes, GetParam().file_bytes);
  ASSERT_EQ(holes.tensors, GetParam().tensors);
  const std::string yaml = scratch.put(
      "rag.yaml",
      "generator:\n  active_model: m\n  models:\n    m:\n      type: huggingface\n      model_id: \"" +
          scratch.path().string() + "\"\n      max_context: 2048\n");
  const Outcome outcome = rhapsode({"plan", "-c", yaml, "--json"});
  ASSERT_TRUE(outcome.code == 0 || outcome.code == 7) << outcome.out << outcome.err;
  const Json plan = outcome.json();
  uint64_t weights = 0, kv = 0;
  for (const Json& device : plan.at("devices")) {
    weights += device.at("weights_bytes").get<uint64_t>();
    kv += device.at("kv_bytes").get<uint64_t>();
  }
  // Norms and biases are held as float32, ternary scales as numbers of the program, and each allocation is
  // aligned to 64 bytes: 0.1 % at most.
  EXPECT_GE(weights + 1000, GetParam().file_bytes);
  EXPECT_LE(weights, GetParam().file_bytes + GetParam().file_bytes / 1000);
  EXPECT_EQ(kv, 2048 * GetParam().token_kv_bytes);
}

// The guide's model examples with their own keys, on GPUs of the size that each is written for.
struct Example {
  const char* shape;
  const char* machine;
  const char* keys;  // lines of the entry
  bool fits;
};

const Example kExamples[] = {
    {"bitnet_2b", "4GB,cpu=64GB",
     "      torch_dtype: bfloat16\n      device_map: auto\n      max_gpu_memory: \"3.8GB\"\n      "
     "max_tokens: 250\n",
     true},
    {"gemma_2_9b", "8GB,cpu=64GB",
     "      torch_dtype: float16\n      device_map: balanced\n      max_gpu_memory: \"7GB\"\n      "
     "quantization: 8bit\n"
     "      max_tokens: 512\n",
     false},
    {"llama_2_7b", "4GB,cpu=64GB",
     "      torch_dtype: float16\n      device_map: auto\n      max_gpu_memory: \"3.8GB\"\n      "
     "quantization: 4bit\n"
     "      max_tokens: 512\n",
     false},
    {"mistral_7b", "8GB,cpu=64GB",
     "      torch_dtype: bfloat16\n      device_map: auto\n      max_gpu_memory: \"7GB\"\n      "
     "quantization: 8bit\n"
     "      max_tokens: 1024\n",
     false},
    {"phi_2", "4GB,cpu=64GB",
     "      torch_dtype: float16\n      device_map: auto\n      max_gpu_memory: \"4GB\"\n      max_tokens: "
     "512\n",
     false},
    {"llama_2_70b", "2x40GB,cpu=64GB",
     "      torch_dtype: bfloat16\n      device_map: balanced\n      max_memory: {0: \"40GB\", 1: \"40GB\"}\n"
     "      quantization: 8bit\n      max_tokens: 2048\n      num_beams: 2\n",
     true},
};

uint64_t sum_of(const Json& devices, const char* field) {
  uint64_t bytes = 0;
  for (const Json& device : devices) bytes += device.at(field).get<uint64_t>();
  return bytes;
}

// A sentence a model: whether its plan fits its own limit, by how much not, and the first change that helps.
std::string told(const Example& example, const Json& plan) {
  std::ostringstream text;
  const Json& devices = plan.at("devices");
  text << example.shape << " on " << example.machine << ": " << sum_of(devices, "total_bytes")
       << " bytes (weights " << sum_of(devices, "weights_bytes") + sum_of(devices, "quant_metadata_bytes")
       << ", KV cache " << sum_of(devices, "kv_bytes") << " for " << plan.at("context_tokens")
       << " tokens), ";
  if (plan.at("fits").get<bool>())
    text << "fits, up to " << plan.at("max_context") << " tokens";
  else
    text << "short of " << plan.at("bytes_short") << ", largest context " << plan.at("max_context");
  for (const Json& change : plan.at("changes"))
    if (change.at("fits").get<bool>()) {
      text << "; helps: " << change.at("set").dump();
      break;
    }
  return text.str();
}

TEST(GuideExamples, FourOfFiveDoNotFitTheirOwnLimit) {
  for (const Example& example : kExamples) {
    const Scratch scratch;
    write_holes(scratch.path().string(), true_shape(example.shape), 0);
    const std::string yaml =
        scratch.put("rag.yaml", "generator:\n  active_model: m\n  models:\n    m:\n      model_id: \"" +
                                    scratch.path().string() + "\"\n" + example.keys);
    const auto start = std::chrono::steady_clock::now();
    const Outcome outcome = rhapsode({"plan", "-c", yaml, "--machine", example.machine, "--json"});
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    EXPECT_EQ(outcome.code, example.fits ? 0 : 7) << outcome.out << outcome.err;
    const Json plan = outcome.json();
    EXPECT_EQ(plan.at("fits"), example.fits) << example.shape;
    std::cout << told(example, plan) << " (" << took.count() << " s)\n";
    if (example.fits) continue;
    EXPECT_FALSE(plan.at("workable_limits").empty()) << example.shape;
    EXPECT_TRUE(std::any_of(plan.at("changes").begin(), plan.at("changes").end(), [](const Json& change) {
      return change.at("fits").get<bool>();
    })) << example.shape;
  }
}

INSTANTIATE_TEST_SUITE_P(Guide, RealShapes, ::testing::ValuesIn(true_shapes().begin(), true_shapes().end()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace rhapsode::testing
