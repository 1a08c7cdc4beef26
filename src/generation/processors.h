// The rules that rewrite the scores of the next token before anything is chosen, in transformers' order
// (_get_logits_processor, 5.23). Owns that order and the bookkeeping of ids already seen; knows neither how a
// token is chosen nor where scores come from. The warpers of sampling are in warpers.h. float32 throughout.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "generation/choice_scratch.h"
#include "generation/warpers.h"

namespace rhapsode::generation {

// What the rules must know of the request besides its parameters. Lengths are in tokens.
struct PromptShape {
  uint64_t prompt_tokens = 0;
  uint64_t vocab_size = 0;
  uint64_t masked_prefix = 0;  // leading pads: not penalised, but counted everywhere else
};

// True where the request draws tokens; temperature 0 means greedy.
bool is_sampling(const Params& params);

// Classifier-free guidance (guidance_scale not 1): `scores` becomes u + scale * (log_softmax(scores) - u)
// with u = log_softmax(unconditional). Goes before every other rule; the second forward pass is the caller's.
void apply_guidance(std::span<float> scores, std::span<float> unconditional, double scale);

class ProcessorList {
 public:
  // `scratch` may be shared with whoever chooses at another time; null: a scratch of its own.
  ProcessorList(const Params& params, const PromptShape& shape,
                std::shared_ptr<ChoiceScratch> scratch = nullptr);

  // The rules that apply to greedy decoding too, in place. `ids` is everything so far: pads, prompt,
  // generated.
  void process(std::span<const uint32_t> ids, std::span<float> scores);
  // process, then the warpers where the request samples: what is left to draw from.
  void process(std::span<const uint32_t> ids, std::span<float> scores, Candidates& left);
  // process, warpers and renormalisation, all written back into the row (-inf where nothing is left).
  void process_row(std::span<const uint32_t> ids, std::span<float> scores);

  // False where process() never changes a row.
  bool active() const { return active_; }
  // True where process() changes a row at most by lowering scores of ids that are in `ids`.
  bool only_lowers_seen() const;
  // True where the rules leave `token` at -inf, or at the lowest float, whatever the model says (for drafts).
  bool forbids(std::span<const uint32_t> ids, uint32_t token);

 private:
  struct Phrase {
    std::vector<uint32_t> prefix;
    uint32_t last;
    float bias;
  };
  // Biased phrases: single tokens first, then by length of prefix in order of first appearance.
  struct Phrases {
    std::vector<Phrase> entries;
    void add(const std::vector<int64_t>& ids, float bias);
    void sort_like_reference();
  };

  void add_biases(const Phrases& phrases, std::span<const uint32_t> ids, std::span<float> scores);
  void penalize_repetition(std::span<const uint32_t> ids, std::span<float> scores);
  void note_seen(std::span<const uint32_t> ids, size_t vocab_size);
  void ban_ngrams(std::span<const uint32_t> ids, std::span<float> scores) const;
  void decay_length(std::span<const uint32_t> ids, std::span<float> scores) const;
  void force(std::span<const uint32_t> ids, std::span<float> scores) const;
  void suppress(std::span<const uint32_t> ids, std::span<float> scores) const;

  Params params_;
  PromptShape shape_;
  uint64_t max_length_;
  bool sampling_;
  bool active_, beyond_seen_;
  Warpers warpers_;
  Phrases biased_, bad_words_;
  std::vector<uint32_t> eos_, forced_eos_, suppressed_, begin_suppressed_;
  std::vector<std::pair<uint32_t, float>> touched_;  // id, bias so far
  // Ids of the last row seen, and the distinct ones among them that are penalised.
  std::vector<uint32_t> history_, distinct_;
  std::vector<bool> seen_;
  std::shared_ptr<ChoiceScratch> scratch_;
};

}  // namespace rhapsode::generation
