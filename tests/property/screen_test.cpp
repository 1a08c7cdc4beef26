// The screened head: whatever a row wants is there bit for bit, on any number of threads, one row or many, in
// every dense dtype; what is left out could not have mattered.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "models/golden_model.h"
#include "models/made_checkpoint.h"
#include "support/scratch.h"

namespace rhapsode {
namespace {

constexpr uint64_t kVocab = 4099;
constexpr float kLeftOut = -std::numeric_limits<float>::infinity();

std::string config(bool tied) {
  return R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":72,)"
         R"("intermediate_size":80,"num_hidden_layers":2,"num_attention_heads":6,"num_key_value_heads":2,)"
         R"("head_dim":20,"vocab_size":4099,"max_position_embeddings":512,"rms_norm_eps":1e-5,)"
         R"("hidden_act":"silu","tie_word_embeddings":)" +
         std::string(tied ? "true}" : "false}");
}

std::vector<uint32_t> some_ids(size_t count, uint32_t seed) {
  std::vector<uint32_t> ids;
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    ids.push_back((seed >> 8) % kVocab);
  }
  return ids;
}

// The rows of a pass over `ids`, each wanting the same.
std::vector<float> rows_of(LoadedModel& model, const std::vector<uint32_t>& ids, model::WantedLogits wanted) {
  model::Sequence sequence;
  const model::Span span{&sequence, ids, static_cast<uint32_t>(ids.size()), 0, false, wanted};
  model.decoder.forward({&span, 1});
  std::vector<float> rows;
  for (uint32_t r = 0; r < ids.size(); ++r) {
    const auto row = model.decoder.logits(r);
    rows.insert(rows.end(), row.begin(), row.end());
  }
  model.cache.release(sequence);
  return rows;
}

// The score that decides: the best-th of those that cannot be lowered.
float deciding(std::span<const float> row, model::WantedLogits wanted) {
  std::vector<float> sorted;
  for (uint32_t id = 0; id < row.size(); ++id)
    if (!std::binary_search(wanted.lowered.begin(), wanted.lowered.end(), id)) sorted.push_back(row[id]);
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  return sorted[wanted.best - 1];
}

// Everything from that score upwards, and nothing that is not true. Returns how many values are there.
uint64_t expect_wanted(std::span<const float> whole, std::span<const float> screened,
                       model::WantedLogits wanted) {
  uint64_t kept = 0;
  for (size_t first = 0; first < whole.size(); first += kVocab) {
    const auto row = whole.subspan(first, kVocab), seen = screened.subspan(first, kVocab);
    const float least = deciding(row, wanted);
    for (size_t id = 0; id < kVocab; ++id) {
      if (row[id] >= least || seen[id] != kLeftOut) {
        EXPECT_EQ(seen[id], row[id]) << "row " << first / kVocab << " id " << id << " least " << least;
      }
      kept += seen[id] != kLeftOut ? 1 : 0;
    }
  }
  return kept;
}

class Screen : public ::testing::TestWithParam<std::tuple<Dtype, bool, uint32_t>> {
 protected:
  Screen() {
    const auto [dtype, tied, threads] = GetParam();
    testing::make_checkpoint(scratch_.path().string(), config(tied), tied ? 3 : 4);
    model_ = std::make_unique<LoadedModel>(scratch_.path().string(), dtype, threads, 8);
  }
  const testing::Scratch scratch_;
  std::unique_ptr<LoadedModel> model_;
};

TEST_P(Screen, TheBestLogitsAreThoseOfTheWholeHead) {
  const std::vector<uint32_t> lowered = [] {
    std::vector<uint32_t> ids = some_ids(300, 9);
    std::sort(ids.begin(), ids.end());
    return ids;
  }();
  for (const uint32_t count : {1u, model::kScreenedRows, model::kScreenedRows + 1, 8u}) {
    const std::vector<uint32_t> ids = some_ids(count, count);
    const std::vector<float> whole = rows_of(*model_, ids, {});
    if (model_->decoder.head_screen() == nullptr) model_->decoder.screen_head(model_->device);
    ASSERT_EQ(rows_of(*model_, ids, {}), whole);
    for (const uint32_t best : {1u, 5u, model::kMostBest}) {
      const model::WantedLogits plain{best, {}}, with_lowered{best, lowered};
      if (count > model::kScreenedRows) {
        ASSERT_EQ(rows_of(*model_, ids, plain), whole);
        continue;
      }
      const uint64_t kept = expect_wanted(whole, rows_of(*model_, ids, plain), plain);
      if (best == 1) {
        EXPECT_LT(kept, count * kVocab / 4) << count << " rows";
      }
      expect_wanted(whole, rows_of(*model_, ids, with_lowered), with_lowered);
    }
    const model::WantedLogits too_many{model::kMostBest + 1, {}};
    EXPECT_EQ(rows_of(*model_, ids, too_many), whole);
  }
}

INSTANTIATE_TEST_SUITE_P(Heads, Screen,
                         ::testing::Combine(::testing::Values(Dtype::f32, Dtype::bf16, Dtype::f16),
                                            ::testing::Bool(), ::testing::Values(1u, 3u)));

}  // namespace
}  // namespace rhapsode
