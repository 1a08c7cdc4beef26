#include "runtime/generate.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "config/locate.h"
#include "generation/choice_scratch.h"
#include "generation/request_state.h"
#include "generation/validate.h"
#include "runtime/beam_run.h"
#include "runtime/params.h"
#include "text/stream_decoder.h"

namespace rhapsode::runtime {
namespace {

bool is_guided(const generation::Params& params) {
  return params.guidance_scale.value_or(1.0) != 1.0;
}

// One sequence of the request on its way: ids, cache, and the text that comes out.
class Writer {
 public:
  Writer(const GenerateRequest& request, const arch::Spec& spec, const text::Tokenizer* tokenizer,
         const generation::RequestOptions& options)
      : request_(request), state_(request.params, request.prompt_ids, spec.vocab_size, options) {
    if (tokenizer != nullptr) text_.emplace(*tokenizer, request.params.stop_strings);
  }

  const GenerateRequest& request() const { return request_; }
  bool guided() const { return is_guided(request_.params); }
  generation::RequestState& state() { return state_; }
  model::Sequence& sequence() { return sequence_; }
  // Guidance: the same answer after the prompt's last token alone.
  model::Sequence& unconditional() { return unconditional_; }
  // Guidance mixes two whole rows.
  model::WantedLogits wanted(std::span<const uint32_t> draft = {}) {
    if (guided()) return {};
    const generation::WantedScores scores = state_.wanted(draft);
    return {scores.best, scores.lowered};
  }
  bool finished() const { return reason_.has_value(); }
  FinishReason reason() const { return *reason_; }
  void cancel() { reason_ = FinishReason::cancelled; }

  // Takes the ids of a step up to the one that ends the sequence; true where it ended.
  bool take(const generation::Step& step) {
    for (const uint32_t id : step.ids) {
      ids_.push_back(id);
      if (!text_) continue;
      emit(text_->push(id));
      if (!text_->stopped()) continue;
      reason_ = FinishReason::stop_string;
      state_.finish(FinishReason::stop_string);
      return true;
    }
    if (step.finished) reason_ = step.finished;
    return finished();
  }

  GeneratedSequence finish() {
    GeneratedSequence out;
    out.ids = std::move(ids_);
    if (text_) {
      emit(text_->finish());
      out.text = text_->text();
    }
    return out;
  }

 private:
  void emit(const std::string& piece) const {
    if (!piece.empty() && request_.on_text) request_.on_text(piece);
  }

  const GenerateRequest& request_;
  generation::RequestState state_;
  model::Sequence sequence_, unconditional_;
  std::optional<text::StreamDecoder> text_;
  std::vector<uint32_t> ids_;
  std::optional<FinishReason> reason_;
};

// Greedy and sampling: one request or several, each with one sequence or several, with drafts where prompt
// lookup is on and a single sequence runs. What a sequence becomes does not depend on the others.
class Run {
 public:
  Run(Session& session, std::span<const GenerateRequest> requests)
      : session_(session), decoder_(session.decoder()), requests_(requests), results_(requests.size()) {
    const text::Tokenizer* tokenizer = session.assembly().tokenizer.get();
    generation::RequestOptions options;
    options.scratch = std::make_shared<generation::ChoiceScratch>();
    for (const GenerateRequest& request : requests) {
      first_writer_.push_back(writers_.size());
      const uint64_t count = static_cast<uint64_t>(request.params.num_return_sequences);
      options.trace_entries = request.trace;
      for (options.stream = 0; options.stream < count; ++options.stream)
        writers_.emplace_back(request, decoder_.spec(), tokenizer, options);
    }
    first_writer_.push_back(writers_.size());
  }

  ~Run() {
    for (Writer& writer : writers_) {
      decoder_.cache().release(writer.sequence());
      decoder_.cache().release(writer.unconditional());
    }
  }

  std::vector<GenerateResult> run() {
    for (size_t r = 0; r < requests_.size(); ++r) {
      const Stopwatch prompt_time;
      prefill(r);
      results_[r].prompt_ms = prompt_time.milliseconds();
      const Stopwatch first_time;
      first_step(r);
      results_[r].decode_ms = first_time.milliseconds();
    }
    const Stopwatch decode_time;
    while (step()) {
    }
    for (size_t r = 0; r < requests_.size(); ++r) {
      results_[r].decode_ms += decode_time.milliseconds();
      finish(r);
    }
    return std::move(results_);
  }

