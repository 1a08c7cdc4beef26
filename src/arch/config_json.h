// Typed reading of config.json: each value checked for type and range, errors with file and JSON pointer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "arch/spec.h"
#include "base/json.h"

namespace rhapsode::arch {

class ConfigJson {
 public:
  ConfigJson(Json json, std::string file);

  const std::string& file() const { return file_; }
  bool has(const char* key) const;      // present and not null
  bool present(const char* key) const;  // present, null too

  uint64_t count(const char* key, uint64_t high) const;  // 1 to high
  uint64_t count_or(const char* key, uint64_t high, uint64_t fallback) const;
  double number(const char* key, double low, double high) const;
  double number_or(const char* key, double low, double high, double fallback) const;
  bool boolean_or(const char* key, bool fallback) const;
  std::string text(const char* key) const;
  std::string text_or(const char* key, const std::string& fallback) const;
  std::vector<double> numbers(const char* key, size_t length) const;   // a list of `length` positive numbers
  std::vector<uint64_t> counts(const char* key, size_t length) const;  // a list of `length` integers >= 0
  std::vector<std::string> texts(const char* key) const;               // empty where absent
  std::vector<int64_t> ids(const char* key) const;  // int or list of ints; empty where absent
  std::optional<int64_t> id(const char* key) const;
  std::optional<ConfigJson> object(const char* key) const;  // nullopt where absent or null

  // A value that no model can have: integrity. A value that we do not implement: unsupported.
  [[noreturn]] void fail(const char* key, const std::string& found, const std::string& expected) const;
  [[noreturn]] void unsupported(const char* key, const std::string& found, const std::string& accepted) const;

 private:
  const Json& need(const char* key) const;
  Json json_;
  std::string file_;
  std::string prefix_;  // JSON pointer of this object
};

// hidden_act | hidden_activation by transformers' names.
ActivationKind read_activation(const ConfigJson& config, const char* key);
// rope_parameters (5.x), or rope_theta and rope_scaling; `section` picks one of several tables, empty = the
// flat form.
RopeTable read_rope(const ConfigJson& config, uint64_t head_dim, double default_theta,
                    double default_partial = 1.0, const std::string& section = {});
// The dims, heads, vocabulary, token ids and dtype that every decoder has; layers are filled with full
// attention.
Spec read_shape(const ConfigJson& config);

}  // namespace rhapsode::arch
