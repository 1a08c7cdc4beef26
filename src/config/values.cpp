// Scalars and lists of scalars; devices and sizes are in device_values.cpp.
#include "config/values.h"

#include <fmt/format.h>

#include <cmath>

#include "config/nearest.h"

namespace rhapsode::config {
namespace {

std::string list_text(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, ", "));
}

}  // namespace

bool ValueReader::fail(const char* code, const Node& node, std::string message, std::string expected,
                       std::string fix) const {
  Finding& f = report_.error(code, node.place, path_, std::move(message));
  f.found = describe(node);
  f.expected = std::move(expected);
  f.fix = std::move(fix);
  return false;
}

bool ValueReader::wrong_type(const Node& node, const std::string& expected, const std::string& fix) const {
  const Scalar scalar = resolve(node);
  if (node.is_scalar() && scalar.kind == Scalar::Kind::empty)
    return fail("empty-value", node, fmt::format("`{}` has no value", key_.name), expected,
                "write a value, or remove the key");
  if (node.is_scalar() && scalar.kind == Scalar::Kind::ambiguous) {
    fail("yaml-ambiguous", node, scalar.reading, expected, fix);
    return false;
  }
  return fail("wrong-type", node, fmt::format("`{}` must be {}", key_.name, expected), expected, fix);
}

bool ValueReader::unknown_word(const Node& node, const std::string& fix) const {
  const std::vector<std::string> words = words_of(key_.choices);
  const std::string near = nearest(node.text, words);
  return fail("unknown-value", node, fmt::format("`{}` has no such value", key_.name),
              "one of: " + list_text(words), near.empty() ? fix : fmt::format("did you mean \"{}\"?", near));
}

bool ValueReader::read(const Node& node, bool& out) const {
  const Scalar scalar = resolve(node);
  if (scalar.kind != Scalar::Kind::boolean)
    return wrong_type(node, "true or false", "write true or false, without quotes");
  out = scalar.boolean;
  return true;
}

bool ValueReader::whole(const Node& node, int64_t& out, const Range& range) const {
  const Scalar scalar = resolve(node);
  const bool integral = scalar.kind == Scalar::Kind::real && std::abs(scalar.real) < 1e15 &&
                        scalar.real == std::floor(scalar.real);
  if (scalar.kind != Scalar::Kind::integer)
    return wrong_type(
        node, "a whole number",
        integral ? fmt::format("write {:.0f}", scalar.real) : "write decimal digits only, without quotes");
  if (!scalar.integer || !range.holds(static_cast<double>(*scalar.integer)))
    return fail("out-of-range", node, fmt::format("`{}` must be {}", key_.name, range.to_text()),
                range.to_text(), "");
  out = *scalar.integer;
  return true;
}

bool ValueReader::read(const Node& node, int64_t& out) const {
  return whole(node, out, key_.range);
}

bool ValueReader::number(const Node& node, double& out) const {
  const Scalar scalar = resolve(node);
  if (scalar.kind != Scalar::Kind::integer && scalar.kind != Scalar::Kind::real)
    return wrong_type(node, "a number", "write a decimal number, without quotes");
  const bool vanished =
      scalar.real == 0 && node.text.find_first_of("123456789") < node.text.find_first_of("eE");
  if (!std::isfinite(scalar.real) || vanished)
    return fail("out-of-range", node, fmt::format("`{}` must be a finite number", key_.name),
                "a number that fits a double", "");
  if (scalar.text_to_pyyaml) {
    Finding& f = report_.add(Severity::note, "float-spelling", node.place, path_,
                             fmt::format("PyYAML reads `{}` as text, here it is the number", node.text));
    f.found = node.text;
    f.why = "YAML 1.1 wants digits, a point and a signed exponent";
    f.fix = "write it with a point (0.001) so that every reader agrees";
  }
  out = scalar.real;
  return true;
}

bool ValueReader::read(const Node& node, double& out) const {
  if (!number(node, out)) return false;
  if (!key_.range.holds(out))
    return fail("out-of-range", node, fmt::format("`{}` must be {}", key_.name, key_.range.to_text()),
                key_.range.to_text(), "");
  return true;
}

bool ValueReader::text(const Node& node, std::string& out) const {
  if (!node.is_scalar() || resolve(node).kind != Scalar::Kind::text)
    return wrong_type(node, "text", node.is_scalar() ? "put it in quotes" : "write one text");
  out = node.text;
  return true;
}