 private:
  // Reuses what the last request kept and this one shares. Length-dependent rotary tables forbid it: kept
  // keys were rotated for another length.
  void prefill(size_t r) {
    model::Sequence& sequence = writers_[first_writer_[r]].sequence();
    const std::vector<uint32_t>& prompt = requests_[r].prompt_ids;
    Session::Kept& kept = session_.kept();
    const auto shared_end =
        std::mismatch(kept.ids.begin(), kept.ids.end(), prompt.begin(), prompt.end()).second;
    size_t shared = std::min<size_t>(static_cast<size_t>(shared_end - prompt.begin()), prompt.size() - 1);
    for (const arch::RopeTable& table : decoder_.spec().rope_tables)
      if (model::depends_on_length(table)) shared = 0;
    std::swap(sequence, kept.sequence);
    kept.ids.clear();
    decoder_.cache().truncate(sequence, shared);
    results_[r].reused_tokens = shared;
    decoder_.prefill(sequence, std::span(prompt).subspan(shared));
  }

  void first_step(size_t r) {
    const std::vector<float> row(decoder_.logits(0).begin(), decoder_.logits(0).end());
    Writer& first = writers_[first_writer_[r]];
    if (first.guided()) decoder_.prefill(first.unconditional(), std::span(requests_[r].prompt_ids).last(1));
    for (size_t i = first_writer_[r]; i < first_writer_[r + 1]; ++i) {
      if (i > first_writer_[r]) {
        writers_[i].sequence() = decoder_.cache().fork(first.sequence());
        writers_[i].unconditional() = decoder_.cache().fork(first.unconditional());
      }
      std::vector<float> scores = row;
      std::vector<float> without;
      if (first.guided()) without.assign(decoder_.logits(0).begin(), decoder_.logits(0).end());
      push(i, scores, without);
    }
  }

  // `unconditional`: the row of the guided answer's other half; empty without guidance.
  void push(size_t i, std::span<float> scores, std::span<float> unconditional) {
    Writer& writer = writers_[i];
    TopEntries top;
    if (is_traced(i)) top = largest(scores, writer.request().trace);
    if (!unconditional.empty())
      generation::apply_guidance(scores, unconditional, *writer.request().params.guidance_scale);
    const generation::Step step = writer.state().push_logits(scores);
    record(i, step, {std::move(top)});
    writer.take(step);
  }

  // The request whose first sequence is writer i, if one asks for a trace.
  size_t request_of(size_t i) const {
    return static_cast<size_t>(std::upper_bound(first_writer_.begin(), first_writer_.end(), i) -
                               first_writer_.begin()) -
           1;
  }
  bool is_traced(size_t i) const {
    return writers_[i].request().trace > 0 && first_writer_[request_of(i)] == i;
  }

  void record(size_t i, const generation::Step& step, std::vector<TopEntries> tops) {
    if (!is_traced(i)) return;
    for (size_t s = 0; s < step.ids.size(); ++s)
      results_[request_of(i)].steps.push_back({step.ids[s], std::move(tops[s]), step.top[s]});
  }

  // One forward pass for all that still run; false when none does.
  bool step() {
    std::vector<size_t> running;
    for (size_t i = 0; i < writers_.size(); ++i) {
      const std::atomic<bool>* cancelled = writers_[i].request().cancelled;
      if (cancelled != nullptr && *cancelled && !writers_[i].finished()) writers_[i].cancel();
      if (!writers_[i].finished()) running.push_back(i);
    }
    if (running.empty()) return false;
    if (running.size() == 1 && draft_step(running.front())) return true;
    std::vector<model::Span> spans;
    std::vector<size_t> together;
    for (const size_t i : running) {
      Writer& writer = writers_[i];
      if (decoder_.crosses_rope_switch(writer.sequence(), 1)) {
        recompute(i);
        continue;
      }
      together.push_back(i);
      spans.push_back({&writer.sequence(), writer.state().ids().last(1), 1, 0, false, writer.wanted()});
      if (writer.guided()) spans.push_back({&writer.unconditional(), writer.state().ids().last(1), 1});
    }
    if (!spans.empty()) decoder_.forward(spans);
    uint32_t row = 0;
    for (const size_t i : together) {
      const std::span<float> scores = decoder_.scores(row++);
      push(i, scores, writers_[i].guided() ? decoder_.scores(row++) : std::span<float>());
    }
    return true;
  }

  // A longrope table switches to its long factors: the sequence is computed anew.
  void recompute(size_t i) {
    Writer& writer = writers_[i];
    const std::span<const uint32_t> ids = writer.state().ids();
    std::vector<float> without;
    if (writer.guided()) {
      const model::Span span{&writer.unconditional(), ids.last(1), 1};
      decoder_.forward({&span, 1});
      without.assign(decoder_.logits(0).begin(), decoder_.logits(0).end());
    }
    decoder_.cache().release(writer.sequence());
    decoder_.prefill(writer.sequence(), ids);
    push(i, decoder_.scores(0), without);
  }

