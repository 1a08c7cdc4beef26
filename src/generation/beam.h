// Beam search and beam-sample without a model (transformers' _beam_search, 5.23): handed the scores of the
// running beams, it says which token each beam goes on with and which beam it continues; the caller moves its
// caches accordingly. Owns running beams and the pool of finished ones of ONE request. Several requests are
// several machines: there is no coupling (in a batch transformers waits for every row under early_stopping;
// its rows hold the same sequences as alone). Ties: the lower beam first, then the lower id.
//
//   BeamSearch search(params, prompt, vocab_size);
//   while (!search.done()) { rows = forward(search.running(), search.rows_needed()); search.step(rows);
//   reorder caches }
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "generation/params.h"
#include "generation/processors.h"
#include "generation/sampler.h"
#include "generation/stopping.h"

namespace rhapsode::generation {

struct BeamSequence {
  std::vector<uint32_t> ids;  // generated, with the end-of-sequence id
  float score = 0;            // sum of log-probabilities / length^length_penalty
};

struct BeamStep {
  // For each of the num_beams beams of the next step: the beam it continues and the id it appends.
  std::vector<uint32_t> parents, ids;
};

struct BeamOptions {
  uint64_t masked_prefix = 0;  // leading pads in the prompt
  Clock clock = steady_seconds;
  // True where generated ids end a hypothesis although no id does (stop strings).
  std::function<bool(std::span<const uint32_t> generated)> ends = nullptr;
};

class BeamSearch {
 public:
  // Throws what validate() throws. num_beams must be above 1.
  BeamSearch(const Params& params, std::vector<uint32_t> prompt, uint64_t vocab_size,
             BeamOptions options = {});

  uint64_t num_beams() const { return beams_; }
  // Rows that step() wants: 1 at first, where all beams are the prompt, then num_beams.
  uint64_t rows_needed() const { return generated_ == 0 ? 1 : beams_; }
  // Prompt and generated ids of a running beam.
  std::span<const uint32_t> running(size_t beam) const { return running_[beam].ids; }
  bool done() const { return done_.has_value(); }
  // Why the search ended: stop when finished hypotheses cannot be beaten, else length, stop_string or time.
  std::optional<FinishReason> finish_reason() const { return done_; }
  // Ends the search from outside; sequences() then has what was finished so far.
  void finish(FinishReason reason) { done_ = reason; }

  // rows_needed() rows of raw scores, vocab_size each; overwritten. Must not be called once done.
  BeamStep step(std::span<float> rows);

  // The num_return_sequences best finished hypotheses, best first; fewer where the search was ended from
  // outside.
  std::vector<BeamSequence> sequences() const;

 private:
  struct Running {
    std::vector<uint32_t> ids;
    float score;
  };
  struct Slot {
    std::vector<uint32_t> ids;  // generated
    float score;
    bool finished;
  };
  struct Continuation {
    uint32_t beam, id;
    float score;  // running score + processed log-probability
    bool hit = false;
  };
  // The scores of a beam's continuations: its row (shared by all beams at first) plus its running score.
  std::span<const float> row_of(std::span<const float> rows, size_t beam) const;

  std::vector<Continuation> best_continuations(std::span<const float> rows);
  std::vector<Continuation> drawn_continuations(std::span<const float> rows);
  void mark_hits(std::vector<Continuation>& found);
  void advance(const std::vector<Continuation>& found, BeamStep& step);
  void update_pool(const std::vector<Continuation>& found);
  void update_end(const std::vector<Continuation>& found);

  Params params_;
  uint64_t prompt_tokens_, vocab_size_, beams_, kept_;
  ProcessorList processors_;
  StopRules stops_;
  std::function<bool(std::span<const uint32_t>)> ends_;
  Draws draws_;
  std::vector<Running> running_;
  std::vector<Slot> pool_;
  uint64_t generated_ = 0;
  bool improvable_ = true;
  FinishReason last_hit_ = FinishReason::stop;
  std::optional<FinishReason> done_;
};

}  // namespace rhapsode::generation
