// Every processor and warper, alone and combined, against what transformers computed (processors.json).
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "generation/processors.h"
#include "support/generation_params.h"

namespace rhapsode::generation {
namespace {

// Equal, both the same infinity, or within 1e-6 (relative above 1).
bool close(float a, float b) {
  return a == b || std::fabs(a - b) <= 1e-6f * std::max(1.0f, std::max(std::fabs(a), std::fabs(b)));
}

TEST(GenerationProcessors, equal_transformers) {
  const Json rows = golden_file("processors.json");
  ASSERT_GE(rows.size(), 300u);
  std::set<std::string> names;
  size_t compared = 0, bit_equal = 0;
  for (size_t n = 0; n < rows.size(); ++n) {
    const Json& row = rows[n];
    SCOPED_TRACE(std::to_string(n) + " " + row["name"].get<std::string>());
    names.insert(row["name"]);
    Params params = golden_params(row["params"]);
    params.max_new_tokens = row["max_new_tokens"];
    const auto ids = row["ids"].get<std::vector<uint32_t>>();
    std::vector<float> scores = golden_row(row["scores"]);
    const std::vector<float> expected = golden_row(row["expected"]);
    ProcessorList list(params, {row["prompt"], scores.size(), row["masked"]});
    list.process_row(ids, scores);
    for (size_t i = 0; i < scores.size(); ++i) {
      EXPECT_TRUE(close(scores[i], expected[i])) << i << ": " << scores[i] << " expected " << expected[i];
      ++compared;
      bit_equal += scores[i] == expected[i];
    }
  }
  EXPECT_GE(names.size(), 22u);
  RecordProperty("scores_compared", static_cast<int>(compared));
  RecordProperty("scores_bit_equal", static_cast<int>(bit_equal));
}

}  // namespace
}  // namespace rhapsode::generation
