// Replays what transformers generated: each step is computed after the trace's own ids, so one difference
// does not hide the next. Says where the choice first differs, by how much, at which layer, and whether the
// dtype's rounding explains it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/session.h"

namespace rhapsode::runtime {

// A trace as tools/export_trace.py and `run --json --trace N` write it: prompt_ids, output_ids and, for each
// step, the raw logits of the best ids. `hidden` holds, where exported, the last position's hidden state
// after the embedding and after each layer of the first step.
struct Trace {
  std::vector<uint32_t> prompt_ids, output_ids;
  std::vector<std::vector<std::pair<uint32_t, float>>> top;  // of each step, best first
  std::vector<std::vector<float>> hidden;                    // [layer][hidden_size], may be empty
};

// Throws Error(integrity) with the JSON pointer for a file that is no trace of a model of this vocabulary.
Trace read_trace(const std::string& file, uint64_t vocab_size);

struct ParityDifference {
  uint64_t step = 0;
  uint32_t expected = 0, found = 0;
  double gap = 0;  // our logit of `found` minus our logit of `expected`
  std::optional<uint64_t>
      layer;  // first layer whose hidden state at the prompt's end differs beyond the noise
};

struct ParityResult {
  bool equal = false;  // every step chose the trace's id
  uint64_t steps = 0;
  std::optional<ParityDifference> first_difference;
  double largest_logit_error = 0;  // over the trace's top logits
  double noise = 0;                // what the dtype's rounding explains, in logits
  std::optional<uint64_t> layer;   // as in first_difference, which may be absent though logits differ
  bool within_noise = false;       // logits agree within it, and so does the gap of every different choice
};

// The trace must be greedy. The session's plan must hold prompt and output.
ParityResult compare_with_trace(Session& session, const Trace& trace);

}  // namespace rhapsode::runtime
