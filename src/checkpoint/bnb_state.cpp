// See bnb_state.h.
#include "checkpoint/bnb_state.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <set>

#include "base/json.h"

namespace rhapsode {
namespace {

constexpr uint64_t kMaxBlock = 1 << 16;
constexpr uint64_t kMaxSide = uint64_t{1} << 31;
constexpr JsonLimits kLimits{65'536, 4};

class Reader {
 public:
  Reader(const Json& json, const std::string& file, const std::string& tensor)
      : json_(json), file_(file), tensor_(tensor) {}

  [[noreturn]] void fail(const std::string& key, const std::string& found,
                         const std::string& expected) const {
    throw Error(ErrorKind::integrity, "bad-quant-state",
                "the text beside a quantized weight says what cannot be")
        .in(file_)
        .at(tensor_ + ": /" + key)
        .saw(found)
        .want(expected)
        .hint("the checkpoint is damaged: fetch it again");
  }

  const Json& need(const std::string& key) const {
    if (!json_.contains(key)) fail(key, "no such key", "a value");
    return json_.at(key);
  }
  std::string text(const std::string& key) const {
    const Json& value = need(key);
    if (!value.is_string()) fail(key, value.type_name(), "a string");
    return value.get<std::string>();
  }
  uint64_t count(const std::string& key, const Json& value, uint64_t high) const {
    const std::string expected = fmt::format("an integer from 1 to {}", high);
    if (!value.is_number_unsigned()) fail(key, excerpt(value.dump()), expected);
    const uint64_t n = value.get<uint64_t>();
    if (n < 1 || n > high) fail(key, fmt::format("{}", n), expected);
    return n;
  }
  Dtype dtype(const std::string& key) const {
    const std::string name = text(key);
    for (const Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16})
      if (torch_name(dtype) == name) return dtype;
    fail(key, excerpt(name), "float32, float16 or bfloat16");
  }

 private:
  const Json& json_;
  const std::string& file_;
  const std::string& tensor_;
};

void check_keys(const Json& json, const Reader& reader) {
  static const std::set<std::string> kKeys{"quant_type",       "blocksize",    "dtype",        "shape",
                                           "nested_blocksize", "nested_dtype", "nested_offset"};
  for (const auto& [key, value] : json.items())
    if (!kKeys.contains(key)) reader.fail(excerpt(key), "an unknown key", "none but those of a quant state");
}

BnbNestedState read_nested(const Reader& reader) {
  BnbNestedState nested;
  nested.blocksize = reader.count("nested_blocksize", reader.need("nested_blocksize"), kMaxBlock);
  if (reader.dtype("nested_dtype") != Dtype::f32)
    reader.fail("nested_dtype", reader.text("nested_dtype"), "float32");
  const Json& offset = reader.need("nested_offset");
  if (!offset.is_number()) reader.fail("nested_offset", offset.type_name(), "a number");
  nested.offset = static_cast<float>(offset.get<double>());
  if (!std::isfinite(nested.offset)) reader.fail("nested_offset", "out of range", "a float32");
  return nested;
}

// A double as Python's repr and json.dumps print it: the shortest text that reads back, an exponent where it
// is below -4 or above 15.
std::string python_float(double x) {
  for (int digits = 0; digits < 17; ++digits) {
    const std::string text = fmt::format("{:.{}e}", x, digits);
    if (std::strtod(text.c_str(), nullptr) != x) continue;
    const int exponent = std::atoi(text.c_str() + text.find('e') + 1);
    if (exponent < -4 || exponent >= 16)
      return fmt::format("{}e{}{:02}", text.substr(0, text.find('e')), exponent < 0 ? '-' : '+',
                         std::abs(exponent));
    const std::string plain = fmt::format("{:.{}f}", x, std::max(digits - exponent, 0));
    return plain.find('.') == std::string::npos ? plain + ".0" : plain;
  }
  return fmt::format("{}", x);
}

}  // namespace

BnbState parse_bnb_state(std::string_view text, const std::string& file, const std::string& tensor) {
  const Json json = parse_json(text, file + ": " + tensor, ErrorKind::integrity, kLimits);
  const Reader reader(json, file, tensor);
  if (!json.is_object()) reader.fail("", json.type_name(), "an object");
  check_keys(json, reader);
  BnbState state;
  state.quant_type = reader.text("quant_type");
  if (state.quant_type != "nf4" && state.quant_type != "fp4")
    reader.fail("quant_type", excerpt(state.quant_type), "nf4 or fp4");
  state.blocksize = reader.count("blocksize", reader.need("blocksize"), kMaxBlock);
  state.dtype = reader.dtype("dtype");
  const Json& shape = reader.need("shape");
  if (!shape.is_array() || shape.size() != 2) reader.fail("shape", excerpt(shape.dump()), "[rows, cols]");
  for (const Json& side : shape) state.shape.push_back(reader.count("shape", side, kMaxSide));
  if (json.contains("nested_blocksize") || json.contains("nested_dtype") || json.contains("nested_offset"))
    state.nested = read_nested(reader);
  return state;
}

std::string bnb_state_text(const BnbState& state) {
  std::string text = fmt::format(R"({{"quant_type": "{}", "blocksize": {}, "dtype": "{}", "shape": [{}, {}])",
                                 state.quant_type, state.blocksize, torch_name(state.dtype),
                                 state.shape.at(0), state.shape.at(1));
  if (state.nested)
    text += fmt::format(R"(, "nested_blocksize": {}, "nested_dtype": "float32", "nested_offset": {})",
                        state.nested->blocksize, python_float(static_cast<double>(state.nested->offset)));
  return text + "}";
}

}  // namespace rhapsode
