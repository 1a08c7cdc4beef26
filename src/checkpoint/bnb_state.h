// The small text beside each 4-bit weight of a bitsandbytes checkpoint: a JSON object in a tensor of bytes
// that says how the weight was made. Knows its keys, no weights.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"

namespace rhapsode {

struct BnbNestedState {
  uint64_t blocksize = 0;
  float offset = 0.0f;
};

struct BnbState {
  std::string quant_type;  // nf4 or fp4
  uint64_t blocksize = 0;
  Dtype dtype = Dtype::f32;     // of the weight before it was quantized
  std::vector<uint64_t> shape;  // of the weight: [rows, cols]
  std::optional<BnbNestedState> nested;
};

// The fuzz target of this format. Anything but exactly these keys with sensible values is Error(integrity)
// that names `file`, `tensor` and the key.
BnbState parse_bnb_state(std::string_view text, const std::string& file, const std::string& tensor);

// The text as bitsandbytes writes it.
std::string bnb_state_text(const BnbState& state);

}  // namespace rhapsode
