// Answers of the crate turned into C++ values and errors. Knows the packing, nothing of tokenizers.
#include "text/ffi.h"

#include <cstring>

#include "base/json.h"

namespace rhapsode::text {

namespace {

ErrorKind kind_of(const std::string& name) {
  if (name == "usage") return ErrorKind::usage;
  if (name == "unsupported") return ErrorKind::unsupported;
  if (name == "integrity") return ErrorKind::integrity;
  return ErrorKind::runtime;
}

uint64_t word_at(std::string_view packed, size_t index) {
  uint64_t word = 0;
  std::memcpy(&word, packed.data() + index * sizeof(word), sizeof(word));
  return word;
}

}  // namespace

void throw_described(std::string_view description, const std::string& file) {
  const Json fields = Json::parse(description);
  Error error(kind_of(fields.at("kind")), fields.at("code"), fields.at("message"));
  error.in(file, fields.at("line"), fields.at("column"));
  error.at(fields.at("path")).saw(fields.at("found")).want(fields.at("expected")).hint(fields.at("help"));
  throw error;
}

Encoding unpack_encoding(std::string_view packed) {
  const size_t count = word_at(packed, 0);
  constexpr size_t kWords = 4;  // id, begin, end, end of the token's text
  const std::string_view texts = packed.substr((1 + count * kWords) * sizeof(uint64_t));
  Encoding encoding;
  encoding.ids.reserve(count);
  encoding.tokens.reserve(count);
  encoding.offsets.reserve(count);
  size_t begin = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t base = 1 + i * kWords;
    const size_t end = word_at(packed, base + 3);
    encoding.ids.push_back(static_cast<uint32_t>(word_at(packed, base)));
    encoding.offsets.emplace_back(word_at(packed, base + 1), word_at(packed, base + 2));
    encoding.tokens.emplace_back(texts.substr(begin, end - begin));
    begin = end;
  }
  return encoding;
}

}  // namespace rhapsode::text
