#include "runtime/generate.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "generation/request_state.h"
#include "generation/validate.h"
#include "runtime/beam_run.h"
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
         uint64_t stream)
      : request_(request),
        state_(request.params, request.prompt_ids, spec.vocab_size, options(request, stream)) {
    if (tokenizer != nullptr) text_.emplace(*tokenizer, request.params.stop_strings);
  }

  generation::RequestState& state() { return state_; }
  model::Sequence& sequence() { return sequence_; }
  // Guidance: the same answer after the prompt's last token alone.
  model::Sequence& unconditional() { return unconditional_; }
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
  static generation::RequestOptions options(const GenerateRequest& request, uint64_t stream) {
    generation::RequestOptions options;
    options.stream = stream;
    options.trace_entries = request.trace;
    return options;
  }

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

// Greedy and sampling, one sequence or several, with drafts where prompt lookup is on.
class Run {
 public:
  Run(Session& session, const GenerateRequest& request)
      : session_(session), decoder_(session.decoder()), request_(request) {
    const uint64_t count = static_cast<uint64_t>(request.params.num_return_sequences);
    const text::Tokenizer* tokenizer = session.assembly().tokenizer.get();
    writers_.reserve(count);
    for (uint64_t i = 0; i < count; ++i) writers_.emplace_back(request, decoder_.spec(), tokenizer, i);
  }

  ~Run() {
    for (Writer& writer : writers_) {
      decoder_.cache().release(writer.sequence());
      decoder_.cache().release(writer.unconditional());
    }
  }

  GenerateResult run() {
    const Stopwatch prompt_time;
    prefill();
    result_.prompt_ms = prompt_time.milliseconds();
    const Stopwatch decode_time;
    first_step();
    while (step()) {
    }
    result_.decode_ms = decode_time.milliseconds();
    return finish();
  }

 private:
  // Reuses what the last request kept and this one shares. Length-dependent rotary tables forbid it: kept
  // keys were rotated for another length.
  void prefill() {
    model::Sequence& sequence = writers_.front().sequence();
    const std::vector<uint32_t>& prompt = request_.prompt_ids;
    Session::Kept& kept = session_.kept();
    const auto shared_end =
        std::mismatch(kept.ids.begin(), kept.ids.end(), prompt.begin(), prompt.end()).second;
    size_t shared = std::min<size_t>(static_cast<size_t>(shared_end - prompt.begin()), prompt.size() - 1);
    for (const arch::RopeTable& table : decoder_.spec().rope_tables)
      if (model::depends_on_length(table)) shared = 0;
    std::swap(sequence, kept.sequence);
    kept.ids.clear();
    decoder_.cache().truncate(sequence, shared);
    decoder_.prefill(sequence, std::span(prompt).subspan(shared));
  }

  void first_step() {
    const std::vector<float> row(decoder_.logits(0).begin(), decoder_.logits(0).end());
    if (is_guided(request_.params))
      decoder_.prefill(writers_.front().unconditional(), std::span(request_.prompt_ids).last(1));
    for (size_t i = 0; i < writers_.size(); ++i) {
      if (i > 0) {
        writers_[i].sequence() = decoder_.cache().fork(writers_.front().sequence());
        writers_[i].unconditional() = decoder_.cache().fork(writers_.front().unconditional());
      }
      std::vector<float> scores = row;
      std::vector<float> without;
      if (is_guided(request_.params)) without.assign(decoder_.logits(0).begin(), decoder_.logits(0).end());
      push(i, scores, without);
    }
  }

  // `unconditional`: the row of the guided answer's other half; empty without guidance.
  void push(size_t i, std::span<float> scores, std::span<float> unconditional) {
    TopEntries top;
    if (request_.trace > 0 && i == 0) top = largest(scores, request_.trace);
    if (!unconditional.empty())
      generation::apply_guidance(scores, unconditional, *request_.params.guidance_scale);
    const generation::Step step = writers_[i].state().push_logits(scores);
    record(i, step, {std::move(top)});
    writers_[i].take(step);
  }

  void record(size_t i, const generation::Step& step, std::vector<TopEntries> tops) {
    if (request_.trace == 0 || i > 0) return;
    for (size_t s = 0; s < step.ids.size(); ++s)
      result_.steps.push_back({step.ids[s], std::move(tops[s]), step.top[s]});
  }

  // One forward pass for all that still run; false when none does.
  bool step() {
    std::vector<size_t> running;
    for (size_t i = 0; i < writers_.size(); ++i) {
      if (request_.cancelled != nullptr && *request_.cancelled && !writers_[i].finished())
        writers_[i].cancel();
      if (!writers_[i].finished()) running.push_back(i);
    }
    if (running.empty()) return false;
    const bool guided = is_guided(request_.params);
    if (running.size() == 1 && request_.params.prompt_lookup_num_tokens && !guided) {
      if (draft_step(running.front())) return true;
    }
    std::vector<model::Span> spans;
    for (const size_t i : running) {
      Writer& writer = writers_[i];
      if (decoder_.crosses_rope_switch(writer.sequence(), 1)) return recompute(running);
      spans.push_back({&writer.sequence(), writer.state().ids().last(1), 1});
      if (guided) spans.push_back({&writer.unconditional(), writer.state().ids().last(1), 1});
    }
    decoder_.forward(spans);
    const uint32_t rows = guided ? 2 : 1;
    for (uint32_t r = 0; r < running.size(); ++r)
      push(running[r], decoder_.scores(r * rows),
           guided ? decoder_.scores(r * rows + 1) : std::span<float>());
    return true;
  }