  // Verifies a guess at the next tokens in one pass; false where there is no guess.
  bool draft_step(size_t i) {
    Writer& writer = writers_[i];
    if (!writer.request().params.prompt_lookup_num_tokens || writer.guided()) return false;
    const std::vector<uint32_t> draft = writer.state().draft();
    if (draft.empty() || decoder_.crosses_rope_switch(writer.sequence(), draft.size() + 1) ||
        !decoder_.rotates_alike(writer.sequence(), draft.size() + 1))
      return false;
    std::vector<uint32_t> ids{writer.state().ids().back()};
    ids.insert(ids.end(), draft.begin(), draft.end());
    const model::Span span{&writer.sequence(),  ids, static_cast<uint32_t>(ids.size()), 0, true,
                           writer.wanted(draft)};
    decoder_.forward({&span, 1});
    std::vector<float> rows;
    rows.reserve(ids.size() * decoder_.spec().vocab_size);
    std::vector<TopEntries> tops;
    for (uint32_t r = 0; r < ids.size(); ++r) {
      rows.insert(rows.end(), decoder_.logits(r).begin(), decoder_.logits(r).end());
      if (is_traced(i)) tops.push_back(largest(decoder_.logits(r), writer.request().trace));
    }
    const generation::Step step = writer.state().push_draft_logits(draft, rows);
    record(i, step, std::move(tops));
    writer.take(step);
    decoder_.cache().truncate(writer.sequence(), writer.state().ids().size() - 1);
    return true;
  }

  void finish(size_t r) {
    GenerateResult& result = results_[r];
    Writer& first = writers_[first_writer_[r]];
    result.finish_reason = first.reason();
    result.prompt_tokens = requests_[r].prompt_ids.size();
    if (requests_[r].keep_sequence) keep(first);
    for (size_t i = first_writer_[r]; i < first_writer_[r + 1]; ++i)
      result.sequences.push_back(writers_[i].finish());
    result.completion_tokens = result.sequences.front().ids.size();
    // A traced step beyond the end (a drafted token after a stop string) is no step of the answer.
    if (result.steps.size() > result.completion_tokens) result.steps.resize(result.completion_tokens);
  }

  void keep(Writer& writer) {
    const std::span<const uint32_t> ids = writer.state().ids();
    Session::Kept& kept = session_.kept();
    decoder_.cache().release(kept.sequence);
    std::swap(kept.sequence, writer.sequence());
    kept.ids.assign(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(kept.sequence.length));
  }

