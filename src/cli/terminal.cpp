#include "cli/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace rhapsode::cli {
namespace {

bool colour_wanted(const Globals& globals, int fd) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  if (globals.no_color || (no_color != nullptr && *no_color != '\0')) return false;
  return ::isatty(fd) == 1 && (term == nullptr || std::strcmp(term, "dumb") != 0);
}

OrderedJson known(const std::string& text) {
  return text.empty() ? OrderedJson() : OrderedJson(text);
}
OrderedJson known(uint64_t number) {
  return number == 0 ? OrderedJson() : OrderedJson(number);
}

std::string scaled(double value, double step, const char* const (&units)[5]) {
  size_t unit = 0;
  while (value >= step && unit + 1 < std::size(units)) value /= step, ++unit;
  if (unit == 0) return fmt::format("{:.0f} {}", value, units[unit]);
  return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : value < 100 ? 1 : 0, units[unit]);
}

}  // namespace

std::string Style::wrap(const char* code, std::string_view text) const {
  return coloured_ ? fmt::format("\033[{}m{}\033[0m", code, text) : std::string(text);
}

Style stdout_style(const Globals& globals) {
  return Style(!globals.json && colour_wanted(globals, STDOUT_FILENO));
}
Style stderr_style(const Globals& globals) {
  return Style(colour_wanted(globals, STDERR_FILENO));
}
bool stderr_is_terminal() {
  return ::isatty(STDERR_FILENO) == 1;
}

uint32_t terminal_columns(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

void print(std::string_view text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (written && std::fflush(stdout) == 0) return;
  throw Error(ErrorKind::runtime, "write-failed", "the output could not be written")
      .in("stdout")
      .saw(std::strerror(errno));
}

std::string json_text(const OrderedJson& value) {
  return value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

void print_json(const OrderedJson& value) {
  print(json_text(value) + "\n");
}

void say(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

std::string error_text(const Error& error, const Style& style) {
  std::string text = error.to_text();
  if (!style.coloured()) return text;
  std::string out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    const size_t colon = line.find(':');
    if (begin == 0)
      out += style.red(line.substr(0, colon)) + std::string(line.substr(colon));
    else if (line.starts_with("  --> "))
      out += style.blue("  --> ") + std::string(line.substr(6));
    else if (colon != std::string_view::npos)
      out += style.dim(line.substr(0, colon + 1)) + std::string(line.substr(colon + 1));
    else
      out += line;
    out += '\n';
    begin = end + 1;
  }
  return out;
}

OrderedJson error_json(const Error& error) {
  OrderedJson body;
  body["code"] = error.code;
  body["message"] = error.message;
  body["file"] = known(error.file);
  body["line"] = known(error.line);
  body["column"] = known(error.column);
  body["path"] = known(error.path);
  body["found"] = known(error.found);
  body["expected"] = known(error.expected);
  body["help"] = known(error.help);
  return {{"error", body}};
}

Error current_error() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error(ErrorKind::runtime, "out-of-memory", "the system has no more memory")
        .hint("rhapsode plan shows what the model needs");
  } catch (const std::exception& error) {
    return Error(ErrorKind::runtime, "internal", "something went wrong that should not").saw(error.what());
  }
}

std::string short_bytes(uint64_t bytes) {
  static constexpr const char* kUnits[5] = {"B", "kB", "MB", "GB", "TB"};
  return scaled(static_cast<double>(bytes), 1000, kUnits);
}

std::string bytes_text(uint64_t bytes) {
  static constexpr const char* kUnits[5] = {"B", "KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1000) return short_bytes(bytes);
  return fmt::format("{} ({})", short_bytes(bytes), scaled(static_cast<double>(bytes), 1024, kUnits));
}

std::string limit_text(uint64_t bytes) {
  static constexpr std::pair<const char*, uint64_t> kUnits[] = {{"GB", 1'000'000'000}, {"MB", 1'000'000}};
  for (const auto& [name, unit] : kUnits) {
    if (bytes < unit) continue;
    const uint64_t step = bytes / unit >= 100 ? unit : bytes / unit >= 10 ? unit / 10 : unit / 100;
    const uint64_t steps = (bytes + step - 1) / step;
    return fmt::format("{}{}", static_cast<double>(steps) / static_cast<double>(unit / step), name);
  }
  return fmt::format("{}KB", (bytes + 999) / 1000);
}

std::string duration_text(double seconds) {
  if (seconds < 1) return fmt::format("{:.0f} ms", seconds * 1000);
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<uint64_t>(std::llround(seconds));
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

}  // namespace rhapsode::cli
