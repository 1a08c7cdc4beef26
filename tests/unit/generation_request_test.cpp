// One sequence from prompt to end: what stops it, what a trace shows, that drafts change nothing, what is
// refused.
#include "generation/request_state.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "generation/validate.h"

namespace rhapsode::generation {
namespace {

constexpr size_t kVocab = 20;
using Ids = std::vector<uint32_t>;

// Scores that depend on the last two ids, as a model's might.
std::vector<float> scores_after(std::span<const uint32_t> ids, uint64_t table) {
  const uint64_t context = ids.back() + (ids.size() > 1 ? 100 * ids[ids.size() - 2] : 0);
  std::vector<float> row(kVocab);
  for (size_t i = 0; i < kVocab; ++i) row[i] = 6 * static_cast<float>(Draws(table, context).at(i));
  return row;
}

Ids run_plain(const Params& params, const Ids& prompt, uint64_t table, FinishReason* reason = nullptr) {
  RequestState state(params, prompt, kVocab);
  while (!state.finished()) {
    auto row = scores_after(state.ids(), table);
    state.push_logits(row);
  }
  if (reason != nullptr) *reason = *state.finish_reason();
  return {state.generated().begin(), state.generated().end()};
}

TEST(GenerationRequest, ends_at_eos_length_or_time) {
  Params params;
  params.max_new_tokens = 3;
  RequestState by_length(params, {1}, 4);
  std::vector<float> row{0, 3, 2, 1};
  EXPECT_EQ(by_length.push_logits(row).ids, Ids{1});
  EXPECT_FALSE(by_length.push_logits(row).finished);
  EXPECT_EQ(by_length.push_logits(row).finished, FinishReason::length);
  EXPECT_EQ(by_length.generated().size(), 3u);

  params.eos_token_id = {0, 1};
  RequestState by_eos(params, {1}, 4);
  EXPECT_EQ(by_eos.push_logits(row).finished, FinishReason::stop);

  params.eos_token_id.clear();
  params.max_time_s = 10;
  double now = 100;
  RequestState by_time(params, {1}, 4, {.clock = [&] { return now; }});
  now = 110;
  EXPECT_FALSE(by_time.push_logits(row).finished);
  now = 110.5;
  EXPECT_EQ(by_time.push_logits(row).finished, FinishReason::time);

  RequestState cancelled(params, {1}, 4);
  cancelled.finish(FinishReason::cancelled);
  EXPECT_EQ(cancelled.finish_reason(), FinishReason::cancelled);
}

TEST(GenerationRequest, trace_shows_what_was_drawn_from) {
  Params params;
  params.top_k = 2, params.do_sample = true, params.temperature = 0.5;
  RequestState sampled(params, {1}, 4, {.trace_entries = 3});
  std::vector<float> row{0, 3, 2.5f, 1};
  const Step step = sampled.push_logits(row);
  ASSERT_EQ(step.top.size(), 1u);
  ASSERT_EQ(step.top[0].size(), 2u);  // no more is left
  EXPECT_EQ(step.top[0][0].first, 1u);
  EXPECT_NEAR(step.top[0][0].second, 1 / (1 + std::exp(-1.0)), 1e-6);
  EXPECT_NEAR(step.top[0][1].second, 1 - 1 / (1 + std::exp(-1.0)), 1e-6);

  params.do_sample = false, params.suppress_tokens = {1};
  RequestState greedy(params, {1}, 4, {.trace_entries = 3});
  row = {0, 3, 2, 2};
  const Step best = greedy.push_logits(row);
  EXPECT_EQ(best.ids, Ids{2});
  EXPECT_EQ(best.top[0][0].first, 2u);
  EXPECT_EQ(best.top[0][1].first, 3u);
  EXPECT_EQ(best.top[0][2].first, 0u);
  EXPECT_NEAR(best.top[0][0].second, 1 / (2 + std::exp(-2.0)), 1e-6);
}

TEST(GenerationRequest, temperature_zero_is_greedy) {
  Params greedy, zero;
  zero.do_sample = true, zero.temperature = 0;
  EXPECT_EQ(run_plain(greedy, {1, 2}, 5), run_plain(zero, {1, 2}, 5));
}

TEST(GenerationRequest, seeds_and_streams) {
  Params params;
  params.do_sample = true, params.seed = 3, params.max_new_tokens = 30;
  const Ids first = run_plain(params, {1, 2}, 5);
  EXPECT_EQ(first, run_plain(params, {1, 2}, 5));
  params.seed = 4;
  EXPECT_NE(first, run_plain(params, {1, 2}, 5));
}

// Whatever is drafted, greedy or sampled, the ids are those of decoding one by one; a draft of right tokens
// is accepted.
TEST(GenerationRequest, drafts_change_nothing) {
  size_t drafted = 0, accepted = 0, several = 0;
  for (uint64_t table = 0; table < 150; ++table) {
    Params params;
    params.do_sample = table % 2, params.temperature = 0.3, params.seed = table;
    params.max_new_tokens = 1 + static_cast<int64_t>(table % 40);
    if (table % 3 == 0) params.eos_token_id = {3, 4};
    if (table % 5 == 0) params.repetition_penalty = 1.3;
    if (table % 7 == 0) params.no_repeat_ngram_size = 4;
    if (table % 4 == 0) params.min_new_tokens = 5;
    const Ids prompt{1, 2, 5, 1, 2};
    FinishReason reason{};
    const Ids expected = run_plain(params, prompt, table, &reason);
    params.prompt_lookup_num_tokens = 1 + static_cast<int64_t>(table % 6);
    RequestState state(params, prompt, kVocab);
    while (!state.finished()) {
      const Ids draft = state.draft();
      Ids ids(state.ids().begin(), state.ids().end());
      std::vector<float> rows;
      for (size_t i = 0; i <= draft.size(); ++i) {
        const auto row = scores_after(ids, table);
        rows.insert(rows.end(), row.begin(), row.end());
        if (i < draft.size()) ids.push_back(draft[i]);
      }
      const Step step = state.push_draft_logits(draft, rows);
      drafted += draft.size(), accepted += step.ids.size() - 1, several += step.ids.size() > 2;
    }
    EXPECT_EQ(Ids(state.generated().begin(), state.generated().end()), expected) << table;
    EXPECT_EQ(*state.finish_reason(), reason);
  }
  EXPECT_GT(drafted, 500u);
  EXPECT_GT(accepted, 100u);
  EXPECT_GT(several, 20u);
}

std::string refusal(const Params& params, uint64_t prompt_tokens = 3, uint64_t vocab_size = kVocab) {
  try {
    validate(params, prompt_tokens, vocab_size);
  } catch (const Error& e) {
    return e.code + " " + e.path;
  }
  return "";
}

TEST(GenerationValidate, refuses_what_is_out_of_range) {
  EXPECT_EQ(refusal(Params{}), "");
  EXPECT_EQ(refusal(Params{}, 0), "empty-prompt ");
  const auto with = [](auto change) {
    Params params;
    change(params);
    return refusal(params);
  };
  EXPECT_EQ(with([](Params& p) { p.temperature = -0.1; }), "out-of-range temperature");
  EXPECT_EQ(with([](Params& p) { p.temperature = NAN; }), "out-of-range temperature");
  EXPECT_EQ(with([](Params& p) { p.temperature = 0; }), "");
  EXPECT_EQ(with([](Params& p) { p.top_k = -1; }), "out-of-range top_k");
  EXPECT_EQ(with([](Params& p) { p.top_p = 1.1; }), "out-of-range top_p");
  EXPECT_EQ(with([](Params& p) { p.min_p = -0.1; }), "out-of-range min_p");
  EXPECT_EQ(with([](Params& p) { p.typical_p = 0; }), "out-of-range typical_p");
  EXPECT_EQ(with([](Params& p) { p.epsilon_cutoff = 1; }), "out-of-range epsilon_cutoff");
  EXPECT_EQ(with([](Params& p) { p.eta_cutoff = -1; }), "out-of-range eta_cutoff");
  EXPECT_EQ(with([](Params& p) { p.repetition_penalty = 0; }), "out-of-range repetition_penalty");
  EXPECT_EQ(with([](Params& p) { p.max_new_tokens = 0; }), "out-of-range max_new_tokens");
  EXPECT_EQ(with([](Params& p) { p.num_beams = 0; }), "out-of-range num_beams");
  EXPECT_EQ(with([](Params& p) { p.num_return_sequences = 2; }), "out-of-range num_return_sequences");
  EXPECT_EQ(with([](Params& p) { p.num_return_sequences = 2, p.do_sample = true; }), "");
  EXPECT_EQ(with([](Params& p) { p.num_return_sequences = 3, p.num_beams = 2; }),
            "out-of-range num_return_sequences");
  EXPECT_EQ(with([](Params& p) { p.num_beams = 2, p.prompt_lookup_num_tokens = 3; }),
            "out-of-range prompt_lookup_num_tokens");
  EXPECT_EQ(with([](Params& p) { p.bad_words_ids = {{1}, {2, 20}}; }), "id-outside-vocabulary bad_words_ids");
  EXPECT_EQ(with([](Params& p) { p.bad_words_ids = {{}}; }), "out-of-range bad_words_ids");
  EXPECT_EQ(with([](Params& p) { p.sequence_bias = {{{-1}, 1.0}}; }), "id-outside-vocabulary sequence_bias");
  EXPECT_EQ(with([](Params& p) { p.suppress_tokens = {20}; }), "id-outside-vocabulary suppress_tokens");
  EXPECT_EQ(with([](Params& p) { p.forced_bos_token_id = 99; }), "id-outside-vocabulary forced_bos_token_id");
  EXPECT_EQ(with([](Params& p) { p.forced_eos_token_id = {99}; }),
            "id-outside-vocabulary forced_eos_token_id");
  EXPECT_EQ(with([](Params& p) {
              p.forced_eos_token_id = {1, 2}, p.suppress_tokens = {2, 1};
            }),
            "out-of-range suppress_tokens");
  EXPECT_EQ(with([](Params& p) { p.eos_token_id = {-1}; }), "out-of-range eos_token_id");
  EXPECT_EQ(with([](Params& p) { p.eos_token_id = {99}; }), "");
  EXPECT_EQ(with([](Params& p) {
              p.exponential_decay_length_penalty = {1, 1.5};
            }),
            "out-of-range exponential_decay_length_penalty");
}

}  // namespace
}  // namespace rhapsode::generation
