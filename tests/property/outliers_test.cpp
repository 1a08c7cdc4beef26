// Outlier columns of int8 found token by token: a result never depends on what is computed beside it. Found
// call by call, as bitsandbytes does, it does.
#include <gtest/gtest.h>

#include "models/golden_model.h"

namespace rhapsode {
namespace {

std::vector<float> logits(bool row_outliers, uint32_t chunk_tokens) {
  LoadedModel model(golden_directory("llama-bnb-int8-odd-bias"), Dtype::f32, 2, chunk_tokens, {}, 512, true,
                    row_outliers);
  std::vector<uint32_t> ids;
  for (uint32_t i = 0; i < 40; ++i) ids.push_back(3 + i * 11 % 120);
  return model.logits(ids);
}

TEST(Outliers, OfARowDoNotDependOnTheCall) {
  const std::vector<float> alone = logits(true, 1);
  EXPECT_EQ(logits(true, 40), alone);
  EXPECT_EQ(logits(true, 7), alone);
}

TEST(Outliers, OfACallDo) {
  EXPECT_NE(logits(false, 40), logits(false, 1));  // the fixture has outliers, or this test says nothing
  EXPECT_EQ(logits(false, 1), logits(true, 1));
}

}  // namespace
}  // namespace rhapsode
