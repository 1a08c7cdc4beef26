// The one error of the project: what happened, where, what was found and expected, what to do next.
// Thrown for bad input and environment; caught once per boundary (CLI, server, C ABI).
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <utility>

namespace rhapsode {

// What kind of failure it is; decides the exit code of the command line (see exit_code).
enum class ErrorKind {
  runtime,
  usage,
  config,
  auth,
  not_found,
  network,
  does_not_fit,
  unsupported,
  integrity,
};

// Exit code of the command line for a kind: 1 runtime, 2 usage, 3 config, 4 auth, 5 not found, 6 network,
// 7 does not fit, 8 unsupported, 9 integrity.
int exit_code(ErrorKind kind);

// Fields that are empty (or 0) are unknown and are not printed. Lines and columns are 1-based.
struct Error : std::exception {
  ErrorKind kind = ErrorKind::runtime;
  std::string code;     // stable, kebab-case, e.g. "unknown-key"
  std::string message;  // one sentence, no trailing full stop
  std::string file;
  uint64_t line = 0;
  uint64_t column = 0;
  std::string path;  // key path, JSON pointer or tensor name
  std::string found;
  std::string expected;
  std::string help;

  Error(ErrorKind kind_, std::string code_, std::string message_)
      : kind(kind_), code(std::move(code_)), message(std::move(message_)) {}

  const char* what() const noexcept override { return message.c_str(); }

  // Builders, so that a throw reads as a sentence: throw Error(...).in(file).at("/a/b").saw("x").want("y").
  Error& in(std::string file_, uint64_t line_ = 0, uint64_t column_ = 0) {
    file = std::move(file_), line = line_, column = column_;
    return *this;
  }
  Error& at(std::string path_) { return path = std::move(path_), *this; }
  Error& saw(std::string found_) { return found = std::move(found_), *this; }
  Error& want(std::string expected_) { return expected = std::move(expected_), *this; }
  Error& hint(std::string help_) { return help = std::move(help_), *this; }

  // The lines of cli-contract: "error[CODE]: what", "  --> FILE:LINE:COLUMN", "  found: ", "  expected: ", "
  // help: ".
  std::string to_text() const;
};

}  // namespace rhapsode
