#include "cli/numbers.h"

#include <fmt/format.h>
#include <unistd.h>

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

bool is_separator(char c) {
  return c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

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
  for (size_t i = 0; i < text.size();) {
    if (is_separator(text[i])) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < text.size() && !is_separator(text[end])) ++end;
    ids.push_back(static_cast<uint32_t>(read_integer(what, text.substr(i, end - i), 0, UINT32_MAX)));
    i = end;
  }
  if (!ids.empty()) return ids;
  throw Error(ErrorKind::usage, "no-ids", fmt::format("{} holds no token ids", what))
      .at(what)
      .saw(fmt::format("\"{}\"", excerpt(text)))
      .want("ids with commas or whitespace between, such as 1,2,3");
}

std::string read_input(const std::string& file) {
  return file == "-" ? read_stdin() : read_file(file, kMostInputBytes);
}

}  // namespace rhapsode::cli
