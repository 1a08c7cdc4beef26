// Typed access to the metadata of a GGUF file.
#include <fmt/format.h>

#include "checkpoint/gguf_model.h"

namespace rhapsode::gguf {
namespace {

template <typename T>
const T* typed(const File& file, const std::string& key, const char* want) {
  const auto at = file.metadata.find(key);
  if (at == file.metadata.end()) return nullptr;
  if (const T* value = std::get_if<T>(&at->second)) return value;
  throw bad_metadata(file, key, "a metadata value has the wrong type").saw("another type").want(want);
}

}  // namespace

Error bad_metadata(const File& file, const std::string& key, std::string message) {
  return Error(ErrorKind::integrity, "bad-gguf-metadata", std::move(message))
      .in(file.path)
      .at(excerpt(key))
      .hint("the file is damaged or was written by a faulty program: fetch or export it again");
}

std::optional<int64_t> integer(const File& file, const std::string& key) {
  const int64_t* value = typed<int64_t>(file, key, "an integer");
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<double> number(const File& file, const std::string& key) {
  const double* value = typed<double>(file, key, "a float");
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<bool> boolean(const File& file, const std::string& key) {
  const bool* value = typed<bool>(file, key, "a boolean");
  return value ? std::optional(*value) : std::nullopt;
}

const std::string* text(const File& file, const std::string& key) {
  return typed<std::string>(file, key, "a string");
}

const std::vector<std::string>* texts(const File& file, const std::string& key) {
  return typed<std::vector<std::string>>(file, key, "an array of strings");
}
const std::vector<int64_t>* integers(const File& file, const std::string& key) {
  return typed<std::vector<int64_t>>(file, key, "an array of integers");
}
const std::vector<double>* numbers(const File& file, const std::string& key) {
  return typed<std::vector<double>>(file, key, "an array of floats");
}

uint64_t required_count(const File& file, const std::string& key) {
  const std::optional<int64_t> value = integer(file, key);
  if (value && *value >= 1 && *value <= INT32_MAX) return static_cast<uint64_t>(*value);
  throw bad_metadata(file, key,
                     value ? "a count is out of range" : "a key that the architecture needs is missing")
      .saw(value ? fmt::format("{}", *value) : "no such key")
      .want("a whole number from 1 to 2147483647");
}

std::string required_text(const File& file, const std::string& key) {
  if (const std::string* value = text(file, key)) return *value;
  throw bad_metadata(file, key, "a key that the import needs is missing").saw("no such key").want("a string");
}

}  // namespace rhapsode::gguf
