// One sequence on its way from prompt to end, without a model: it is handed rows of scores and says which ids
// follow and when to stop. Owns the ids, the rules and the draws of its sequence; the caller owns forward
// passes, caches and text. Beam search is in beam.h.
//
//   RequestState state(params, prompt, vocab_size);
//   while (!state.finished()) { auto row = forward(state.ids()); auto step = state.push_logits(row); ... }
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "generation/params.h"
#include "generation/processors.h"
#include "generation/sampler.h"
#include "generation/stopping.h"

namespace rhapsode::generation {

// id and probability, best first, among equals the lowest id first.
using TopProbabilities = std::vector<std::pair<uint32_t, float>>;

struct Step {
  std::vector<uint32_t> ids;  // appended by this step, at least one
  std::optional<FinishReason> finished;
  // With trace entries asked for, for each id: what it was chosen from. Sampling: the distribution that was
  // drawn from; greedy: softmax of the processed scores.
  std::vector<TopProbabilities> top;
};

// What a row of scores must hold for the choice to come out the same: the so many best ones, and all that
// equal the last of them; the others may be -inf. 0: every one. The best are to be had without `lowered`, ids
// in ascending order whose scores the rules may lower first.
struct WantedScores {
  uint32_t best = 0;
  std::span<const uint32_t> lowered;
};

struct RequestOptions {
  uint64_t masked_prefix = 0;  // leading pads in the prompt
  uint64_t stream = 0;         // tells sequences of one seed apart (num_return_sequences)
  uint32_t trace_entries = 0;  // 0 = none
  Clock clock = steady_seconds;
  // Shared by sequences whose tokens are chosen one after the other; null: a scratch of its own.
  std::shared_ptr<ChoiceScratch> scratch = nullptr;
};

class RequestState {
 public:
  // Throws what validate() throws. num_beams must be 1.
  RequestState(const Params& params, std::vector<uint32_t> prompt, uint64_t vocab_size,
               RequestOptions options = {});

  // Prompt and what was generated.
  std::span<const uint32_t> ids() const { return ids_; }
  std::span<const uint32_t> generated() const { return std::span(ids_).subspan(prompt_tokens_); }
  bool finished() const { return finished_.has_value(); }
  std::optional<FinishReason> finish_reason() const { return finished_; }
  // Ends the sequence from outside: a stop string, cancellation.
  void finish(FinishReason reason) { finished_ = reason; }

  // Scores of the next token, vocab_size of them. The row is overwritten. Must not be called once finished.
  Step push_logits(std::span<float> logits);

  // Of the rows for push_logits, or for push_draft_logits with that draft; valid until the next call.
  WantedScores wanted(std::span<const uint32_t> draft = {});

  // A guess at the tokens that follow; empty where prompt lookup is off or finds nothing. It is as long as
  // guesses have been right of late, at most prompt_lookup_num_tokens.
  std::vector<uint32_t> draft();
  // Verifies a draft: draft.size() + 1 rows, row i computed after ids() and the first i ids of the draft.
  // Appends what push_logits would have appended row by row, so the result equals decoding without a draft.
  // Rows are overwritten.
  Step push_draft_logits(std::span<const uint32_t> draft, std::span<float> rows);

 private:
  static constexpr uint64_t kFirstWidth = 4, kLeastWidth = 2;

  uint32_t choose(std::span<float> logits, Step& step);
  void adapt_width(uint64_t drafted, uint64_t right);

  Params params_;
  uint64_t prompt_tokens_, vocab_size_;
  uint32_t trace_entries_;
  std::vector<uint32_t> ids_;
  std::shared_ptr<ChoiceScratch> scratch_;
  ProcessorList processors_;
  StopRules stops_;
  Draws draws_;
  std::optional<FinishReason> finished_;
  uint32_t best_wanted_ = 0;
  std::vector<uint32_t> lowered_;  // distinct ids, ascending, of the first lowered_from_ ids and drafts
  size_t lowered_from_ = 0;
  uint64_t most_drafted_ = 0, draft_width_ = 0;  // tokens of a draft: what was asked for, and now
};

}  // namespace rhapsode::generation
