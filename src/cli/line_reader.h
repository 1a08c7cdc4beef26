// Lines that a person types, with editing and history on a terminal, or that a pipe brings. Knows nothing of
// what they say.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace rhapsode::cli {

class LineReader {
 public:
  // history_file may be empty: no history is kept then. Without a terminal there is neither prompt nor
  // history.
  LineReader(bool interactive, std::string prompt, std::string history_file);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  enum class Event : uint8_t { line, end, interrupted };
  Event next(std::string& line);  // without its newline

 private:
  struct Editor;
  Event next_of_pipe(std::string& line);
  std::unique_ptr<Editor> editor_;  // null for a pipe
  std::string pending_;
  bool at_end_ = false;
};

}  // namespace rhapsode::cli
