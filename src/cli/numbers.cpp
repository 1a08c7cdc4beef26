#include "cli/numbers.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>

#include "base/json.h"
#include "cli/signals.h"

namespace rhapsode::cli {
namespace {

constexpr uint64_t kMostInputBytes = 1'000'000'000;

std::string read_stdin() {
  std::string out;
  char chunk[65536];
  for (;;) {
    const ssize_t got = ::read(STDIN_FILENO, chunk, sizeof chunk);
    if (got == 0) return out;
    if (got < 0 && errno == EINTR) {
      if (interrupted()) throw Interrupted{};
      continue;
    }
    if (got < 0)
      throw Error(ErrorKind::runtime, "read-failed", "the input could not be read")
          .in("stdin")
          .saw(std::strerror(errno));
    out.append(chunk, static_cast<size_t>(got));
    if (out.size() > kMostInputBytes)
      throw Error(ErrorKind::usage, "input-too-large", "the input is too large")
          .in("stdin")
          .want(fmt::format("at most {} bytes", kMostInputBytes));
  }
}

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

constexpr const char* kIdsForm = "ids with a comma or whitespace between, such as 1,2,3";

}  // namespace

uint64_t read_integer(const std::string& option, std::string_view text, uint64_t low, uint64_t high) {
  uint64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code == std::errc() && end == text.data() + text.size() && value >= low && value <= high) return value;
  const bool open = high == std::numeric_limits<uint64_t>::max();
  throw Error(ErrorKind::usage, "bad-value", fmt::format("{} has a value that it does not take", option))
      .at(option)
      .saw(fmt::format("\"{}\"", excerpt(text)))
      .want(open ? fmt::format("an integer, at least {}", low)
                 : fmt::format("an integer from {} to {}", low, high));
}

std::vector<uint32_t> read_ids(const std::string& what, std::string_view text) {
  std::vector<uint32_t> ids;
  bool wanted = false;  // a comma waits for its id
  const auto refuse_empty = [&] {
    throw Error(ErrorKind::usage, "empty-id", fmt::format("{} has a comma without an id beside it", what))
        .at(what)
        .saw(fmt::format("nothing where entry {} should be", ids.size() + 1))
        .want(kIdsForm)
        .hint("remove the comma, or write the id that is missing");
  };
  for (size_t i = 0; i < text.size();) {
    if (is_space(text[i])) {
      ++i;
    } else if (text[i] == ',') {
      if (wanted || ids.empty()) refuse_empty();
      wanted = true;
      ++i;
    } else {
      const size_t end = std::min(text.find_first_of(", \t\n\r", i), text.size());
      ids.push_back(static_cast<uint32_t>(read_integer(what, text.substr(i, end - i), 0, UINT32_MAX)));
      wanted = false;
      i = end;
    }
  }
  if (wanted) refuse_empty();
  if (!ids.empty()) return ids;
  throw Error(ErrorKind::usage, "no-ids", fmt::format("{} holds no token ids", what))
      .at(what)
      .saw(fmt::format("\"{}\"", excerpt(text)))
      .want(kIdsForm);
}

std::string read_input(const std::string& file) {
  return file == "-" ? read_stdin() : read_file(file, kMostInputBytes);
}

}  // namespace rhapsode::cli
