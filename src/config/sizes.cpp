// Owns accelerate's grammar of sizes (convert_file_size_to_int), with its arithmetic: a double times the
// unit, cut.
#include "config/sizes.h"

#include <array>
#include <cstdlib>
#include <string>

namespace rhapsode::config {
namespace {

struct Unit {
  std::string_view name;  // upper case
  double bytes;
  bool decimal;
};
constexpr std::array<Unit, 6> kUnits{{{"GIB", 0x1p30, false},
                                      {"MIB", 0x1p20, false},
                                      {"KIB", 0x1p10, false},
                                      {"GB", 1e9, true},
                                      {"MB", 1e6, true},
                                      {"KB", 1e3, true}}};

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return out;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// A decimal number without a sign that could make it negative, without words (inf, nan) and without
// hexadecimal.
std::optional<double> plain_number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  if (text.empty() || text.find_first_not_of("0123456789.eE+-") != std::string_view::npos)
    return std::nullopt;
  if (text[0] != '.' && (text[0] < '0' || text[0] > '9')) return std::nullopt;
  const std::string copy(text);
  char* end = nullptr;
  const double value = std::strtod(copy.c_str(), &end);
  if (end != copy.c_str() + copy.size()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<Size> parse_size(std::string_view text) {
  const std::string upper_text = upper(text);
  for (const Unit& unit : kUnits) {
    if (!std::string_view(upper_text).ends_with(unit.name)) continue;
    const auto number = plain_number(trimmed(text.substr(0, text.size() - unit.name.size())));
    if (!number) return std::nullopt;
    const double bytes = *number * unit.bytes;
    if (!(bytes < 0x1p63)) return std::nullopt;
    Size size{static_cast<uint64_t>(bytes), unit.decimal && text.back() == 'b'};
    if (size.in_bits) size.bytes /= 8;
    return size;
  }
  return std::nullopt;
}

}  // namespace rhapsode::config
