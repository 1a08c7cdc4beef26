// The random numbers and the draw: published Philox vectors, exact ids for given uniforms, frequencies.
#include "generation/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "base/error.h"
#include "generation/request_state.h"
#include "generation/row_math.h"

namespace rhapsode::generation {
namespace {

using Words = std::array<uint32_t, 4>;

TEST(GenerationSampler, philox_known_answers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(GenerationSampler, draws_depend_on_seed_stream_and_position) {
  EXPECT_EQ(Draws(7, 0).at(3), Draws(7, 0).at(3));
  EXPECT_NE(Draws(7, 0).at(3), Draws(8, 0).at(3));
  EXPECT_NE(Draws(7, 0).at(3), Draws(7, 1).at(3));
  EXPECT_NE(Draws(7, 0).at(3), Draws(7, 0).at(4));
  // The seed contract: these numbers never change.
  EXPECT_EQ(Draws(0, 0).at(0), static_cast<double>((0x6627e8d5e169c58dULL >> 11)) * 0x1p-53);
}

TEST(GenerationSampler, pick_inverts_the_cumulative_distribution) {
  const std::vector<float> p{0.0f, 0.25f, 0.0f, 0.5f, 0.25f, 0.0f};
  EXPECT_EQ(pick(p, 0.0), 1u);
  EXPECT_EQ(pick(p, std::nextafter(0.25, 0.0)), 1u);
  EXPECT_EQ(pick(p, 0.25), 3u);
  EXPECT_EQ(pick(p, std::nextafter(0.75, 0.0)), 3u);
  EXPECT_EQ(pick(p, 0.75), 4u);
  EXPECT_EQ(pick(p, std::nextafter(1.0, 0.0)), 4u);
}

TEST(GenerationSampler, frequencies_follow_the_processed_distribution) {
  Params params;
  params.do_sample = true, params.temperature = 0.8, params.top_k = 6, params.top_p = 0.95, params.seed = 11;
  params.max_new_tokens = 40'000;
  const std::vector<float> logits{1.5f, -0.5f, 0.2f, 2.0f, 0.9f, -1.0f, 1.1f, 0.3f, -3.0f, 0.0f};
  std::vector<float> row = logits, expected(logits.size());
  ProcessorList(params, {1, row.size(), 0}).process_row(std::vector<uint32_t>{0}, row);
  softmax(row, expected);
  RequestState state(params, {0}, logits.size());
  std::vector<int> counts(logits.size());
  for (int i = 0; i < params.max_new_tokens; ++i) {
    row = logits;
    ++counts[state.push_logits(row).ids[0]];
  }
  double chi_square = 0;
  int kept = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double mean = static_cast<double>(expected[i]) * static_cast<double>(params.max_new_tokens);
    if (mean == 0) {
      EXPECT_EQ(counts[i], 0) << i;
      continue;
    }
    ++kept;
    chi_square += (counts[i] - mean) * (counts[i] - mean) / mean;
  }
  EXPECT_EQ(kept, 5);
  EXPECT_LT(chi_square, 18.4);  // 4 degrees of freedom, p = 0.001; the seed is fixed
}

TEST(GenerationRowMath, exponential_is_within_two_ulps) {
  for (int i = 0; i <= 200'000; ++i) {
    const float x = -static_cast<float>(i) * (86.9f / 200'000);
    const double exact = std::exp(static_cast<double>(x));
    ASSERT_LE(std::fabs(static_cast<double>(exp_nonpositive(x)) - exact), exact * 2 * 0x1p-23) << x;
  }
  EXPECT_EQ(exp_nonpositive(0.0f), 1.0f);
  EXPECT_EQ(exp_nonpositive(-INFINITY), 0.0f);
}

TEST(GenerationRowMath, argmax_takes_the_lowest_of_equals_and_refuses_nan) {
  for (const size_t size : {1u, 5u, 63u, 64u, 65u, 200u, 1000u}) {
    std::vector<float> row(size, -INFINITY);
    EXPECT_EQ(argmax(row), 0u);
    row[size - 1] = 2.0f;
    EXPECT_EQ(argmax(row), size - 1);
    row[size / 2] = 2.0f;
    EXPECT_EQ(argmax(row), size / 2);
    row[size / 3] = NAN;
    EXPECT_THROW(argmax(row), Error);
  }
}

TEST(GenerationRowMath, top_k_equals_a_full_sort) {
  for (size_t size = 1; size < 700; size += 23) {
    std::vector<float> row(size);
    for (size_t i = 0; i < size; ++i)
      row[i] = std::floor(static_cast<float>(Draws(size, 0).at(i)) * 90.0f) / 7;
    for (size_t k = 1; k <= size + 1; k += 1 + size / 9) {
      const float temperature = 0.37f;
      std::vector<float> sorted;
      for (const float x : row) sorted.push_back(x / temperature);
      std::sort(sorted.begin(), sorted.end(), std::greater<>());
      Candidates expected, found;
      for (size_t i = 0; i < size; ++i)
        if (row[i] / temperature >= sorted[std::min(k, size) - 1])
          expected.add(static_cast<uint32_t>(i), row[i] / temperature);
      TopKScratch scratch;
      select_top_k(row, k, temperature, scratch, found);
      ASSERT_EQ(found.ids, expected.ids) << size << " " << k;
      ASSERT_EQ(found.scores, expected.scores);
    }
  }
}

// 1 and the float just below it have the same quotient here: both reach the threshold.
TEST(GenerationRowMath, top_k_compares_after_the_division) {
  const float below = std::nextafter(1.0f, 0.0f), temperature = 1.7f;
  ASSERT_EQ(below / temperature, 1.0f / temperature);
  const std::vector<float> row{1.0f, below, 0.5f};
  TopKScratch scratch;
  Candidates found;
  select_top_k(row, 1, temperature, scratch, found);
  EXPECT_EQ(found.ids, (std::vector<uint32_t>{0, 1}));
}

TEST(GenerationRowMath, a_row_without_a_finite_best_is_no_distribution) {
  std::vector<float> row(100, -INFINITY);
  std::vector<float> out(row.size());
  EXPECT_THROW(softmax(row, out), Error);
  row[3] = INFINITY;
  EXPECT_THROW(softmax(row, out), Error);
  row[3] = NAN;
  EXPECT_THROW(softmax(row, out), Error);
}

}  // namespace
}  // namespace rhapsode::generation
