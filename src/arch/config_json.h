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
  bool is_empty() const { return json_.empty(); }

  uint64_t count(const char* key, uint64_t high) const;  // 1 to high
  uint64_t count_or(const char* key, uint64_t high, uint64_t fallback) const;
  uint64_t whole_or(const char* key, uint64_t high, uint64_t fallback) const;  // 0 to high
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
// What a family's own configuration class says of the rotary keys.
struct RopeStyle {
  double theta = 10000.0;                // where the file gives none
  const char* theta_key = "rope_theta";  // at the top level; in a block it is rope_theta
  std::optional<double> partial = {};    // default share of a head that rotates; nullopt: all of it
  const char* partial_key = "partial_rotary_factor";  // at the top level
  // Phi-3: "su" and "yarn" are old names of longrope, of scalings there is no other, the original length has
  // a default, and what is cached is computed anew where the factors change.
  std::optional<uint64_t> longrope_alone = {};
};
// rope_scaling (4.x), or rope_parameters (5.x).
RopeTable read_rope(const ConfigJson& config, uint64_t head_dim, const RopeStyle& style);
// The same from one block, which may be absent; what it does not say stands at the top level.
RopeTable read_rope_block(const ConfigJson& config, const std::optional<ConfigJson>& block, uint64_t head_dim,
                          const RopeStyle& style);
// The dims, heads, vocabulary, token ids and dtype that every decoder has; layers are filled with full
// attention. `head_dim`: of families that do not derive it from the hidden size where no key says it.
Spec read_shape(const ConfigJson& config, std::optional<uint64_t> head_dim = {});

}  // namespace rhapsode::arch
