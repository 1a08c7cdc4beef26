#include "runtime/parity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/json.h"

namespace rhapsode::runtime {
namespace {

class TraceReader {
 public:
  TraceReader(const std::string& file, uint64_t vocab_size)
      : file_(file),
        vocab_size_(vocab_size),
        json_(read_json_file(file, ErrorKind::integrity, {400'000'000, 64})) {}

  Trace read() const {
    Trace trace;
    trace.prompt_ids = ids("prompt_ids");
    trace.output_ids = ids("output_ids");
    const Json& steps = member(json_, "", "steps");
    if (!steps.is_array() || steps.size() != trace.output_ids.size())
      fail("/steps", "a list with one entry for each output id");
    for (size_t i = 0; i < steps.size(); ++i) {
      const std::string at = fmt::format("/steps/{}", i);
      if (id(member(steps[i], at, "id"), at + "/id") != trace.output_ids[i])
        fail(at + "/id", "the output id of this step");
      trace.top.push_back(entries(member(steps[i], at, "top"), at + "/top"));
    }
    if (json_.contains("hidden")) trace.hidden = hidden(json_.at("hidden"));
    return trace;
  }

 private:
  [[noreturn]] void fail(const std::string& pointer, const std::string& expected) const {
    throw Error(ErrorKind::integrity, "bad-trace", "the file is not a trace of this model")
        .in(file_)
        .at(pointer)
        .want(expected)
        .hint("write it with tools/export_trace.py, or with run --json --trace N");
  }

  const Json& member(const Json& object, const std::string& at, const char* key) const {
    if (!object.is_object() || !object.contains(key)) fail(at + "/" + key, "this key");
    return object.at(key);
  }

  uint32_t id(const Json& value, const std::string& at) const {
    if (!value.is_number_unsigned() || value.get<uint64_t>() >= vocab_size_)
      fail(at, fmt::format("a token id below {}", vocab_size_));
    return value.get<uint32_t>();
  }

  std::vector<uint32_t> ids(const char* key) const {
    const Json& list = member(json_, "", key);
    const std::string at = std::string("/") + key;
    if (!list.is_array() || list.empty()) fail(at, "a list of token ids, not empty");
    std::vector<uint32_t> out;
    for (size_t i = 0; i < list.size(); ++i) out.push_back(id(list[i], fmt::format("{}/{}", at, i)));
    return out;
  }

  std::vector<std::pair<uint32_t, float>> entries(const Json& list, const std::string& at) const {
    if (!list.is_array() || list.empty()) fail(at, "a list of [id, logit], best first");
    std::vector<std::pair<uint32_t, float>> out;
    for (const Json& entry : list) {
      if (!entry.is_array() || entry.size() != 2 || !entry[1].is_number())
        fail(at, "a list of [id, logit], best first");
      out.emplace_back(id(entry[0], at), entry[1].get<float>());
    }
    return out;
  }

  std::vector<std::vector<float>> hidden(const Json& list) const {
    std::vector<std::vector<float>> out;
    if (!list.is_array()) fail("/hidden", "a list of hidden states, one a layer");
    for (const Json& row : list) {
      if (!row.is_array()) fail("/hidden", "a list of hidden states, one a layer");
      out.emplace_back();
      for (const Json& x : row) {
        if (!x.is_number()) fail("/hidden", "numbers");
        out.back().push_back(x.get<float>());
      }
    }
    return out;
  }

  std::string file_;
  uint64_t vocab_size_;
  Json json_;
};

// Rounding errors of a whole forward pass, relative to the largest logit (and to a hidden state's norm): the
// bounds that tests/golden holds every family to.
double relative_noise(Dtype dtype) {
  switch (dtype) {
    case Dtype::bf16:
      return 0.04;
    case Dtype::f16:
      return 0.005;
    default:
      return 1e-4;
  }
}

double relative_error(std::span<const float> found, std::span<const float> expected) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double d = static_cast<double>(found[i]) - static_cast<double>(expected[i]);
    error += d * d;
    norm += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
  }
  return norm > 0 ? std::sqrt(error / norm) : std::sqrt(error);
}

