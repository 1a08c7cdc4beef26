// FNV-1a of a tensor's bytes, as tools/golden writes it: in floating-point tensors -0 and 0 are one.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>

#include "tensor/dtype.h"

namespace rhapsode::testing {

class TensorHash {
 public:
  void add(std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) hash_ = (hash_ ^ std::to_integer<uint64_t>(byte)) * 1099511628211ull;
  }
  void add(std::span<const float> values) {
    for (const float value : values) {
      const float plain = value == 0.0f ? 0.0f : value;
      add(std::as_bytes(std::span(&plain, 1)));
    }
  }
  std::string text() const {
    char out[17];
    std::snprintf(out, sizeof out, "%016llx", static_cast<unsigned long long>(hash_));
    return out;
  }

 private:
  uint64_t hash_ = 14695981039346656037ull;
};

// Of stored bytes: elements that are minus zero count as zero.
inline std::string tensor_hash(Dtype dtype, std::span<std::byte> bytes) {
  const size_t width = dtype_bytes(dtype);
  const bool floating =
      dtype == Dtype::f32 || dtype == Dtype::f16 || dtype == Dtype::bf16 || dtype == Dtype::f64;
  for (size_t at = 0; floating && at + width <= bytes.size(); at += width) {
    bool zero = bytes[at + width - 1] == std::byte{0x80};
    for (size_t i = 0; i + 1 < width; ++i) zero = zero && bytes[at + i] == std::byte{0};
    if (zero) bytes[at + width - 1] = std::byte{0};
  }
  TensorHash hash;
  hash.add(bytes);
  return hash.text();
}

}  // namespace rhapsode::testing
