// Time of one token between the model's scores and its id, on one core. Prints microseconds; judges nothing.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "generation/request_state.h"

using namespace rhapsode::generation;

namespace {

constexpr int kTokens = 400;

// Median and best over kTokens tokens after a prompt of 1000 ids; refilling the row is not counted.
void measure(const char* name, Params params, size_t vocab_size) {
  params.max_new_tokens = kTokens;
  std::vector<uint32_t> prompt;
  std::vector<float> scores(vocab_size);
  const Draws draws(1, vocab_size);
  for (size_t i = 0; i < 1000; ++i)
    prompt.push_back(static_cast<uint32_t>(draws.at(i) * static_cast<double>(vocab_size)));
  for (size_t i = 0; i < vocab_size; ++i) {
    double sum = 0;  // of twelve uniforms: close to a normal distribution
    for (size_t j = 0; j < 12; ++j) sum += draws.at(1000 + 12 * i + j);
    scores[i] = static_cast<float>(3 * (sum - 6));
  }
  RequestState state(params, prompt, vocab_size);
  std::vector<double> micros;
  std::vector<float> row;
  while (!state.finished()) {
    row = scores;
    const auto start = std::chrono::steady_clock::now();
    state.push_logits(row);
    micros.push_back(
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(micros.begin(), micros.end());
  fmt::print("{:<44} V={:<7} median {:8.1f} us  best {:8.1f} us\n", name, vocab_size,
             micros[micros.size() / 2], micros[0]);
}

}  // namespace

int main() {
  Params greedy;
  Params penalized = greedy;
  penalized.repetition_penalty = 1.1;
  Params sampling;
  sampling.do_sample = true, sampling.temperature = 0.7, sampling.top_k = 50, sampling.top_p = 0.9;
  Params nucleus = sampling;
  nucleus.top_k = 0;
  for (const size_t vocab_size : {32'000u, 128'256u, 256'000u}) {
    measure("greedy", greedy, vocab_size);
    measure("greedy, repetition_penalty 1.1", penalized, vocab_size);
    measure("temperature 0.7, top_k 50, top_p 0.9", sampling, vocab_size);
    measure("temperature 0.7, top_p 0.9", nucleus, vocab_size);
  }
}
