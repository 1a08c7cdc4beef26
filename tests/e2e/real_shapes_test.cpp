// The models of the guide in their true shapes, planned by the real binary. Byte totals are those of the
// published files. tests/shapes loads and runs them.
#include <gtest/gtest.h>

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

INSTANTIATE_TEST_SUITE_P(Guide, RealShapes, ::testing::ValuesIn(true_shapes().begin(), true_shapes().end()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace rhapsode::testing
