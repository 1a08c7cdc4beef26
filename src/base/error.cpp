#include "base/error.h"

#include <fmt/format.h>

namespace rhapsode {

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::runtime:
      return 1;
    case ErrorKind::usage:
      return 2;
    case ErrorKind::config:
      return 3;
    case ErrorKind::auth:
      return 4;
    case ErrorKind::not_found:
      return 5;
    case ErrorKind::network:
      return 6;
    case ErrorKind::does_not_fit:
      return 7;
    case ErrorKind::unsupported:
      return 8;
    case ErrorKind::integrity:
      return 9;
  }
  return 1;
}

std::string Error::to_text() const {
  std::string text = fmt::format("error[{}]: {}\n", code, message);
  if (!file.empty()) {
    text += fmt::format("  --> {}", file);
    if (line > 0) text += fmt::format(":{}:{}", line, column);
    text += '\n';
  }
  if (!path.empty()) text += fmt::format("  at: {}\n", path);
  if (!found.empty()) text += fmt::format("  found: {}\n", found);
  if (!expected.empty()) text += fmt::format("  expected: {}\n", expected);
  if (!help.empty()) text += fmt::format("  help: {}\n", help);
  return text;
}

}  // namespace rhapsode
