#include "runtime/beam_run.h"

#include <algorithm>

#include "generation/beam.h"
#include "text/stream_decoder.h"

namespace rhapsode::runtime {
namespace {

// True where a stop string ends inside the text of the last id, as transformers' criterion has it.
bool ends_in_stop_string(const text::Tokenizer& tokenizer, const std::vector<std::string>& stops,
                         std::span<const uint32_t> generated) {
  if (generated.empty()) return false;
  const std::string whole = tokenizer.decode(generated, false);
  const std::string before = tokenizer.decode(generated.first(generated.size() - 1), false);
  for (const std::string& stop : stops)
    for (size_t at = whole.find(stop); at != std::string::npos; at = whole.find(stop, at + 1))
      if (at + stop.size() > before.size()) return true;
  return false;
}

class BeamRun {
 public:
  BeamRun(Session& session, const GenerateRequest& request)
      : session_(session),
        decoder_(session.decoder()),
        request_(request),
        vocab_(decoder_.spec().vocab_size),
        search_(request.params, request.prompt_ids, vocab_, options()) {}

  ~BeamRun() { release(beams_); }

  GenerateResult run() {
    decoder_.cache().release(session_.kept().sequence);
    session_.kept().ids.clear();
    const Stopwatch prompt_time;
    beams_.resize(1);
    decoder_.prefill(beams_.front(), request_.prompt_ids);
    result_.prompt_ms = prompt_time.milliseconds();
    const Stopwatch decode_time;
    std::vector<float> rows;
    rows.reserve(search_.num_beams() * vocab_);  // growing would take twice as much
    rows.assign(decoder_.logits(0).begin(), decoder_.logits(0).end());
    while (true) {
      if (request_.cancelled != nullptr && *request_.cancelled) {
        search_.finish(FinishReason::cancelled);
        break;
      }
      const generation::BeamStep step = search_.step(rows);
      if (search_.done()) break;
      follow(step);
      forward(step, rows);
    }
    result_.decode_ms = decode_time.milliseconds();
    return finish();
  }

 private:
  generation::BeamOptions options() const {
    generation::BeamOptions options;
    const text::Tokenizer* tokenizer = session_.assembly().tokenizer.get();
    const std::vector<std::string>& stops = request_.params.stop_strings;
    if (tokenizer != nullptr && !stops.empty())
      options.ends = [tokenizer, &stops](std::span<const uint32_t> ids) {
        return ends_in_stop_string(*tokenizer, stops, ids);
      };
    return options;
  }

  void release(std::vector<model::Sequence>& sequences) {
    for (model::Sequence& sequence : sequences) decoder_.cache().release(sequence);
  }

  // Each beam of the next step shares its parent's blocks; parents that nobody continues are freed. At the
  // first step every beam is the prompt, which is held once.
  void follow(const generation::BeamStep& step) {
    std::vector<model::Sequence> next;
    for (const uint32_t parent : step.parents)
      next.push_back(decoder_.cache().fork(beams_[beams_.size() == 1 ? 0 : parent]));
    release(beams_);
    beams_ = std::move(next);
  }

  void forward(const generation::BeamStep& step, std::vector<float>& rows) {
    rows.clear();
    if (decoder_.crosses_rope_switch(beams_.front(), 1)) {
      for (size_t i = 0; i < beams_.size(); ++i) {
        decoder_.cache().release(beams_[i]);
        decoder_.prefill(beams_[i], search_.running(i));
        rows.insert(rows.end(), decoder_.logits(0).begin(), decoder_.logits(0).end());
      }
      return;
    }
    std::vector<model::Span> spans;
    for (size_t i = 0; i < beams_.size(); ++i)
      spans.push_back({&beams_[i], std::span(step.ids).subspan(i, 1), 1});
    decoder_.forward(spans);
    for (uint32_t i = 0; i < beams_.size(); ++i)
      rows.insert(rows.end(), decoder_.logits(i).begin(), decoder_.logits(i).end());
  }

  // As that of a single sequence: it ends before a stop string.
  std::string text_of(const text::Tokenizer& tokenizer, std::span<const uint32_t> ids) const {
    text::StreamDecoder stream(tokenizer, request_.params.stop_strings);
    for (const uint32_t id : ids) stream.push(id);
    stream.finish();
    return stream.text();
  }

  GenerateResult finish() {
    result_.finish_reason = *search_.finish_reason();
    result_.prompt_tokens = request_.prompt_ids.size();
    const text::Tokenizer* tokenizer = session_.assembly().tokenizer.get();
    for (const generation::BeamSequence& found : search_.sequences()) {
      GeneratedSequence sequence;
      sequence.ids = found.ids;
      if (tokenizer != nullptr) sequence.text = text_of(*tokenizer, found.ids);
      sequence.score = static_cast<double>(found.score);
      result_.sequences.push_back(std::move(sequence));
    }
    if (result_.sequences.empty())
      result_.sequences.emplace_back();  // ended before any hypothesis was finished
    result_.completion_tokens = result_.sequences.front().ids.size();
    return std::move(result_);
  }

  Session& session_;
  model::Decoder& decoder_;
  const GenerateRequest& request_;
  uint64_t vocab_;
  generation::BeamSearch search_;
  std::vector<model::Sequence> beams_;
  GenerateResult result_;
};

}  // namespace

TopEntries largest(std::span<const float> row, uint32_t count) {
  TopEntries all(row.size());
  for (uint32_t i = 0; i < row.size(); ++i) all[i] = {i, row[i]};
  count = std::min<uint32_t>(count, static_cast<uint32_t>(row.size()));
  std::partial_sort(all.begin(), all.begin() + count, all.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  all.resize(count);
  return all;
}

GenerateResult run_beams(Session& session, const GenerateRequest& request) {
  return BeamRun(session, request).run();
}

}  // namespace rhapsode::runtime
