// Reading JSON that comes from outside: size, depth and duplicate keys are checked while parsing, errors say where.
// The values themselves are nlohmann::json; this file owns only the rules for untrusted text.
#pragma once

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

// Parses `text`. Duplicate keys, depth above the limit, trailing text, invalid UTF-8 and non-finite numbers are errors
// of kind `kind` with code "bad-json", naming `file`, line and column.
Json parse_json(std::string_view text, const std::string& file, ErrorKind kind = ErrorKind::integrity,
                const JsonLimits& limits = {});

// Reads and parses a whole file; a missing file is ErrorKind::not_found.
Json read_json_file(const std::string& file, ErrorKind kind = ErrorKind::integrity, const JsonLimits& limits = {});

// The whole file as bytes; errors name the file. Refuses directories and files above max_bytes.
std::string read_file(const std::string& file, uint64_t max_bytes = 100'000'000);

// Writes to a temporary name beside `file`, syncs, then renames: the final name never holds half a file.
void write_file_atomically(const std::string& file, std::string_view bytes);

}  // namespace rhapsode
