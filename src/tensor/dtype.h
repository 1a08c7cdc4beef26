// Element types as safetensors names them, with their widths and conversions to and from float.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

namespace rhapsode {

enum class Dtype : uint8_t {
  f32,
  f16,
  bf16,
  f64,
  i64,
  i32,
  i16,
  i8,
  u8,
  boolean,
  f8_e4m3,
  f8_e5m2,
  u16,
  u32,
  u64
};

// Width of one element in bytes.
uint32_t dtype_bytes(Dtype dtype);
// The safetensors spelling: "F32", "F16", "BF16", "F64", "I64", …, "BOOL", "F8_E4M3", ….
std::string_view dtype_name(Dtype dtype);
std::optional<Dtype> dtype_from_name(std::string_view name);
// The spelling of torch and of the YAML: "float32", "float16", "bfloat16", ….
std::string_view torch_name(Dtype dtype);
// Accepts float32|fp32|torch.float32 and likewise for float16 and bfloat16; nullopt for anything else ("auto"
// too).
std::optional<Dtype> dtype_from_torch_name(std::string_view name);

// bfloat16 is the upper half of a float.
inline float bf16_to_float(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

// Round to nearest, ties to even; NaN stays NaN.
inline uint16_t float_to_bf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float f16_to_float(uint16_t bits);
uint16_t float_to_f16(float x);  // round to nearest even; overflow gives infinity, as IEEE does

// x rounded to `dtype` and back: f32 is the identity. Only f32, f16 and bf16.
inline float round_to(Dtype dtype, float x) {
  switch (dtype) {
    case Dtype::bf16:
      return bf16_to_float(float_to_bf16(x));
    case Dtype::f16:
      return f16_to_float(float_to_f16(x));
    default:
      return x;
  }
}

}  // namespace rhapsode
