// Which distance a tuner settles on, with a clock of the test's own, and what it leaves for the next start.
#include "model/access_tuner.h"

#include <gtest/gtest.h>

#include <map>

#include "runtime/access_record.h"
#include "support/scratch.h"

namespace rhapsode::model {
namespace {

using kernels::Access;
using std::chrono::nanoseconds;

// A machine on which a pass takes as long as its distance says; slow in every fifth pass, as shared ones are.
class AccessTunerTest : public ::testing::Test {
 protected:
  void SetUp() override { kernels::access = {.streamed = 0, .unpacked = 3072}; }
  void TearDown() override { kernels::access = before_; }

  AccessTuner tuner(uint32_t Access::*knob) {
    return AccessTuner(
        knob, [this](const AccessTuner::Choice& choice) { settled_.push_back(choice); },
        [this] { return now_; });
  }

  void pass(AccessTuner& tuner, uint32_t Access::*knob) {
    tuner.begin();
    const double slow = ++passes_ % 5 == 0 ? 1.35 : 1.0;
    now_ += nanoseconds(static_cast<int64_t>(1e6 * takes_.at(kernels::access.*knob) * slow));
    tuner.end();
  }

  std::map<uint32_t, double> takes_;
  std::vector<AccessTuner::Choice> settled_;
  nanoseconds now_{0};
  uint32_t passes_ = 0;
  const Access before_ = kernels::access;
};

TEST_F(AccessTunerTest, SettlesOnTheFastestDistance) {
  takes_ = {{0, 1.0}, {512, 0.97}, {1024, 0.95}, {2048, 0.8}, {3072, 0.9}, {6144, 0.9}};
  AccessTuner tuner = this->tuner(&Access::streamed);
  for (int i = 0; i < 500 && !tuner.is_settled(); ++i) {
    EXPECT_EQ(kernels::access.streamed, 0u) << "between passes the usual distance holds";
    pass(tuner, &Access::streamed);
  }
  ASSERT_EQ(settled_.size(), 1u);
  EXPECT_EQ(settled_[0].bytes, 2048u);
  EXPECT_NEAR(settled_[0].gain, 1.25, 1e-9);
  EXPECT_EQ(kernels::access.streamed, 2048u);
  EXPECT_EQ(kernels::access.unpacked, 3072u);
  pass(tuner, &Access::streamed);
  EXPECT_EQ(settled_.size(), 1u);
  EXPECT_EQ(kernels::access.streamed, 2048u);
}

TEST_F(AccessTunerTest, KeepsTheUsualDistanceWhereNoneWinsClearly) {
  takes_ = {{0, 0.98}, {512, 1.0}, {1024, 1.0}, {2048, 1.1}, {3072, 1.0}, {6144, 1.0}};
  AccessTuner tuner = this->tuner(&Access::unpacked);
  for (int i = 0; i < 500 && !tuner.is_settled(); ++i) pass(tuner, &Access::unpacked);
  ASSERT_EQ(settled_.size(), 1u);
  EXPECT_EQ(settled_[0].bytes, 3072u);
  EXPECT_EQ(settled_[0].gain, 1.0);
  EXPECT_EQ(kernels::access.unpacked, 3072u);
}

// Nine turns of fifteen: what a machine that is slow by turns gives by chance.
TEST_F(AccessTunerTest, WinningNowAndThenIsNotEnough) {
  AccessTuner tuner = this->tuner(&Access::streamed);
  for (int i = 0; i < 500 && !tuner.is_settled(); ++i) {
    const int turn = i / 6;
    takes_ = {{0, 1.0}, {512, 1.1}, {1024, 1.1}, {2048, turn % 5 < 3 ? 0.8 : 1.2}, {3072, 1.1}, {6144, 1.1}};
    tuner.begin();
    now_ += nanoseconds(static_cast<int64_t>(1e6 * takes_.at(kernels::access.streamed)));
    tuner.end();
  }
  ASSERT_EQ(settled_.size(), 1u);
  EXPECT_EQ(settled_[0].bytes, 0u);
}

TEST_F(AccessTunerTest, APassThatEndsInAnErrorDoesNotCount) {
  takes_ = {{0, 1.0}, {512, 1.0}, {1024, 0.9}, {2048, 0.8}, {3072, 0.9}, {6144, 0.9}};
  AccessTuner tuner = this->tuner(&Access::streamed);
  for (int i = 0; i < 500 && !tuner.is_settled(); ++i) {
    tuner.begin();  // and no end: an hour passes
    now_ += std::chrono::hours(1);
    pass(tuner, &Access::streamed);
  }
  ASSERT_EQ(settled_.size(), 1u);
  EXPECT_EQ(settled_[0].bytes, 2048u);
}

TEST(AccessRecord, IsReadBackByItsKeyAlone) {
  const testing::Scratch scratch;
  const std::string file = scratch.file("made/access.json");
  const runtime::AccessKey key{"AMD EPYC a20f11", "avx2", 2, "streamed"};
  EXPECT_FALSE(runtime::recorded_access(file, key));
  runtime::record_access(file, key, {1024, 1.5});
  runtime::record_access(file, key, {2048, 1.25});
  runtime::AccessKey other = key;
  other.threads = 1;
  EXPECT_FALSE(runtime::recorded_access(file, other));
  runtime::record_access(file, other, {0, 1.0});
  const auto found = runtime::recorded_access(file, key);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->bytes, 2048u);
  EXPECT_EQ(found->gain, 1.25);
}

TEST(AccessRecord, WhatIsNoRecordIsMadeAnew) {
  const testing::Scratch scratch;
  const std::string file = scratch.file("access.json");
  const runtime::AccessKey key{"cpu", "avx2", 2, "unpacked"};
  for (
      const char* text :
      {"", "{", "[]", "{\"version\":2}", "{\"version\":1,\"choices\":7}",
       "{\"version\":1,\"choices\":[7,{}]}",
       R"({"version":1,"choices":[{"cpu":"cpu","kernels":"avx2","threads":2,"weights":"unpacked","bytes_ahead":1e9,"gain":1}]})",
       R"({"version":1,"choices":[{"cpu":"cpu","kernels":"avx2","threads":-2,"weights":"unpacked","bytes_ahead":1,"gain":1}]})"}) {
    scratch.put("access.json", text);
    EXPECT_FALSE(runtime::recorded_access(file, key)) << text;
    runtime::record_access(file, key, {64, 1.0});
    EXPECT_TRUE(runtime::recorded_access(file, key)) << text;
  }
}

}  // namespace
}  // namespace rhapsode::model
