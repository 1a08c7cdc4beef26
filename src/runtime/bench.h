// Speed of a loaded model beside the limits of the machine, measured in the same run: the shares are what
// counts, the tokens a second depend on who else uses the machine.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "devices/roofline.h"
#include "runtime/session.h"

namespace rhapsode::runtime {

struct BenchOptions {
  uint64_t prompt_tokens = 512;
  uint64_t new_tokens = 64;
  uint32_t rounds = 3;
  uint32_t sequences = 1;  // decoded at once after that, each with a prompt of its own
};

struct BenchResult {
  std::string cpu, isa;
  uint32_t threads = 1;
  uint32_t access_bytes = 0;  // Session::access_bytes() and its source
  std::string access_source;
  devices::Roofline roofline;
  double load_ms = 0;
  double prompt_tokens_per_s = 0, decode_tokens_per_s = 0;  // medians of the rounds
  double prompt_gflops = 0;    // matrices, attention to the keys that each token sees, the last token's head
  double decode_gb_per_s = 0;  // weights read once a token, keys and values of the context
  // Medians over the rounds, each beside the limits as they were right after it: of the peak of the best
  // instruction for the layers' format, and of the read bandwidth.
  double prompt_share = 0, decode_share = 0;
  devices::Instruction prompt_instruction = devices::Instruction::fma;
  double batch_tokens_per_s = 0;  // of all sequences together, median; 0 where there is but one
  double batch_speedup = 0;       // beside decode_tokens_per_s of the same round, median
  double first_token_ms = 0;      // of the prompt, median
  uint64_t weight_bytes_per_token = 0;
  uint64_t plan_bytes = 0, peak_rss_bytes = 0;
};

// Greedy without end of sequence, so that every round does the same work. choosing_ms is the part of
// decode_ms in which the next token is picked from the logits. `prompt_done` is called between the two.
struct BenchRound {
  double prompt_ms = 0, decode_ms = 0, choosing_ms = 0;
};

// `options.sequences` sequences decoded at once; milliseconds, without their prompts.
double batch_round(Session& session, const BenchOptions& options);

BenchRound bench_round(Session& session, const BenchOptions& options,
                       const std::function<void()>& prompt_done = {});

// Of the LM head: all of it, or what its screen has read on average so far.
uint64_t head_bytes_per_pass(Session& session);

// The session's plan must hold prompt_tokens + new_tokens for `sequences` sequences. peak_rss_bytes is taken
// before the roofline is measured for the first time.
BenchResult bench(Session& session, const BenchOptions& options,
                  const std::function<void(const std::string&)>& say);

}  // namespace rhapsode::runtime
