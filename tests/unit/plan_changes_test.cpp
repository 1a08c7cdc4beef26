// What a misfit proposes: in which order, and that each change does what it says.
#include <gtest/gtest.h>

#include "config/machine.h"
#include "models/golden_model.h"
#include "runtime/assembly.h"
#include "support/scratch.h"

namespace rhapsode::plan {
namespace {

Plan planned(const std::string& fixture, const std::string& machine,
             const std::vector<std::string>& sets = {}) {
  const testing::Scratch scratch;
  runtime::Settings settings;
  settings.config.file =
      scratch.put("rag.yaml", "generator:\n  active_model: tiny\n  models:\n    tiny:\n      model_id: \"" +
                                  golden_directory(fixture) + "\"\n      torch_dtype: float32\n");
  settings.config.sets = sets;
  std::string problem;
  settings.machine = config::parse_machine(machine, problem);
  settings.tokenizer = false;
  settings.threads = 1;
  const runtime::Assembly assembly = runtime::assemble(settings);
  return runtime::make_plan(assembly);
}

std::vector<std::string> names(const Plan& plan) {
  std::vector<std::string> out;
  for (const Change& change : plan.changes) out.push_back(change.what);
  return out;
}

void expect_true(const std::string& fixture, const std::string& machine, const Plan& misfit) {
  for (const Change& change : misfit.changes) {
    const Plan changed = planned(fixture, machine, change.set);
    EXPECT_EQ(changed.fits, change.fits) << change.what;
    EXPECT_EQ(total_bytes(changed), change.total_bytes) << change.what;
  }
}

TEST(Changes, OfAGpuThatIsTooSmallInOrderOfTheirLoss) {
  const uint64_t all = total_bytes(planned("llama-mqa", "8MB,cpu=20MB"));
  const std::string machine = std::to_string(all / 1000 - 20) + "KB,cpu=20MB";
  const Plan misfit = planned("llama-mqa", machine);
  ASSERT_FALSE(misfit.fits);
  const std::vector<std::string> found = names(misfit);
  ASSERT_GE(found.size(), 4u);
  EXPECT_EQ(found.front(), "layers offloaded to the cpu");
  EXPECT_EQ(found.back(), "layers left on disk");
  const auto at = [&](const std::string& what) {
    return std::find(found.begin(), found.end(), what) - found.begin();
  };
  EXPECT_LT(at("a shorter context"), at("16-bit weights"));
  EXPECT_LT(at("16-bit weights"), at("8bit weights"));
  EXPECT_LT(at("8bit weights"), at("4bit weights"));
  expect_true("llama-mqa", machine, misfit);
}

TEST(Changes, OfACpuThatIsTooSmall) {
  const Plan misfit = planned("llama-gqa", "cpu=1MB");
  ASSERT_FALSE(misfit.fits);
  EXPECT_EQ(names(misfit).front() == "layers offloaded to the cpu",
            false);  // there is nothing to offload from
  expect_true("llama-gqa", "cpu=1MB", misfit);
}

// Limits of weights alone are the user's, whatever the size of the device.
TEST(Changes, OfferNoMoreThanTheUserGaveUnderAccountingOfWeights) {
  for (const char* limit : {"max_memory={0: 60KB}", "max_gpu_memory=60KB"}) {
    const Plan misfit = planned("llama-mqa", "8MB,cpu=20MB", {limit, "accounting=weights"});
    ASSERT_FALSE(misfit.fits);
    ASSERT_FALSE(misfit.changes.empty());
    EXPECT_EQ(misfit.changes.front().set, std::vector<std::string>{"max_memory={0: 60000, cpu: 20000000}"});
    for (const Change& change : misfit.changes)
      for (const std::string& set : change.set) EXPECT_EQ(set.find("8000000"), std::string::npos) << set;
  }
}

// Its room is there before a context or a limit is proposed.
TEST(Changes, CountAScreenThatIsAskedFor) {
  const std::vector<std::string> asked = {"lm_head_screening=true", "torch_dtype=bfloat16"};
  const uint64_t all = total_bytes(planned("llama-mqa", "8MB,cpu=20MB", asked));
  const std::string machine = std::to_string(all / 1000 - 40) + "KB,cpu=20MB";
  const Plan misfit = planned("llama-mqa", machine, asked);
  ASSERT_FALSE(misfit.fits);
  EXPECT_EQ(misfit.workable_limits.at(0).second, all);
  ASSERT_GT(misfit.max_context, 0u);
  std::vector<std::string> shorter = asked;
  shorter.push_back("max_context=" + std::to_string(misfit.max_context));
  EXPECT_TRUE(planned("llama-mqa", machine, shorter).fits);
}

TEST(Changes, WeightsThatAreQuantizedAlreadyAreNotQuantizedAgain) {
  const Plan misfit = planned("bitnet-packed", "cpu=100KB");
  ASSERT_FALSE(misfit.fits);
  for (const std::string& what : names(misfit))
    EXPECT_EQ(what.find("bit weights") != std::string::npos && what[0] != '1', false) << what;
  EXPECT_FALSE(misfit.workable_limits.empty());
}

TEST(Changes, AreNoneWhereItFits) {
  const Plan fits = planned("llama-mqa", "cpu=20MB");
  EXPECT_TRUE(fits.fits);
  EXPECT_TRUE(fits.changes.empty());
  EXPECT_TRUE(fits.workable_limits.empty());
}

TEST(Changes, TheWorkableLimitIsExactForOneDevice) {
  const Plan fits = planned("llama-mqa", "cpu=20MB");
  const Plan misfit = planned("llama-mqa", "cpu=1MB");
  ASSERT_EQ(misfit.workable_limits.size(), 1u);
  EXPECT_EQ(misfit.workable_limits[0].first, "cpu");
  EXPECT_EQ(misfit.workable_limits[0].second, total_bytes(fits));
}

}  // namespace
}  // namespace rhapsode::plan
