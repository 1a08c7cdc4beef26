// Owns the two implicit typings of YAML (1.2 core; 1.1 as PyYAML has it) and the comparison between them.
#include "config/scalar.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace rhapsode::config {
namespace {

bool digit(char c) {
  return c >= '0' && c <= '9';
}
bool digit_or_underscore(char c) {
  return digit(c) || c == '_';
}

template <size_t N>
bool one_of(std::string_view text, const std::array<std::string_view, N>& words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

std::string_view without_sign(std::string_view text) {
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  return text;
}

bool all(std::string_view text, bool (*is)(char)) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is);
}

// (\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? after the sign: the core schema's float.
bool core_float(std::string_view text) {
  text = without_sign(text);
  const size_t e = text.find_first_of("eE");
  if (e != std::string_view::npos) {
    if (!all(without_sign(text.substr(e + 1)), digit)) return false;
    text = text.substr(0, e);
  }
  const size_t point = text.find('.');
  if (point == std::string_view::npos) return all(text, digit);
  const std::string_view whole = text.substr(0, point), part = text.substr(point + 1);
  if (whole.empty()) return all(part, digit);
  return all(whole, digit) && (part.empty() || all(part, digit));
}

// Of a core float: does PyYAML read a float too? It wants a point, a signed exponent, and no sign before a
// bare point.
bool pyyaml_float(std::string_view text) {
  if (text.find('.') == std::string_view::npos) return false;
  if (without_sign(text).starts_with('.') && !digit(text[0]) && text[0] != '.') return false;
  const size_t e = text.find_first_of("eE");
  return e == std::string_view::npos || text[e + 1] == '-' || text[e + 1] == '+';
}

constexpr std::array<std::string_view, 3> kTrue{"true", "True", "TRUE"};
constexpr std::array<std::string_view, 3> kFalse{"false", "False", "FALSE"};
constexpr std::array<std::string_view, 4> kNull{"~", "null", "Null", "NULL"};
constexpr std::array<std::string_view, 6> kOldTrue{"yes", "Yes", "YES", "on", "On", "ON"};
constexpr std::array<std::string_view, 6> kOldFalse{"no", "No", "NO", "off", "Off", "OFF"};
constexpr std::array<std::string_view, 3> kInf{".inf", ".Inf", ".INF"};
constexpr std::array<std::string_view, 3> kNan{".nan", ".NaN", ".NAN"};

// 2024-01-31, optionally followed by a time.
bool date(std::string_view text) {
  size_t at = 0;
  const auto digits = [&](size_t least, size_t most) {
    size_t n = 0;
    while (at < text.size() && digit(text[at]) && n < most) ++at, ++n;
    return n >= least;
  };
  const auto dash = [&] { return at < text.size() && text[at++] == '-'; };
  if (!digits(4, 4) || !dash() || !digits(1, 2) || !dash() || !digits(1, 2)) return false;
  if (at == text.size()) return text.size() == 10;
  return text[at] == 'T' || text[at] == 't' || text[at] == ' ' || text[at] == '\t';
}

// [1-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?
bool base_60(std::string_view text) {
  text = without_sign(text);
  const size_t point = text.find('.');
  if (point != std::string_view::npos) {
    const std::string_view part = text.substr(point + 1);
    if (!part.empty() && !all(part, digit_or_underscore)) return false;
    text = text.substr(0, point);
  }
  size_t colon = text.find(':');
  if (colon == std::string_view::npos || colon == 0 || !digit(text[0])) return false;
  if (!all(text.substr(0, colon), digit_or_underscore)) return false;
  while (colon != std::string_view::npos) {
    const size_t begin = colon + 1;
    colon = text.find(':', begin);
    const std::string_view part = text.substr(begin, colon == std::string_view::npos ? colon : colon - begin);
    if (part.size() > 2 || !all(part, digit) || (part.size() == 2 && part[0] > '5')) return false;
  }
  return true;
}