  Session& session_;
  model::Decoder& decoder_;
  std::span<const GenerateRequest> requests_;
  std::vector<Writer> writers_;
  std::vector<size_t> first_writer_;  // of each request, and the end
  std::vector<GenerateResult> results_;
};

}  // namespace

namespace {

// A parameter that the YAML does not give comes from generation_config.json, or from config.json without one.
void blame_checkpoint(Error& error, const Assembly& assembly) {
  const bool own = !assembly.facts.generation_config.is_null();
  const Json& said = own ? assembly.facts.generation_config : assembly.facts.config;
  if (error.kind != ErrorKind::config || !said.is_object() || !said.contains(error.path)) return;
  error.kind = ErrorKind::integrity;
  error.in(assembly.directory + (own ? "/generation_config.json" : "/config.json")).at("/" + error.path);
  if (error.help.empty()) error.hint("set the key in the YAML to override it");
}

// Copies of rows and buffers of their length: of a step where they are most.
uint64_t choice_bytes(const GenerateRequest& request, uint64_t vocab_size) {
  const generation::Params& params = request.params;
  const uint64_t row = vocab_size * sizeof(float);
  const uint64_t scratch = generation::scratch_bytes(params, vocab_size, request.trace > 0);
  const uint64_t traced = request.trace > 0 ? 2 * row : 0;  // each id with its score, in order
  if (params.num_beams > 1)
    return scratch + static_cast<uint64_t>(params.num_beams) * row +
           generation::beam_bytes(params, vocab_size);
  const uint64_t drafted = static_cast<uint64_t>(params.prompt_lookup_num_tokens.value_or(0));
  const uint64_t copies = is_guided(params) ? 3 : 2;  // of the prompt's row
  return scratch + traced + std::max(copies, drafted + 1) * row;
}

// Entries of all steps, which are kept until the answer is whole.
uint64_t trace_bytes(const GenerateRequest& request, uint64_t vocab_size) {
  constexpr uint64_t kLists = 2;  // the best raw logits, the best probabilities
  const uint64_t entries = kLists * std::min<uint64_t>(request.trace, vocab_size);
  return entries * sizeof(TopEntries::value_type) *
         generation::answer_limit(request.params, request.prompt_ids.size());
}

}  // namespace

RequestSize request_size(const GenerateRequest& request, uint64_t vocab_size) {
  const generation::Params& params = request.params;
  const uint64_t halves = is_guided(params) ? 2 : 1;
  const uint64_t sequences =
      halves * static_cast<uint64_t>(std::max(params.num_beams, params.num_return_sequences));
  const uint64_t drafted = static_cast<uint64_t>(params.prompt_lookup_num_tokens.value_or(0));
  const uint64_t prompt = request.prompt_ids.size();
  return {prompt + generation::answer_limit(params, prompt), sequences,
          static_cast<uint32_t>(std::max(sequences, drafted + 1)),
          choice_bytes(request, vocab_size) + trace_bytes(request, vocab_size)};
}

RequestSize typical_request_size(const Assembly& assembly) {
  GenerateRequest typical;
  typical.params = resolve_params(assembly);
  return request_size(typical, assembly.architecture.spec.vocab_size);
}

void validate_request(const GenerateRequest& request, const Assembly& assembly) {
  const arch::Spec& spec = assembly.architecture.spec;
  if (request.prompt_ids.empty())
    throw Error(ErrorKind::usage, "empty-prompt", "the prompt has no tokens").want("at least one token");
  for (size_t i = 0; i < request.prompt_ids.size(); ++i)
    if (request.prompt_ids[i] >= spec.vocab_size)
      throw Error(ErrorKind::usage, "token-out-of-range", "a prompt id is not in the vocabulary")
          .at(fmt::format("prompt id {}", i))
          .saw(std::to_string(request.prompt_ids[i]))
          .want(fmt::format("0 to {}", spec.vocab_size - 1));
  try {
    generation::validate(request.params, request.prompt_ids.size(), spec.vocab_size);
  } catch (Error& error) {
    if (!config::locate(error, assembly.entry())) blame_checkpoint(error, assembly);
    throw;
  }
  if (request.params.num_beams > 1 && is_guided(request.params))
    throw Error(ErrorKind::unsupported, "guidance-with-beams",
                "guidance_scale and beam search do not go together")
        .at("guidance_scale")
        .saw(fmt::format("num_beams {}", request.params.num_beams))
        .want("num_beams 1, or guidance_scale 1.0");
}

std::optional<uint64_t> keep_within(GenerateRequest& request, uint64_t context_tokens) {
  const uint64_t prompt = request.prompt_ids.size();
  if (prompt + generation::answer_limit(request.params, prompt) <= context_tokens) return std::nullopt;
  const uint64_t room = context_tokens - prompt;
  request.params.max_new_tokens = static_cast<int64_t>(room);
  return room;
}

GenerateResult generate(Session& session, const GenerateRequest& request) {
  validate_request(request, session.assembly());
  if (request.params.num_beams > 1) return run_beams(session, request);
  return std::move(Run(session, {&request, 1}).run().front());
}

RequestSize batch_size(std::span<const GenerateRequest> requests, uint64_t vocab_size) {
  RequestSize all{0, 0, 0};
  uint64_t traces = 0;
  for (const GenerateRequest& request : requests) {
    const RequestSize one = request_size(request, vocab_size);
    const uint64_t trace = trace_bytes(request, vocab_size);
    traces += trace;
    all.context_tokens = std::max(all.context_tokens, one.context_tokens);
    all.choice_bytes = std::max(all.choice_bytes, one.choice_bytes - trace);
    all.logits_rows = std::max(all.logits_rows, one.logits_rows);
    all.sequences += one.sequences;
  }
  all.choice_bytes += traces;
  all.logits_rows = static_cast<uint32_t>(std::max<uint64_t>(all.logits_rows, all.sequences));
  return all;
}

std::vector<GenerateResult> generate_batch(Session& session, std::span<const GenerateRequest> requests) {
  bool beams = false;
  for (const GenerateRequest& request : requests) {
    validate_request(request, session.assembly());
    beams = beams || request.params.num_beams > 1;
  }
  if (!beams) return Run(session, requests).run();
  std::vector<GenerateResult> results;
  for (const GenerateRequest& request : requests) results.push_back(generate(session, request));
  return results;
}

std::vector<uint32_t> prompt_ids(const Assembly& assembly, const std::string& text, bool raw) {
  if (raw || !assembly.chat_template) return assembly.tokenizer->encode(text, {false, true}).ids;
  OrderedJson messages = OrderedJson::array();
  if (assembly.entry().system_prompt)
    messages.push_back({{"role", "system"}, {"content", assembly.entry().system_prompt->value}});
  messages.push_back({{"role", "user"}, {"content", text}});
  return messages_ids(assembly, messages);
}

std::vector<uint32_t> messages_ids(const Assembly& assembly, const OrderedJson& messages) {
  if (!assembly.chat_template)
    throw Error(ErrorKind::not_found, "no-chat-template", "the checkpoint has no chat template")
        .in(assembly.directory)
        .hint("use --prompt with a base model, or set chat_template in the YAML");
  return assembly.chat_template->encode(messages, {});
}

}  // namespace rhapsode::runtime
