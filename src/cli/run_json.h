// What `run` prints with --json.
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "runtime/generate.h"

namespace rhapsode::cli {

// The first token comes out of the prompt's pass; the others are decoded.
uint64_t decoded_tokens(const runtime::GenerateResult& result);

// Prints the answer to one prompt, as one object. Steps of a trace are printed in pieces: in JSON they are
// many times as large as they are held.
void print_result(const runtime::Session& session, const runtime::GenerateRequest& request,
                  const runtime::GenerateResult& result);

// One object with the answers to all prompts of a file, each printed as it is finished, so that their number
// costs no memory: what stands for all of them, `results` in order, `timings`, `memory`, and `error` where
// one ended the work. Answers that were finished before it are there.
class ResultsPrinter {
 public:
  explicit ResultsPrinter(const runtime::Session& session);  // opens the object
  void add(const runtime::GenerateRequest& request, const runtime::GenerateResult& result);
  void end();
  void end(const Error& error);

 private:
  void close(const OrderedJson& more);
  const runtime::Session& session_;
  bool first_ = true;
};

}  // namespace rhapsode::cli
