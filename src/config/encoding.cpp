// Owns the check of bytes before any parser sees them, so that the parser's own decoder never has to refuse
// any.
#include "config/encoding.h"

#include <fmt/format.h>

#include <cstdint>

namespace rhapsode::config {
namespace {

struct Decoded {
  uint32_t code_point = 0;
  uint32_t bytes = 0;  // 0: not UTF-8
};

// Length of the sequence that a lead byte announces, 0 for a byte that cannot lead.
uint32_t sequence_bytes(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return 2;
  if (lead >= 0xe0 && lead <= 0xef) return 3;
  if (lead >= 0xf0 && lead <= 0xf4) return 4;
  return 0;
}

Decoded decode(std::string_view text, size_t at) {
  const uint8_t lead = static_cast<uint8_t>(text[at]);
  const uint32_t bytes = sequence_bytes(lead);
  if (bytes == 0 || text.size() - at < bytes) return {};
  if (bytes == 1) return {lead, 1};
  uint32_t code_point = lead & (0xffu >> (bytes + 1));
  for (uint32_t i = 1; i < bytes; ++i) {
    const uint8_t next = static_cast<uint8_t>(text[at + i]);
    if ((next & 0xc0u) != 0x80u) return {};
    code_point = (code_point << 6) | (next & 0x3fu);
  }
  const bool overlong = (bytes == 3 && code_point < 0x800) || (bytes == 4 && code_point < 0x10000);
  const bool surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
  if (overlong || surrogate || code_point > 0x10ffff) return {};
  return {code_point, bytes};
}

// NEL, LS and PS end a line in YAML 1.1 and do not in 1.2: where they stand, lines could be counted in two
// ways.
bool allowed(uint32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return true;
  if (c < 0x20 || (c >= 0x7f && c < 0xa0)) return false;
  return c != 0x2028 && c != 0x2029 && c != 0xfeff && c != 0xfffe && c != 0xffff;
}

}  // namespace

bool check_encoding(std::string_view& text, int32_t set, Report& report) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  Place place{1, 1, set};
  for (size_t at = 0; at < text.size();) {
    const Decoded decoded = decode(text, at);
    if (decoded.bytes == 0) {
      Finding& f = report.error("yaml-encoding", place, "", "this byte is not UTF-8");
      f.found = fmt::format("byte 0x{:02x} at offset {}", static_cast<uint8_t>(text[at]), at);
      f.expected = "a file in UTF-8";
      f.fix = "save the file as UTF-8";
      return false;
    }
    if (!allowed(decoded.code_point)) {
      Finding& f = report.error("yaml-character", place, "", "this character may not stand in a YAML file");
      f.found = fmt::format("U+{:04X}", decoded.code_point);
      f.expected = "printable characters, tabs and line feeds";
      f.fix = "remove it, or write it as an escape in double quotes (\"\\x1b\", \"\\u2028\")";
      return false;
    }
    at += decoded.bytes;
    const bool cr_of_crlf = decoded.code_point == '\r' && at < text.size() && text[at] == '\n';
    if (decoded.code_point == '\n' || (decoded.code_point == '\r' && !cr_of_crlf)) {
      ++place.line;
      place.column = 1;
    } else if (!cr_of_crlf) {
      ++place.column;
    }
  }
  return true;
}

}  // namespace rhapsode::config