// How the two versions part, empty where they do not.
std::string disagreement(std::string_view text) {
  if (one_of(text, kOldTrue)) return "true to YAML 1.1 and text to YAML 1.2";
  if (one_of(text, kOldFalse)) return "false to YAML 1.1 and text to YAML 1.2";
  if (text == "=" || text == "<<") return "a special sign to YAML 1.1 and text to YAML 1.2";
  if (date(text)) return "a date to YAML 1.1 and text to YAML 1.2";
  if (base_60(text)) return "a number in base 60 to YAML 1.1 and text to YAML 1.2";
  const std::string_view bare = without_sign(text);
  if (bare.size() > 2 && bare[0] == '0') {
    const std::string_view rest = bare.substr(2);
    if (bare[1] == 'x' && all(rest, [](char c) {
          return digit_or_underscore(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
        }))
      return "a hexadecimal number to some readers and text to others";
    if (bare[1] == 'o' && all(rest, digit)) return "text to YAML 1.1 and an octal number to YAML 1.2";
    if (bare[1] == 'b' && all(rest, digit_or_underscore))
      return "a binary number to YAML 1.1 and text to YAML 1.2";
  }
  if (bare.size() > 1 && bare[0] == '0' && all(bare, digit))
    return "octal (or text) to YAML 1.1 and decimal to YAML 1.2";
  const bool number_like =
      !bare.empty() && digit(bare[0]) && bare.find('_') != std::string_view::npos &&
      std::all_of(bare.begin(), bare.end(), [](char c) { return digit_or_underscore(c) || c == '.'; }) &&
      std::count(bare.begin(), bare.end(), '.') <= 1;
  if (number_like) return "a number to YAML 1.1 and text to YAML 1.2";
  return "";
}

Scalar number(std::string_view text) {
  Scalar scalar;
  const std::string copy(text);
  scalar.real = std::strtod(copy.c_str(), nullptr);
  if (!all(without_sign(text), digit)) {
    scalar.kind = Scalar::Kind::real;
    scalar.text_to_pyyaml = !pyyaml_float(text);
    return scalar;
  }
  scalar.kind = Scalar::Kind::integer;
  if (text.starts_with('+')) text.remove_prefix(1);
  int64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem == std::errc{}) scalar.integer = value;
  return scalar;
}

}  // namespace

Scalar resolve(const Node& node) {
  Scalar scalar;
  const std::string_view text = node.text;
  if (!node.is_scalar() || node.quoted) return scalar;
  if (text.empty()) {
    scalar.kind = Scalar::Kind::empty;
  } else if (one_of(text, kNull)) {
    scalar.kind = Scalar::Kind::null;
  } else if (one_of(text, kTrue) || one_of(text, kFalse)) {
    scalar.kind = Scalar::Kind::boolean;
    scalar.boolean = one_of(text, kTrue);
  } else if (one_of(without_sign(text), kInf)) {
    scalar.kind = Scalar::Kind::real;
    scalar.real =
        text[0] == '-' ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  } else if (one_of(text, kNan)) {
    scalar.kind = Scalar::Kind::real;
    scalar.real = std::numeric_limits<double>::quiet_NaN();
  } else if (std::string reading = disagreement(text); !reading.empty()) {
    scalar.kind = Scalar::Kind::ambiguous;
    scalar.reading = fmt::format("`{}` is {}", text.substr(0, 60), reading);
  } else if (core_float(text)) {
    return number(text);
  }
  return scalar;
}

std::string describe(const Node& node) {
  if (node.is_sequence()) return "a list";
  if (node.is_mapping()) return "a mapping";
  std::string text = node.text;
  if (text.size() > 60) {
    size_t end = 60;  // not inside a character
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0u) == 0x80u) --end;
    text = text.substr(0, end) + "…";
  }
  switch (resolve(node).kind) {
    case Scalar::Kind::empty:
      return "nothing";
    case Scalar::Kind::null:
      return text;
    case Scalar::Kind::boolean:
      return text;
    case Scalar::Kind::integer:
    case Scalar::Kind::real:
      return "the number " + text;
    case Scalar::Kind::ambiguous:
      return text;
    case Scalar::Kind::text:
      break;
  }
  return "the text \"" + text + "\"";
}

}  // namespace rhapsode::config