uint32_t best_of(std::span<const float> row) {
  return static_cast<uint32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

class Replay {
 public:
  Replay(Session& session, const Trace& trace)
      : decoder_(session.decoder()), cache_(session.cache()), trace_(trace) {
    relative_ = relative_noise(session.plan().dtype);
  }
  ~Replay() { cache_.release(sequence_); }

  ParityResult run() {
    watch_layers();
    decoder_.prefill(sequence_, trace_.prompt_ids);
    decoder_.observe(nullptr);
    for (size_t step = 0; step < trace_.output_ids.size(); ++step) {
      compare(step);
      if (step + 1 < trace_.output_ids.size()) append(step);
    }
    result_.steps = trace_.output_ids.size();
    result_.equal = !result_.first_difference;
    result_.layer = split_;
    result_.within_noise = explained_ && result_.largest_logit_error <= result_.noise;
    return result_;
  }

 private:
  // The last pass of the prompt ends with the prompt's last token: its rows are kept, layer by layer.
  void watch_layers() {
    if (trace_.hidden.empty()) return;
    const uint64_t layers = decoder_.spec().num_hidden_layers, hidden = decoder_.spec().hidden_size;
    const bool foreign = trace_.hidden.size() > layers + 1 ||
                         std::any_of(trace_.hidden.begin(), trace_.hidden.end(),
                                     [&](const auto& row) { return row.size() != hidden; });
    if (foreign)
      throw Error(ErrorKind::integrity, "bad-trace", "the hidden states are not those of this model")
          .at("/hidden")
          .saw(fmt::format("{} states, the first of {} numbers", trace_.hidden.size(),
                           trace_.hidden.front().size()))
          .want(fmt::format("at most {} states of {} numbers", layers + 1, hidden));
    decoder_.observe([this](uint64_t layer, const float* hidden, uint64_t stride, uint32_t tokens) {
      if (sequence_.length + tokens < trace_.prompt_ids.size() || layer >= trace_.hidden.size() || split_)
        return;
      const std::span<const float> row(hidden + (tokens - 1) * stride, decoder_.spec().hidden_size);
      if (relative_error(row, trace_.hidden[layer]) > relative_) split_ = layer;
    });
  }

  void compare(size_t step) {
    const std::span<const float> row = decoder_.logits(0);
    double largest = 0;
    for (const auto& [id, logit] : trace_.top[step]) {
      largest = std::max(largest, std::abs(static_cast<double>(logit)));
      const double error = std::abs(static_cast<double>(row[id]) - static_cast<double>(logit));
      result_.largest_logit_error = std::max(result_.largest_logit_error, error);
    }
    const double noise = relative_ * largest;
    result_.noise = std::max(result_.noise, noise);
    const uint32_t found = best_of(row), expected = trace_.output_ids[step];
    if (found == expected) return;
    const double gap = static_cast<double>(row[found]) - static_cast<double>(row[expected]);
    explained_ = explained_ && gap <= noise;
    if (result_.first_difference) return;
    result_.first_difference = ParityDifference{step, expected, found, gap, split_};
  }

  void append(size_t step) {
    std::vector<uint32_t> all = trace_.prompt_ids;
    all.insert(all.end(), trace_.output_ids.begin(),
               trace_.output_ids.begin() + static_cast<ptrdiff_t>(step) + 1);
    if (decoder_.crosses_rope_switch(sequence_, 1)) {
      cache_.release(sequence_);
      decoder_.prefill(sequence_, all);
      return;
    }
    const model::Span span{&sequence_, std::span(all).last(1), 1};
    decoder_.forward({&span, 1});
  }

  model::Decoder& decoder_;
  model::KvCache& cache_;
  const Trace& trace_;
  model::Sequence sequence_;
  ParityResult result_;
  std::optional<uint64_t> split_;
  double relative_ = 0;
  bool explained_ = true;
};

}  // namespace

Trace read_trace(const std::string& file, uint64_t vocab_size) {
  return TraceReader(file, vocab_size).read();
}

ParityResult compare_with_trace(Session& session, const Trace& trace) {
  return Replay(session, trace).run();
}

}  // namespace rhapsode::runtime
