// What goes to the user: stdout for data, stderr for the rest; colour only where a terminal shows it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "cli/invocation.h"

namespace rhapsode::cli {

// Wraps text in a colour, or leaves it alone.
class Style {
 public:
  explicit Style(bool coloured) : coloured_(coloured) {}
  std::string bold(std::string_view text) const { return wrap("1", text); }
  std::string dim(std::string_view text) const { return wrap("2", text); }
  std::string red(std::string_view text) const { return wrap("1;31", text); }
  std::string green(std::string_view text) const { return wrap("32", text); }
  std::string yellow(std::string_view text) const { return wrap("33", text); }
  std::string blue(std::string_view text) const { return wrap("34", text); }
  std::string magenta(std::string_view text) const { return wrap("35", text); }
  std::string cyan(std::string_view text) const { return wrap("36", text); }
  bool coloured() const { return coloured_; }

 private:
  std::string wrap(const char* code, std::string_view text) const;
  bool coloured_;
};

Style stdout_style(const Globals& globals);
Style stderr_style(const Globals& globals);
bool stderr_is_terminal();
uint32_t terminal_columns(int fd);  // 80 where unknown

// Data. A stdout that cannot be written to is Error(runtime, "write-failed").
void print(std::string_view text);
void print_json(const OrderedJson& value);        // one object, one line
std::string json_text(const OrderedJson& value);  // as it is printed

// Everything else. Never fails.
void say(std::string_view text);

// An error as cli-contract prints it, for people and for programs.
std::string error_text(const Error& error, const Style& style);
OrderedJson error_json(const Error& error);
Error current_error();  // the exception that is being handled, as an Error

// "1.36 GB (1.27 GiB)"; `short_bytes` the first half alone.
std::string bytes_text(uint64_t bytes);
std::string short_bytes(uint64_t bytes);
std::string limit_text(uint64_t bytes);     // "373MB": as a config takes it, at least as many bytes
std::string duration_text(double seconds);  // "850 ms", "3.2 s", "2 min 05 s"

}  // namespace rhapsode::cli
