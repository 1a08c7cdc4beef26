// Runs the real binary as a user would: arguments, stdin, environment in; stdout, stderr, exit code out.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "support/scratch.h"

namespace rhapsode::testing {

struct Outcome {
  int code = -1;  // exit code, or 256 + signal where a signal ended it
  std::string out;
  std::string err;

  // stdout as the one JSON object that it must be.
  Json json() const {
    EXPECT_EQ(out.find('\n'), out.size() - 1) << out;
    return parse_json(out, "stdout");
  }
  std::string error_code() const { return json().at("error").at("code").get<std::string>(); }
};

struct Launch {
  std::vector<std::string> arguments;
  std::string input;
  std::map<std::string, std::string> environment;  // beside PATH; HOME is an empty directory
  int signal = 0;                                  // sent when stdout has brought its first bytes
  int patience_ms = 120'000;                       // with no byte of output it counts as hanging
  uint64_t file_limit_bytes = 0;                   // no file may grow beyond it; 0: no limit
};

Outcome run_program(const Launch& launch);
Outcome rhapsode(std::vector<std::string> arguments, const std::string& input = "");

std::string fixture(const std::string& name);

// A model entry `tiny` on a checkpoint; `keys` are more lines of the entry.
std::string tiny_yaml(const std::string& checkpoint, const std::vector<std::string>& keys = {});

// A checkpoint with a tokenizer and a chat template: the smallest llama, one token a word.
std::string talking_checkpoint(const Scratch& scratch);

}  // namespace rhapsode::testing
