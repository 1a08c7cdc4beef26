// Quantized products of the reference set: exact integer sums, then the float steps that kernels.h names.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "kernels/reference.h"
#include "quant/formats.h"

namespace rhapsode::kernels::reference {
namespace {

using quant::kBlockCols;

// By their bits: NaN is larger than infinity, and that than all else.
float larger_magnitude(float a, float b) {
  const uint32_t bits = std::bit_cast<uint32_t>(b) & 0x7fffffffu;
  return std::bit_cast<float>(std::max(std::bit_cast<uint32_t>(a), bits));
}

template <class T>
T read(const void* from, uint64_t index) {
  T value;
  std::memcpy(&value, static_cast<const std::byte*>(from) + index * sizeof(T), sizeof value);
  return value;
}

int32_t int8_code(const void* panel, uint32_t row, uint64_t k) {
  return read<int8_t>(panel, quant::kInt8HeaderBytes + (k / 4 * kPanelRows + row) * 4 + k % 4);
}

float int8_result(int32_t sum, float scale, float scb) {
  return static_cast<float>(sum) * (scale * scb) * kInt8Step;
}

}  // namespace

uint8_t four_bit_index(Format format, const void* panel, uint64_t cols, uint32_t row, uint64_t k) {
  const uint64_t block = k / kBlockCols, j = k % kBlockCols / 8, i = k % 8;
  const uint64_t start = quant::is_nested(format)
                             ? quant::nested_header_bytes(cols) + block * quant::kBlockCodeBytes
                             : block * quant::kBlockBytes + kPanelRows * 4;
  const auto byte = read<uint8_t>(panel, start + ((row / 16 * 8 + j) * 16 + row % 16) * 4 + i % 4);
  return i < 4 ? byte & 15 : byte >> 4;
}

float scale_of(Format format, const void* panel, uint64_t cols, uint32_t row, uint64_t block) {
  return quant::block_scale(format, static_cast<const std::byte*>(panel), cols, row, block);
}

void quantize_int8(const float* x, uint64_t n, float threshold, int8_t* codes, float* scale) {
  const auto kept = [=](uint64_t k) {
    const float value = round_to(Dtype::f16, x[k]);
    return std::fabs(value) >= threshold ? 0.0f : value;
  };
  *scale = 0.0f;
  for (uint64_t k = 0; k < n; ++k) *scale = larger_magnitude(*scale, kept(k));
  std::memset(codes, 0, (n + 3) / 4 * 4);
  if (*scale == 0.0f || !std::isfinite(*scale)) return;
  const float factor = (1.0f / *scale) * 127.0f;
  for (uint64_t k = 0; k < n; ++k) codes[k] = static_cast<int8_t>(std::nearbyint(kept(k) * factor));
}

void quantize_blocks(Format format, const float* x, uint64_t blocks, uint8_t* codes, float* absmax) {
  const quant::FourBitCode& code = quant::four_bit_code(format);
  for (uint64_t b = 0; b < blocks; ++b, x += kBlockCols, codes += kBlockCols) {
    absmax[b] = 0.0f;
    for (uint64_t k = 0; k < kBlockCols; ++k) absmax[b] = larger_magnitude(absmax[b], x[k]);
    const bool finite = std::isfinite(absmax[b]);
    const float inverse = finite ? 1.0f / std::max(absmax[b], 1e-38f) : 0.0f;
    for (uint64_t k = 0; k < kBlockCols; ++k) {
      const float y = x[k] * inverse;
      codes[k] = finite ? code.order[std::count_if(code.bounds, code.bounds + 15,
                                                   [y](float bound) { return bound < y; })]
                        : uint8_t{0};
    }
  }
}

void quantize_fixed(Format format, const float* x, uint64_t n, int16_t* codes, float* scales) {
  const quant::FourBitCode& code = quant::four_bit_code(format);
  const auto act_max = static_cast<float>(code.act_max);
  for (uint64_t k = 0; k < n; k += kBlockCols) {
    float largest = 0.0f;
    for (uint64_t i = k; i < k + kBlockCols; ++i) largest = larger_magnitude(largest, x[i]);
    const bool finite = std::isfinite(largest), tiny = largest < 1e-30f;
    const float factor = finite && !tiny ? act_max / largest : 0.0f;
    for (uint64_t i = k; i < k + kBlockCols; ++i)
      codes[i] = finite ? static_cast<int16_t>(std::nearbyint(x[i] * factor)) : int16_t{0};
    const float step = tiny ? 0.0f : largest / (act_max * static_cast<float>(code.fixed_max));
    scales[k / kBlockCols] = finite ? step : std::numeric_limits<float>::quiet_NaN();
  }
}

void quantize_bytes(Format format, const float* x, uint64_t n, int8_t* codes, Kernels::ByteBlock* blocks) {
  const auto act_max = static_cast<float>(quant::kByteActMax);
  const auto byte_max = static_cast<float>(quant::four_bit_code(format).byte_max);
  for (uint64_t k = 0; k < n; k += kBlockCols) {
    float largest = 0.0f;
    for (uint64_t i = k; i < k + kBlockCols; ++i) largest = larger_magnitude(largest, x[i]);
    const bool finite = std::isfinite(largest), usable = finite && largest >= 1e-30f;
    const float factor = usable ? act_max / largest : 0.0f;
    int32_t sum = 0;
    for (uint64_t i = k; i < k + kBlockCols; ++i) {
      codes[i] = usable ? static_cast<int8_t>(std::nearbyint(x[i] * factor)) : int8_t{0};
      sum += codes[i];
    }
    const float unusable = finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
    blocks[k / kBlockCols] = {usable ? largest / (act_max * byte_max) : unusable, -quant::kByteZero * sum};
  }
}

void gemv_int8(const void* panel_a, const void* panel_b, const void* codes, const float* scales,
               uint64_t cols, float* y_a, float* y_b) {
  for (uint32_t row = 0; row < kPanelRows; ++row) {
    int32_t sum = 0;
    for (uint64_t k = 0; k < cols; ++k) sum += int8_code(panel_a, row, k) * read<int8_t>(codes, k);
    y_a[row] = int8_result(sum, *scales, read<float>(panel_a, row));
  }
  if (panel_b != nullptr) gemv_int8(panel_b, nullptr, codes, scales, cols, y_b, nullptr);
}

void dot_digits(const void* panel, const int8_t* high, const int8_t* low, uint64_t cols, float* y) {
  for (uint32_t row = 0; row < kPanelRows; ++row) {
    int32_t sum_high = 0, sum_low = 0;
    for (uint64_t k = 0; k < cols; ++k) {
      sum_high += int8_code(panel, row, k) * high[k];
      sum_low += int8_code(panel, row, k) * low[k];
    }
    const float scaled = static_cast<float>(sum_high) * static_cast<float>(kDigitBase);
    y[row] = scaled + static_cast<float>(sum_low);
  }
}

template <Format F>
void gemv_fixed(const void* panel_a, const void* panel_b, const void* codes, const float* scales,
                uint64_t cols, float* y_a, float* y_b) {
  const quant::FourBitCode& code = quant::four_bit_code(F);
  for (uint32_t row = 0; row < kPanelRows; ++row) {
    float y = 0.0f;
    for (uint64_t block = 0; block < cols / kBlockCols; ++block) {
      int32_t sum = 0;
      for (uint64_t k = block * kBlockCols; k < (block + 1) * kBlockCols; ++k)
        sum += code.fixed[four_bit_index(F, panel_a, cols, row, k)] * read<int16_t>(codes, k);
      y = std::fma(static_cast<float>(sum), scale_of(F, panel_a, cols, row, block) * scales[block], y);
    }
    y_a[row] = y;
  }
  if (panel_b != nullptr) gemv_fixed<F>(panel_b, nullptr, codes, scales, cols, y_b, nullptr);
}

template <Format F>
void few_fixed(const void* panel, const Kernels::FewCodes& tokens, uint64_t cols, float* y,
               uint64_t y_stride) {
  for (uint32_t t = 0; t < tokens.tokens; ++t)
    gemv_fixed<F>(panel, nullptr, tokens.codes + t * tokens.stride, tokens.scales + t * tokens.scales_stride,
                  cols, y + t * y_stride, nullptr);
}

template <Format F>
void gemv_bytes(const void* panel_a, const void* panel_b, const int8_t* codes,
                const Kernels::ByteBlock* blocks, uint64_t cols, float* y_a, float* y_b) {
  const quant::FourBitCode& code = quant::four_bit_code(F);
  for (uint32_t row = 0; row < kPanelRows; ++row) {
    float y = 0.0f;
    for (uint64_t block = 0; block < cols / kBlockCols; ++block) {
      int32_t sum = blocks[block].offset;
      for (uint64_t k = block * kBlockCols; k < (block + 1) * kBlockCols; ++k)
        sum += code.bytes[four_bit_index(F, panel_a, cols, row, k)] * codes[k];
      y = std::fma(static_cast<float>(sum), scale_of(F, panel_a, cols, row, block) * blocks[block].scale, y);
    }
    y_a[row] = y;
  }
  if (panel_b != nullptr) gemv_bytes<F>(panel_b, nullptr, codes, blocks, cols, y_b, nullptr);
}

template <Format F>
void few_bytes(const void* panel, const Kernels::FewBytes& tokens, uint64_t cols, float* y,
               uint64_t y_stride) {
  for (uint32_t t = 0; t < tokens.tokens; ++t)
    gemv_bytes<F>(panel, nullptr, tokens.codes + t * tokens.stride, tokens.blocks + t * tokens.blocks_stride,
                  cols, y + t * y_stride, nullptr);
}

template <Format F>
void expand_bytes(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count, uint8_t* out,
                  float* absmax) {
  const quant::FourBitCode& code = quant::four_bit_code(F);
  for (uint64_t k = 0; k < k_count; ++k)
    for (uint32_t row = 0; row < kPanelRows; ++row)
      out[(k / 4 * kPanelRows + row) * 4 + k % 4] =
          code.bytes[four_bit_index(F, panel, cols, row, k_begin + k)];
  for (uint64_t block = 0; block < k_count / kBlockCols; ++block)
    for (uint32_t row = 0; row < kPanelRows; ++row)
      absmax[block * kPanelRows + row] = scale_of(F, panel, cols, row, k_begin / kBlockCols + block);
}

void tile_bytes(const Kernels::ByteTile& tile, float* c, uint64_t c_stride, bool first) {
  constexpr uint64_t kQuads = kBlockCols / 4;
  for (uint64_t block = 0; block < tile.blocks; ++block) {
    for (uint32_t t = 0; t < tile.tokens; ++t) {
      const Kernels::ByteBlock& of_token = tile.of_tokens[block * kGemmTokens + t];
      for (uint32_t row = 0; row < kPanelRows; ++row) {
        int32_t sum = of_token.offset;
        for (uint64_t q = block * kQuads; q < (block + 1) * kQuads; ++q)
          for (uint32_t i = 0; i < 4; ++i)
            sum += tile.b[(q * kPanelRows + row) * 4 + i] * tile.a[(q * kGemmTokens + t) * 4 + i];
        float& y = c[t * c_stride + row];
        const float scale = tile.absmax[block * kPanelRows + row] * of_token.scale;
        y = std::fma(static_cast<float>(sum), scale, first && block == 0 ? 0.0f : y);
      }
    }
  }
}

void expand_int8_bytes(const void* panel, uint64_t, uint64_t k_begin, uint64_t k_count, uint8_t* out,
                       float*) {
  for (uint64_t k = 0; k < k_count; ++k)
    for (uint32_t row = 0; row < kPanelRows; ++row)
      out[(k / 4 * kPanelRows + row) * 4 + k % 4] =
          static_cast<uint8_t>(int8_code(panel, row, k_begin + k) + 128);
}

template <Format F>
void expand_fixed_codes(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count, int16_t* out,
                        float* absmax) {
  const quant::FourBitCode& code = quant::four_bit_code(F);
  for (uint64_t k = 0; k < k_count; ++k)
    for (uint32_t row = 0; row < kPanelRows; ++row)
      out[(k / 2 * kPanelRows + row) * 2 + k % 2] =
          code.fixed[four_bit_index(F, panel, cols, row, k_begin + k)];
  for (uint64_t block = 0; block < k_count / kBlockCols; ++block)
    for (uint32_t row = 0; row < kPanelRows; ++row)
      absmax[block * kPanelRows + row] = scale_of(F, panel, cols, row, k_begin / kBlockCols + block);
}

uint32_t take_heavy(int8_t* codes, uint64_t n, uint32_t* heavy, int32_t* sum) {
  uint32_t count = 0;
  *sum = 0;
  for (uint64_t k = 0; k < n; k += 2) {
    if (std::abs(codes[k] + codes[k + 1]) > 128) {
      heavy[count++] = static_cast<uint32_t>(k + 1) * 256 + static_cast<uint8_t>(codes[k + 1]);
      codes[k + 1] = 0;
    }
    *sum += codes[k] + codes[k + 1];
  }
  return count;
}

void tile_quads(const uint8_t* b, const int8_t* a, uint32_t tokens, uint64_t quads, float* c,
                uint64_t c_stride, bool first) {
  for (uint32_t t = 0; t < tokens; ++t) {
    for (uint32_t row = 0; row < kPanelRows; ++row) {
      float& out = c[t * c_stride + row];
      uint32_t sum = first ? 0 : std::bit_cast<uint32_t>(out);  // may wrap until add_heavy
      for (uint64_t q = 0; q < quads; ++q)
        for (uint32_t i = 0; i < 4; ++i)
          sum += static_cast<uint32_t>(b[(q * kPanelRows + row) * 4 + i] * a[(q * kGemmTokens + t) * 4 + i]);
      out = std::bit_cast<float>(sum);
    }
  }
}

void tile_int8(const void* panel, uint64_t k_begin, const uint8_t* a, uint32_t tokens, uint64_t k_count,
               float* c, uint64_t c_stride) {
  for (uint32_t t = 0; t < tokens; ++t) {
    for (uint32_t row = 0; row < kPanelRows; ++row) {
      float& out = c[t * c_stride + row];
      int32_t sum = k_begin == 0 ? 0 : std::bit_cast<int32_t>(out);
      for (uint64_t k = 0; k < k_count; ++k)
        sum += int8_code(panel, row, k_begin + k) * (a[(k / 4 * kGemmTokens + t) * 4 + k % 4] - 128);
      out = std::bit_cast<float>(sum);
    }
  }
}

void add_heavy(const void* panel, const uint32_t* heavy, uint32_t count, int32_t sum, float* c) {
  for (uint32_t row = 0; row < kPanelRows; ++row) {
    uint32_t out = std::bit_cast<uint32_t>(c[row]) - 128 * static_cast<uint32_t>(sum);
    for (uint32_t i = 0; i < count; ++i)
      out += static_cast<uint32_t>(int8_code(panel, row, heavy[i] / 256) * static_cast<int8_t>(heavy[i]));
    c[row] = std::bit_cast<float>(out);
  }
}

void tile_fixed(const Kernels::FixedTile& tile, float* c, uint64_t c_stride, bool first) {
  constexpr uint64_t kPairs = kBlockCols / 2;
  for (uint64_t block = 0; block < tile.blocks; ++block) {
    for (uint32_t t = 0; t < tile.tokens; ++t) {
      for (uint32_t row = 0; row < kPanelRows; ++row) {
        int32_t sum = 0;
        for (uint64_t p = block * kPairs; p < (block + 1) * kPairs; ++p)
          for (uint32_t i = 0; i < 2; ++i)
            sum += tile.b[(p * kPanelRows + row) * 2 + i] * tile.a[(p * kGemmTokens + t) * 2 + i];
        float& y = c[t * c_stride + row];
        const float scale = tile.absmax[block * kPanelRows + row] * tile.scales[block * kGemmTokens + t];
        y = std::fma(static_cast<float>(sum), scale, first && block == 0 ? 0.0f : y);
      }
    }
  }
}

void mark_outliers(const float* x, uint64_t n, float threshold, uint32_t* marks) {
  std::memset(marks, 0, (n + 31) / 32 * sizeof *marks);
  for (uint64_t k = 0; k < n; ++k)
    if (std::fabs(round_to(Dtype::f16, x[k])) >= threshold) marks[k / 32] |= 1u << k % 32;
}

void expand_int8_columns(Dtype D, const void* panel, const uint32_t* columns, uint64_t count, float* out) {
  for (uint64_t i = 0; i < count; ++i) {
    for (uint32_t row = 0; row < kPanelRows; ++row) {
      const auto code = static_cast<float>(int8_code(panel, row, columns[i]));
      out[i * kPanelRows + row] = round_to(D, code * read<float>(panel, row) * kInt8Inverse);
    }
  }
}

void tile_columns(const Kernels::ColumnTile& tile, float* c, uint64_t c_stride, bool first) {
  for (uint32_t t = 0; t < tile.tokens; ++t) {
    for (uint32_t row = 0; row < kPanelRows; ++row) {
      float sum = first ? 0.0f : c[t * c_stride + row];
      for (uint64_t i = 0; i < tile.count; ++i)
        sum = std::fma(tile.x[t * tile.x_stride + tile.columns[i]], tile.b[i * kPanelRows + row], sum);
      c[t * c_stride + row] = sum;
    }
  }
}

void finish_int8(const float* scb, float scale, float* c) {
  for (uint32_t row = 0; row < kPanelRows; ++row)
    c[row] = int8_result(std::bit_cast<int32_t>(c[row]), scale, scb[row]);
}

#define RHAPSODE_FOUR_BIT(F)                                                                                \
  template void gemv_fixed<F>(const void*, const void*, const void*, const float*, uint64_t, float*,        \
                              float*);                                                                      \
  template void expand_fixed_codes<F>(const void*, uint64_t, uint64_t, uint64_t, int16_t*, float*);         \
  template void few_fixed<F>(const void*, const Kernels::FewCodes&, uint64_t, float*, uint64_t);            \
  template void gemv_bytes<F>(const void*, const void*, const int8_t*, const Kernels::ByteBlock*, uint64_t, \
                              float*, float*);                                                              \
  template void few_bytes<F>(const void*, const Kernels::FewBytes&, uint64_t, float*, uint64_t);            \
  template void expand_bytes<F>(const void*, uint64_t, uint64_t, uint64_t, uint8_t*, float*);
RHAPSODE_FOUR_BIT(Format::nf4)
RHAPSODE_FOUR_BIT(Format::nf4_nested)
RHAPSODE_FOUR_BIT(Format::fp4)
RHAPSODE_FOUR_BIT(Format::fp4_nested)
#undef RHAPSODE_FOUR_BIT

}  // namespace rhapsode::kernels::reference
