#include "tensor/dtype.h"

#include <array>

namespace rhapsode {
namespace {

struct Row {
  Dtype dtype;
  uint32_t bytes;
  std::string_view name;
  std::string_view torch;
};

constexpr std::array<Row, 15> kRows{{
    {Dtype::f32, 4, "F32", "float32"},
    {Dtype::f16, 2, "F16", "float16"},
    {Dtype::bf16, 2, "BF16", "bfloat16"},
    {Dtype::f64, 8, "F64", "float64"},
    {Dtype::i64, 8, "I64", "int64"},
    {Dtype::i32, 4, "I32", "int32"},
    {Dtype::i16, 2, "I16", "int16"},
    {Dtype::i8, 1, "I8", "int8"},
    {Dtype::u8, 1, "U8", "uint8"},
    {Dtype::boolean, 1, "BOOL", "bool"},
    {Dtype::f8_e4m3, 1, "F8_E4M3", "float8_e4m3fn"},
    {Dtype::f8_e5m2, 1, "F8_E5M2", "float8_e5m2"},
    {Dtype::u16, 2, "U16", "uint16"},
    {Dtype::u32, 4, "U32", "uint32"},
    {Dtype::u64, 8, "U64", "uint64"},
}};

const Row& row_of(Dtype dtype) {
  return kRows[static_cast<size_t>(dtype)];
}

}  // namespace

uint32_t dtype_bytes(Dtype dtype) {
  return row_of(dtype).bytes;
}
std::string_view dtype_name(Dtype dtype) {
  return row_of(dtype).name;
}
std::string_view torch_name(Dtype dtype) {
  return row_of(dtype).torch;
}

std::optional<Dtype> dtype_from_name(std::string_view name) {
  for (const Row& row : kRows)
    if (row.name == name) return row.dtype;
  return std::nullopt;
}

std::optional<Dtype> dtype_from_torch_name(std::string_view name) {
  if (name.starts_with("torch.")) name.remove_prefix(6);
  if (name == "float32" || name == "fp32" || name == "float") return Dtype::f32;
  if (name == "float16" || name == "fp16" || name == "half") return Dtype::f16;
  if (name == "bfloat16" || name == "bf16") return Dtype::bf16;
  return std::nullopt;
}

float f16_to_float(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: value = mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  if (exponent == 31) {  // a signalling NaN becomes quiet, as it does in hardware
    const uint32_t quiet = mantissa != 0 ? 0x400000u : 0u;
    return std::bit_cast<float>(sign | 0x7f800000u | quiet | (mantissa << 13));
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

uint16_t float_to_f16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  if (magnitude >= 0x477ff000u)
    return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and above round to infinity
  if (magnitude < 0x38800000u) {  // below 2^-14: a subnormal half; the float adder rounds for us
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

}  // namespace rhapsode
