// Where a token's time goes, and what would save most of it. Every saving is worked out of times, bytes and
// limits that were measured in this run; none is assumed.
#pragma once

#include <string>
#include <vector>

#include "runtime/bench.h"

namespace rhapsode::runtime {

struct TimePart {
  std::string name;
  double ms = 0;        // a token, mean of the threads
  double share = 0;     // of the whole
  double gb_per_s = 0;  // weights read; 0 where none are or where many tokens share a read
};

struct Knob {
  std::string name;     // threads, quantization, numerics, context, batch
  std::string setting;  // what to write
  double saves_ms = 0;  // a token, at most
  std::string why;
};

struct Explanation {
  struct Phase {
    double token_ms = 0;
    std::vector<TimePart> parts;  // in the order of a pass; with what is left over, they add up to token_ms
    std::vector<Knob> knobs;      // the one that saves most first; empty where none would save a twentieth
  };
  Phase decode, prompt;
};

// One more round with the decoder's clocks on. `result` is of the same session and options.
Explanation explain(Session& session, const BenchOptions& options, const BenchResult& result);

}  // namespace rhapsode::runtime
