// Reading JSON that comes from outside: size, depth and duplicate keys are checked while parsing, errors say
// where. The values themselves are nlohmann::json; this file owns only the rules for untrusted text.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"

namespace rhapsode {

using Json = nlohmann::json;
// Keeps the order of keys: for what we write.
using OrderedJson = nlohmann::ordered_json;

struct JsonLimits {
  uint64_t max_bytes = 100'000'000;
  uint32_t max_depth = 64;
};

// Parses `text`. Duplicate keys, depth above the limit, trailing text, invalid UTF-8 and non-finite numbers
// are errors of kind `kind` with code "bad-json", naming `file`, line and column.
Json parse_json(std::string_view text, const std::string& file, ErrorKind kind = ErrorKind::integrity,
                const JsonLimits& limits = {});

// What a parse reports as it goes, for texts too large for a tree. The rules of parse_json hold. A handler
// may throw; `pointer` and `offset_bytes` of the scan say where it stands.
struct JsonScan {
  std::function<std::string()> pointer;    // JSON pointer of the current value or key
  std::function<uint64_t()> offset_bytes;  // of the current token's first byte in the text
};
class JsonEvents {
 public:
  virtual ~JsonEvents() = default;
  virtual void null(const JsonScan&) = 0;
  virtual void boolean(const JsonScan&, bool value) = 0;
  virtual void unsigned_integer(const JsonScan&, uint64_t value) = 0;
  virtual void negative_integer(const JsonScan&, int64_t value) = 0;
  virtual void real(const JsonScan&, double value) = 0;  // also integers that no 64 bits hold
  virtual void string(const JsonScan&, std::string& value) = 0;
  virtual void key(const JsonScan&, std::string& value) = 0;
  virtual void begin_object(const JsonScan&) = 0;
  virtual void end_object(const JsonScan&) = 0;
  virtual void begin_array(const JsonScan&) = 0;
  virtual void end_array(const JsonScan&) = 0;
};

struct JsonSource {
  std::string file;
  ErrorKind kind = ErrorKind::integrity;
  JsonLimits limits{};
  // Where the text is part of a binary file: its offset there. Errors then name a byte of the file instead of
  // a line.
  bool in_binary_file = false;
  uint64_t file_offset_bytes = 0;
};
void scan_json(std::string_view text, const JsonSource& source, JsonEvents& events);

// Reads and parses a whole file; a missing file is ErrorKind::not_found.
Json read_json_file(const std::string& file, ErrorKind kind = ErrorKind::integrity,
                    const JsonLimits& limits = {});

// The whole file as bytes; errors name the file. Refuses directories and files above max_bytes.
std::string read_file(const std::string& file, uint64_t max_bytes = 100'000'000);

// Bytes from outside as they may stand in a message: valid UTF-8 without control characters, shortened in the
// middle.
std::string excerpt(std::string_view bytes, size_t max_bytes = 120);

// True where `bytes` are well-formed UTF-8 (no surrogates, no overlong forms).
bool is_utf8(std::string_view bytes);

// Writes to a temporary name beside `file`, syncs, then renames: the final name never holds half a file.
void write_file_atomically(const std::string& file, std::string_view bytes);

}  // namespace rhapsode