bool ValueReader::read(const Node& node, std::string& out) const {
  if (!text(node, out)) return false;
  if (!key_.choices.empty()) {
    for (const std::string& word : words_of(key_.choices))
      if (word == out) return true;
    return unknown_word(node, "");
  }
  if (out.empty() && key_.required)
    return fail("out-of-range", node, fmt::format("`{}` is empty", key_.name), "a text that is not empty",
                "");
  return true;
}

bool ValueReader::read(const Node& node, Dtype& out) const {
  std::string word;
  if (!read(node, word)) return false;
  const auto dtype = dtype_from_torch_name(word);
  if (!dtype) return unknown_word(node, "");  // "auto" never comes here: it is the absence of a choice
  out = *dtype;
  return true;
}

bool ValueReader::read(const Node& node, Quantization& out) const {
  const Scalar scalar = resolve(node);
  const std::string fix = "write \"8bit\", \"4bit\" or null";
  if (scalar.kind == Scalar::Kind::null) return out = Quantization::none, true;
  if (!node.is_scalar() || scalar.kind != Scalar::Kind::text)
    return wrong_type(node, "\"8bit\", \"4bit\" or null", fix);
  if (node.text == "8bit") return out = Quantization::int8, true;
  if (node.text == "4bit") return out = Quantization::nf4, true;
  if (node.text == "none" || node.text == "None") return unknown_word(node, "write null for no quantization");
  return unknown_word(node, fix);
}

bool ValueReader::read(const Node& node, EarlyStopping& out) const {
  const Scalar scalar = resolve(node);
  const char* expected = "true, false or \"never\"";
  if (scalar.kind == Scalar::Kind::boolean)
    return out = scalar.boolean ? EarlyStopping::yes : EarlyStopping::no, true;
  if (!node.is_scalar() || scalar.kind != Scalar::Kind::text)
    return wrong_type(node, expected, "write true, false or \"never\"");
  if (node.text == "never") return out = EarlyStopping::never, true;
  return fail("unknown-value", node, "`early_stopping` has no such value", expected,
              node.text == "true" || node.text == "false" ? "remove the quotes" : "");
}

template <typename T>
bool ValueReader::list(const Node& node, std::vector<T>& out, const char* items) const {
  if (node.is_scalar() && key_.one_or_list) {
    T one{};
    if (!read(node, one)) return false;
    out.push_back(std::move(one));
    return true;
  }
  if (!node.is_sequence()) return wrong_type(node, items, "write a list: [a, b]");
  if (node.items.empty())
    return fail("out-of-range", node, fmt::format("`{}` is an empty list", key_.name), items,
                "remove the key instead");
  bool ok = true;
  for (const NodePtr& item : node.items) {
    T one{};
    const bool good = read(*item, one);
    ok = ok && good;
    out.push_back(std::move(one));
  }
  return ok;
}

bool ValueReader::read(const Node& node, Ids& out) const {
  return list(node, out, key_.one_or_list ? "a token id or a list of token ids" : "a list of token ids");
}

bool ValueReader::read(const Node& node, Texts& out) const {
  if (!list(node, out, "a text or a list of texts")) return false;
  for (size_t i = 0; i < out.size(); ++i)
    if (out[i].empty())
      return fail("out-of-range", node.is_sequence() ? *node.items[i] : node,
                  fmt::format("`{}` holds an empty text", key_.name), "texts that are not empty", "");
  return true;
}

bool ValueReader::read(const Node& node, IdLists& out) const {
  return list(node, out, "a list of lists of token ids");
}

bool ValueReader::read(const Node& node, SequenceBias& out) const {
  const char* expected = "a list of [[token ids], bias]";
  if (!node.is_sequence() || node.items.empty()) return wrong_type(node, expected, "write [[[5, 6], -2.0]]");
  bool ok = true;
  for (const NodePtr& item : node.items) {
    if (!item->is_sequence() || item->items.size() != 2) {
      ok = wrong_type(*item, "[[token ids], bias]", "write [[5, 6], -2.0]");
      continue;
    }
    std::pair<Ids, double> bias;
    const bool ids = read(*item->items[0], bias.first);
    const bool amount = number(*item->items[1], bias.second);
    ok = ok && ids && amount;
    out.push_back(std::move(bias));
  }
  return ok;
}

bool ValueReader::read(const Node& node, LengthDecay& out) const {
  if (!node.is_sequence() || node.items.size() != 2)
    return wrong_type(node, "[start, factor]", "write [100, 1.05]");
  const bool start = whole(*node.items[0], out.first, {.min = 0, .max = 2147483647});
  const bool factor = number(*node.items[1], out.second);
  return start && factor;
}

}  // namespace rhapsode::config