  // A longrope table switches to its long factors: every sequence is computed anew.
  bool recompute(const std::vector<size_t>& running) {
    for (const size_t i : running) {
      const std::span<const uint32_t> ids = writers_[i].state().ids();
      std::vector<float> without;
      if (is_guided(request_.params)) {
        const model::Span span{&writers_[i].unconditional(), ids.last(1), 1};
        decoder_.forward({&span, 1});
        without.assign(decoder_.logits(0).begin(), decoder_.logits(0).end());
      }
      decoder_.cache().release(writers_[i].sequence());
      decoder_.prefill(writers_[i].sequence(), ids);
      push(i, decoder_.scores(0), without);
    }
    return true;
  }

  // Verifies a guess at the next tokens in one pass; false where there is no guess.
  bool draft_step(size_t i) {
    Writer& writer = writers_[i];
    const std::vector<uint32_t> draft = writer.state().draft();
    if (draft.empty() || decoder_.crosses_rope_switch(writer.sequence(), draft.size() + 1)) return false;
    std::vector<uint32_t> ids{writer.state().ids().back()};
    ids.insert(ids.end(), draft.begin(), draft.end());
    const model::Span span{&writer.sequence(), ids, static_cast<uint32_t>(ids.size()), 0, true};
    decoder_.forward({&span, 1});
    std::vector<float> rows;
    std::vector<TopEntries> tops;
    for (uint32_t r = 0; r < ids.size(); ++r) {
      rows.insert(rows.end(), decoder_.logits(r).begin(), decoder_.logits(r).end());
      if (request_.trace > 0) tops.push_back(largest(decoder_.logits(r), request_.trace));
    }
    const generation::Step step = writer.state().push_draft_logits(draft, rows);
    record(i, step, std::move(tops));
    writer.take(step);
    decoder_.cache().truncate(writer.sequence(), writer.state().ids().size() - 1);
    return true;
  }

  GenerateResult finish() {
    result_.finish_reason = writers_.front().reason();
    result_.prompt_tokens = request_.prompt_ids.size();
    if (request_.keep_sequence) keep();
    for (Writer& writer : writers_) result_.sequences.push_back(writer.finish());
    result_.completion_tokens = result_.sequences.front().ids.size();
    // A traced step beyond the end (a drafted token after a stop string) is no step of the answer.
    if (result_.steps.size() > result_.completion_tokens) result_.steps.resize(result_.completion_tokens);
    return std::move(result_);
  }

  void keep() {
    Writer& writer = writers_.front();
    const std::span<const uint32_t> ids = writer.state().ids();
    Session::Kept& kept = session_.kept();
    std::swap(kept.sequence, writer.sequence());
    kept.ids.assign(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(kept.sequence.length));
  }

  Session& session_;
  model::Decoder& decoder_;
  const GenerateRequest& request_;
  std::vector<Writer> writers_;
  GenerateResult result_;
};

}  // namespace

RequestSize request_size(const GenerateRequest& request) {
  const generation::Params& params = request.params;
  const uint64_t halves = is_guided(params) ? 2 : 1;
  const uint64_t sequences =
      halves * static_cast<uint64_t>(std::max(params.num_beams, params.num_return_sequences));
  const uint64_t drafted = static_cast<uint64_t>(params.prompt_lookup_num_tokens.value_or(0));
  const uint64_t prompt = request.prompt_ids.size();
  return {prompt + generation::answer_limit(params, prompt), sequences,
          static_cast<uint32_t>(std::max(sequences, drafted + 1))};
}

void validate_request(const GenerateRequest& request, const arch::Spec& spec) {
  if (request.prompt_ids.empty())
    throw Error(ErrorKind::usage, "empty-prompt", "the prompt has no tokens").want("at least one token");
  for (size_t i = 0; i < request.prompt_ids.size(); ++i)
    if (request.prompt_ids[i] >= spec.vocab_size)
      throw Error(ErrorKind::usage, "token-out-of-range", "a prompt id is not in the vocabulary")
          .at(fmt::format("prompt id {}", i))
          .saw(std::to_string(request.prompt_ids[i]))
          .want(fmt::format("0 to {}", spec.vocab_size - 1));
  generation::validate(request.params, request.prompt_ids.size(), spec.vocab_size);
  if (request.params.num_beams > 1 && is_guided(request.params))
    throw Error(ErrorKind::unsupported, "guidance-with-beams",
                "guidance_scale and beam search do not go together")
        .at("guidance_scale")
        .saw(fmt::format("num_beams {}", request.params.num_beams))
        .want("num_beams 1, or guidance_scale 1.0");
}

GenerateResult generate(Session& session, const GenerateRequest& request) {
  validate_request(request, session.decoder().spec());
  return request.params.num_beams > 1 ? run_beams(session, request) : Run(session, request).run();
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
    throw Error(ErrorKind::unsupported, "no-chat-template", "the checkpoint has no chat template")
        .in(assembly.directory)
        .hint("use --prompt with a base model, or set chat_template in the YAML");
  return assembly.chat_template->encode(messages, {});
}

}  // namespace rhapsode::runtime
