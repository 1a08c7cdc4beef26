// Whole decoding loops (greedy, sampling, beam search, beam-sample) on Markov tables, and prompt-lookup
// drafts, against what transformers' generate() gave (decoding.json, lookup.json); nine beam results of a toy
// model worked out by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "generation/beam.h"
#include "generation/lookup.h"
#include "generation/request_state.h"
#include "support/generation_params.h"

namespace rhapsode::generation {
namespace {

using Ids = std::vector<uint32_t>;
using Table = std::vector<std::vector<float>>;

std::vector<BeamSequence> beam_run(const Params& params, const Ids& prompt, const Table& table,
                                   size_t* steps = nullptr) {
  BeamSearch search(params, prompt, table.size());
  for (size_t step = 1; !search.done(); ++step) {
    std::vector<float> rows;
    std::vector<Ids> before;
    for (size_t b = 0; b < search.num_beams(); ++b)
      before.emplace_back(search.running(b).begin(), search.running(b).end());
    for (size_t b = 0; b < search.rows_needed(); ++b) {
      const auto& row = table[before[b].back()];
      rows.insert(rows.end(), row.begin(), row.end());
    }
    const BeamStep out = search.step(rows);
    // What the caller's caches hold after moving them is what the beams say of themselves.
    for (size_t b = 0; b < search.num_beams(); ++b) {
      Ids moved = before[out.parents[b]];
      moved.push_back(out.ids[b]);
      EXPECT_EQ(moved, Ids(search.running(b).begin(), search.running(b).end()));
    }
    if (steps != nullptr) *steps = step;
  }
  return search.sequences();
}

Ids single_run(const Params& params, const Ids& prompt, const Table& table) {
  RequestState state(params, prompt, table.size());
  while (!state.finished()) {
    std::vector<float> row = table[state.ids().back()];
    state.push_logits(row);
  }
  return {state.generated().begin(), state.generated().end()};
}

TEST(GenerationDecoding, equals_generate_on_markov_tables) {
  const Json cases = golden_file("decoding.json");
  ASSERT_GE(cases.size(), 300u);
  size_t beams = 0, sampled = 0, sampled_beams = 0;
  for (size_t n = 0; n < cases.size(); ++n) {
    const Json& c = cases[n];
    SCOPED_TRACE(std::to_string(n) + " " + c["params"].dump());
    const Params params = golden_params(c["params"]);
    const auto prompt = c["prompt"].get<Ids>();
    Table table;
    for (const Json& row : c["table"]) table.push_back(golden_row(row));
    sampled += params.do_sample;
    if (params.num_beams == 1) {
      EXPECT_EQ(single_run(params, prompt, table), c["ids"][0].get<Ids>());
      continue;
    }
    ++beams, sampled_beams += params.do_sample;
    const auto found = beam_run(params, prompt, table);
    ASSERT_EQ(found.size(), c["ids"].size());
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].ids, c["ids"][i].get<Ids>()) << "sequence " << i;
      EXPECT_NEAR(found[i].score, golden_number(c["scores"][i]),
                  1e-5 * std::max(1.0f, std::fabs(found[i].score)));
    }
  }
  EXPECT_GE(beams, 200u);
  EXPECT_GE(sampled, 50u);
  EXPECT_GE(sampled_beams, 30u);
}

struct ToyCase {
  double length_penalty;
  EarlyStopping early_stopping;
  size_t steps;
  Ids first;
  double first_score;
  Ids second;
  double second_score;
};

