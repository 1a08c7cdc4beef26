#include "runtime/divergence.h"

#include <algorithm>

#include "generation/row_math.h"

namespace rhapsode::runtime {
namespace {

// Calls row(position, log-probabilities) for every token of the text.
template <class Row>
void for_rows(Session& session, std::span<const uint32_t> ids, uint64_t window,
              const MeasuredTokens& measured, Row row) {
  model::Decoder& decoder = session.decoder();
  const uint64_t step = std::min<uint64_t>(decoder.limits().chunk_tokens, decoder.limits().logits_rows);
  for (uint64_t begin = 0; begin < ids.size(); begin += window) {
    const std::span<const uint32_t> part = ids.subspan(begin, std::min(window, ids.size() - begin));
    model::Sequence sequence;
    for (uint64_t done = 0; done < part.size();) {
      const uint64_t count = std::min(step, part.size() - done);
      const model::Span span{&sequence, part.subspan(done, count), static_cast<uint32_t>(count), part.size()};
      decoder.forward({&span, 1});
      for (uint64_t i = 0; i < count; ++i) {
        const std::span<float> scores = decoder.scores(static_cast<uint32_t>(i));
        generation::log_softmax(scores);
        row(begin + done + i, std::span<const float>(scores));
      }
      done += count;
      if (measured) measured(count);
    }
    session.cache().release(sequence);
  }
}

// In double: the rows are long, and the sums are compared.
double expectation(std::span<const float> probabilities, std::span<const float> values) {
  double sum = 0;
  for (size_t i = 0; i < probabilities.size(); ++i)
    sum += static_cast<double>(probabilities[i]) * static_cast<double>(values[i]);
  return sum;
}

}  // namespace

Divergence::Divergence(Session& reference, std::vector<uint32_t> ids, uint64_t window,
                       MeasuredTokens measured)
    : ids_(std::move(ids)), window_(window), measured_(std::move(measured)) {
  const uint64_t vocab = reference.assembly().architecture.spec.vocab_size;
  probabilities_.resize(ids_.size() * vocab);
  entropies_.resize(ids_.size());
  for_rows(reference, ids_, window_, measured_, [&](uint64_t position, std::span<const float> logs) {
    const std::span<float> kept = std::span(probabilities_).subspan(position * vocab, vocab);
    for (size_t i = 0; i < vocab; ++i) kept[i] = generation::exp_nonpositive(std::min(logs[i], 0.0f));
    entropies_[position] = expectation(kept, logs);
  });
}

double Divergence::of(Session& session, uint64_t tokens) const {
  const uint64_t vocab = probabilities_.size() / ids_.size();
  const std::span<const uint32_t> ids = std::span(ids_).first(std::min<uint64_t>(tokens, ids_.size()));
  double sum = 0;
  for_rows(session, ids, window_, measured_, [&](uint64_t position, std::span<const float> logs) {
    const std::span<const float> kept = std::span(probabilities_).subspan(position * vocab, vocab);
    sum += entropies_[position] - expectation(kept, logs);
  });
  return sum / static_cast<double>(ids.size());
}

}  // namespace rhapsode::runtime
