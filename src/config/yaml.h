// YAML text into a small tree in which every key and value knows its line and column. Owns the limits for
// untrusted text; refuses to know any key of the configuration.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/report.h"

namespace rhapsode::config {

struct YamlLimits {
  uint64_t max_bytes = 1 << 20;
  uint32_t max_depth = 64;
  uint64_t max_nodes = 10'000;           // keys, values and containers, after aliases are expanded
  uint64_t max_text_bytes = 4ull << 20;  // of all scalars, after aliases are expanded
};

struct Node;
using NodePtr = std::shared_ptr<const Node>;  // aliases share nodes; the limits count them as if copied

struct Node {
  enum class Kind : uint8_t { scalar, sequence, mapping } kind = Kind::scalar;
  bool quoted = false;  // in quotes or a block scalar: text, whatever it looks like
  std::string text;     // of a scalar
  Place place;
  std::vector<NodePtr> items;                        // of a sequence
  std::vector<std::pair<NodePtr, NodePtr>> members;  // of a mapping, keys are scalars

  bool is_scalar() const { return kind == Kind::scalar; }
  bool is_sequence() const { return kind == Kind::sequence; }
  bool is_mapping() const { return kind == Kind::mapping; }
  // The value of a key, nullptr where it is not written.
  const Node* find(std::string_view key) const;
};

// Parses one document. Problems go to the report; nullptr where there is no tree. Duplicate keys are reported
// and the tree goes on, so that one run shows them all. set: the --set argument that the text belongs to, -1
// for the file.
NodePtr parse_yaml(std::string_view text, int32_t set, Report& report, const YamlLimits& limits = {});

}  // namespace rhapsode::config