TEST(GenerationBeam, nine_vectors_of_the_toy_model) {
  const Table probabilities{
      {1, 0, 0, 0}, {.5f, .2f, .05f, .25f}, {.25f, .05f, .65f, .05f}, {.1f, .5f, .35f, .05f}};
  Table table = probabilities;
  for (auto& row : table)
    for (float& x : row) x = std::log(x);
  const Ids longest{3, 2, 2, 2, 2, 2};
  const auto yes = EarlyStopping::yes, no = EarlyStopping::no, never = EarlyStopping::never;
  const std::vector<ToyCase> cases{
      {1, yes, 2, {0}, -0.693147, {1, 0}, -1.151293},
      {1, no, 3, {0}, -0.693147, {3, 1, 0}, -0.924196},
      {1, never, 6, {0}, -0.693147, longest, -0.693208},
      {0, yes, 2, {0}, -0.693147, {1, 0}, -2.302585},
      {0, no, 3, {0}, -0.693147, {1, 0}, -2.302585},
      {0, never, 3, {0}, -0.693147, {1, 0}, -2.302585},
      {2, yes, 2, {1, 0}, -0.575646, {0}, -0.693147},
      {2, no, 6, longest, -0.115535, {3, 2, 2, 2, 2, 0}, -0.142077},
      {2, never, 6, longest, -0.115535, {3, 2, 2, 2, 2, 0}, -0.142077},
  };
  for (const ToyCase& c : cases) {
    SCOPED_TRACE(std::to_string(c.length_penalty) + " " + std::to_string(static_cast<int>(c.early_stopping)));
    Params params;
    params.num_beams = 2, params.num_return_sequences = 2, params.max_new_tokens = 6,
    params.eos_token_id = {0};
    params.length_penalty = c.length_penalty, params.early_stopping = c.early_stopping;
    size_t steps = 0;
    const auto found = beam_run(params, {1}, table, &steps);
    ASSERT_EQ(found.size(), 2u);
    EXPECT_EQ(found[0].ids, c.first);
    EXPECT_EQ(found[1].ids, c.second);
    EXPECT_NEAR(found[0].score, c.first_score, 1e-5);
    EXPECT_NEAR(found[1].score, c.second_score, 1e-5);
    EXPECT_EQ(steps, c.steps);
  }
}

TEST(GenerationBeam, stop_predicate_time_and_cancellation_end_the_search) {
  const Table table{{0, 2, 1, 0.5f}, {0.1f, 1, 3, 2}, {2, 1, 0.2f, 0}, {1, 2, 0.3f, 0.7f}};
  Params params;
  params.num_beams = 2, params.max_new_tokens = 50;
  BeamOptions options;
  options.ends = [](std::span<const uint32_t> generated) { return generated.size() == 3; };
  BeamSearch by_string(params, {0}, 4, options);
  size_t steps = 0;
  for (; !by_string.done(); ++steps) {
    std::vector<float> rows(4 * by_string.rows_needed());
    for (size_t b = 0; b < by_string.rows_needed(); ++b)
      std::copy(table[by_string.running(b).back()].begin(), table[by_string.running(b).back()].end(),
                rows.begin() + 4 * b);
    by_string.step(rows);
  }
  EXPECT_EQ(steps, 3u);
  EXPECT_EQ(by_string.finish_reason(), FinishReason::stop_string);
  EXPECT_EQ(by_string.sequences().size(), 1u);

  double now = 0;
  params.max_time_s = 5;
  BeamSearch by_time(params, {0}, 4, {.clock = [&] { return now; }});
  now = 6;
  std::vector<float> row = table[0];
  by_time.step(row);
  EXPECT_EQ(by_time.finish_reason(), FinishReason::time);
  EXPECT_EQ(by_time.sequences().at(0).ids, Ids{1});

  BeamSearch cancelled(params, {0}, 4);
  cancelled.finish(FinishReason::cancelled);
  EXPECT_TRUE(cancelled.done());
  EXPECT_TRUE(cancelled.sequences().empty());
}

TEST(GenerationLookup, drafts_equal_transformers) {
  const Json cases = golden_file("lookup.json");
  size_t found = 0;
  for (size_t n = 0; n < cases.size(); ++n) {
    const Json& c = cases[n];
    SCOPED_TRACE(std::to_string(n) + " " + c.dump());
    const auto ids = c["ids"].get<Ids>();
    const auto eos = c["eos"].get<Ids>();
    Params params = golden_params(c["params"]);
    ProcessorList list(params, {ids.size(), 9, 0});
    const Ids draft = lookup_draft(
        ids, {c["draft_tokens"], c["matching_ngram"], c["max_length"]},
        [&](std::span<const uint32_t> before, uint32_t token) { return list.forbids(before, token); },
        [&](uint32_t token) { return std::find(eos.begin(), eos.end(), token) != eos.end(); });
    EXPECT_EQ(draft, c["expected"].get<Ids>());
    found += !draft.empty();
  }
  EXPECT_GE(cases.size(), 200u);
  EXPECT_GE(found, 60u);
}

}  // namespace
}  // namespace rhapsode::generation
