// One request from prompt ids to output ids: prefill, then a token at a time (or beams), streaming as it
// goes.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "generation/params.h"
#include "generation/stopping.h"
#include "runtime/session.h"

namespace rhapsode::runtime {

using generation::finish_reason_name;
using generation::FinishReason;

using TopEntries = std::vector<std::pair<uint32_t, float>>;

// `run --trace N`: raw logits before any processor, and what the sampler draws from; best first, ties lowest
// id first.
struct TraceStep {
  uint32_t id;
  TopEntries top;
  TopEntries probs;
};

struct GenerateRequest {
  std::vector<uint32_t> prompt_ids;
  generation::Params params;
  uint32_t trace = 0;  // entries a step, 0 = none
  std::function<void(const std::string& text)>
      on_text;                                   // final pieces of text, in order; not called with beams
  const std::atomic<bool>* cancelled = nullptr;  // looked at once a token
  bool keep_sequence =
      false;  // chat: leave prompt and answer in the cache; the next request reuses what it shares
};

struct GeneratedSequence {
  std::vector<uint32_t> ids;  // without the prompt, with its eos
  std::optional<std::string>
      text;  // without special tokens, cut before a stop string; nullopt without a tokenizer
  std::optional<double> score;  // of beams: normalised log-probability
};

struct GenerateResult {
  std::vector<GeneratedSequence> sequences;  // best first
  FinishReason finish_reason = FinishReason::length;
  std::vector<TraceStep> steps;
  double prompt_ms = 0;
  double decode_ms = 0;
  uint64_t prompt_tokens = 0;
  uint64_t reused_tokens = 0;      // of the prompt: what the request before left in the cache
  uint64_t completion_tokens = 0;  // of the first sequence
};

// What a request needs of the plan: prompt and answer, sequences that run at the same time, rows of logits in
// one pass, bytes that choosing tokens takes.
struct RequestSize {
  uint64_t context_tokens;
  uint64_t sequences;
  uint32_t logits_rows;
  uint64_t choice_bytes = 0;
};
RequestSize request_size(const GenerateRequest& request, uint64_t vocab_size);
// Of a request with the config's own parameters, before its prompt is known.
RequestSize typical_request_size(const Assembly& assembly);

// Throws usage errors for ids outside the vocabulary and an empty prompt; for parameters out of range config
// errors with their place, integrity errors where the checkpoint says them.
void validate_request(const GenerateRequest& request, const Assembly& assembly);
// Ends the answer where prompt and answer fill `context_tokens`: the room that is left, where that is less
// than was asked for. The prompt must be shorter than that.
std::optional<uint64_t> keep_within(GenerateRequest& request, uint64_t context_tokens);
GenerateResult generate(Session& session, const GenerateRequest& request);

// Several requests at once share each pass over the weights; each gives what it would alone, bit for bit.
// Requests with beams run one after the other. decode_ms of each is that of all.
RequestSize batch_size(std::span<const GenerateRequest> requests, uint64_t vocab_size);
std::vector<GenerateResult> generate_batch(Session& session, std::span<const GenerateRequest> requests);

// Prompt ids of a text: through the chat template (as one user message, after the entry's system prompt)
// where the checkpoint has one and `raw` is false, else the text as it is with the post-processor's special
// tokens.
std::vector<uint32_t> prompt_ids(const Assembly& assembly, const std::string& text, bool raw);
std::vector<uint32_t> messages_ids(const Assembly& assembly, const OrderedJson& messages);

}  // namespace rhapsode::runtime
