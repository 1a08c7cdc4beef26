// The background carrier: one thing at a time, failures come out where they are waited for.
#include "model/carrier.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

namespace rhapsode::model {
namespace {

TEST(Carrier, DoesWhatItIsToldWhileTheCallerGoesOn) {
  Carrier carrier;
  int sum = 0;
  for (int i = 1; i <= 1000; ++i) {
    carrier.start([&sum, i] { sum += i; });
    carrier.finish();
  }
  EXPECT_EQ(sum, 500'500);
  carrier.finish();  // nothing is under way
}

TEST(Carrier, AFailureIsThrownOnce) {
  Carrier carrier;
  carrier.start([] { throw std::runtime_error("gone"); });
  EXPECT_THROW(carrier.finish(), std::runtime_error);
  EXPECT_NO_THROW(carrier.finish());
  std::atomic<bool> done{false};
  carrier.start([&] { done = true; });
  carrier.finish();
  EXPECT_TRUE(done);
}

TEST(Carrier, EndsAfterWhatIsUnderWay) {
  std::atomic<int> done{0};
  for (int i = 0; i < 100; ++i) {
    Carrier carrier;
    carrier.start([&] { ++done; });
  }
  EXPECT_EQ(done, 100);
}

}  // namespace
}  // namespace rhapsode::model
