// What a plain scalar means. Values are typed by the YAML 1.2 core schema; where YAML 1.1 (PyYAML, which most
// pipelines use) reads the same text differently, the scalar is ambiguous and never guessed.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "config/yaml.h"

namespace rhapsode::config {

struct Scalar {
  enum class Kind : uint8_t {
    text,
    empty,  // nothing is written after the colon
    null,
    boolean,
    integer,    // decimal digits; `integer` is empty where they do not fit 64 bits
    real,       // with a point or an exponent, or .inf / .nan
    ambiguous,  // `reading` says how the two versions differ
  } kind = Kind::text;
  bool boolean = false;
  std::optional<int64_t> integer;
  double real = 0;              // of integer and real; may be infinite or NaN
  bool text_to_pyyaml = false;  // a real that PyYAML takes for text, such as 1e-3
  std::string reading;          // of ambiguous: "`no` is false to YAML 1.1 and text to YAML 1.2"
};

Scalar resolve(const Node& node);

// "the integer 3", "the text \"abc\"", "a list", …: what stands there, for messages. Long texts are cut and
// marked.
std::string describe(const Node& node);

}  // namespace rhapsode::config
