// Ternary weights as BitNet checkpoints have them: the canonical packed bytes, the rounding of full weights
// to
// {-1, 0, 1}, and the int8 rounding of activations. Knows no panels and no kernels.
//
// Canonical bytes of a matrix [rows][cols], rows a multiple of 4: uint8 [rows / 4][cols]. Byte (p, k) holds
// four rows, one a quarter of the matrix: row p + j * rows / 4 in bits 2j and 2j + 1, as value + 1. The field
// 3 has no meaning.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace rhapsode::quant {

constexpr uint32_t kTernaryRowsPerByte = 4;

// Values of one row: `packed` is the whole tensor or a run of its rows that begins at packed row `first`.
struct TernaryRows {
  std::span<const std::byte> packed;
  uint64_t first = 0;
  uint64_t packed_rows = 0;  // of the whole tensor
  uint64_t cols = 0;
};

// Row `row` of the matrix as -1, 0, 1. False where a field holds no value; out is then unspecified.
bool unpack_ternary_row(const TernaryRows& tensor, uint64_t row, std::span<int8_t> out);

// The way back: values [rows][cols] to [rows / 4][cols] bytes.
void pack_ternary(std::span<const int8_t> values, uint64_t rows, uint64_t cols, std::span<std::byte> out);

// The factor by which full weights are multiplied before they are rounded: 1 / max(mean(|w|), 1e-5) in fp32,
// for a matrix of `count` weights whose magnitudes add up to `sum`.
float ternary_factor(double sum, uint64_t count);
// clamp(round half even(w * factor), -1, 1)
int8_t ternary_value(float w, float factor);

// The factor of a token's activations whose largest magnitude is `largest`: 127 / max(largest, 1e-5),
// computed as reciprocal times 127, both rounded.
float activation_factor(float largest);
// clamp(round half even(x * factor), -128, 127)
int8_t activation_value(float x, float factor);

}  // namespace rhapsode::quant
