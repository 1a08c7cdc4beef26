// Packing and unpacking of panels: the written meaning of each layout, in portable code.
// Knows no kernels and no checkpoints: bytes in, bytes out.
#include "quant/formats.h"

#include <cassert>
#include <cmath>
#include <cstring>
#include <string>

#include "base/checked.h"
#include "base/error.h"
#include "quant/quantized_panels.h"

namespace rhapsode::quant {
namespace {

// A bf16 panel keeps pairs of adjacent columns, so the copy is one of dwords; this many columns keep a block
// in L1.
constexpr uint64_t kTransposeCols = 32;

Error too_large(uint64_t rows, uint64_t cols) {
  return Error(ErrorKind::integrity, "size-overflow", "the packed size of a matrix does not fit in 64 bits")
      .saw(std::to_string(rows) + " x " + std::to_string(cols));
}

template <class T>
T read(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// The float nearest to x with its lowest bit set when inexact ("round to odd"): a second rounding to a
// narrower type then gives what one rounding of x would have given.
float narrow_to_odd(double x) {
  float y = static_cast<float>(x);
  if (static_cast<double>(y) == x || std::isnan(y)) return y;
  if (std::fabs(static_cast<double>(y)) > std::fabs(x)) y = std::nextafterf(y, 0.0f);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(y) | 1u);
}

uint16_t to_half(Format format, float x) {
  return format == Format::bf16 ? float_to_bf16(x) : float_to_f16(x);
}

// One source element as a float that rounds to `format` as the element itself would.
float source_value(Format format, Dtype source, const std::byte* from) {
  switch (source) {
    case Dtype::f16:
      return f16_to_float(read<uint16_t>(from));
    case Dtype::bf16:
      return bf16_to_float(read<uint16_t>(from));
    case Dtype::f64:
      return format == Format::f32 ? static_cast<float>(read<double>(from))
                                   : narrow_to_odd(read<double>(from));
    default:
      return read<float>(from);
  }
}

// Index of element (row, k) in a panel, in elements of the format.
uint64_t element_index(Format format, uint32_t row, uint64_t k) {
  if (format == Format::bf16) return (k / 2 * kPanelRows + row) * 2 + k % 2;
  return k * kPanelRows + row;
}

// Same type on both sides: a transposition of T, where T is one column (f32, f16) or a pair of columns
// (bf16).
template <class T>
void transpose(const std::byte* rows, uint64_t row_bytes, uint32_t row_count, uint64_t units,
               std::byte* panel) {
  constexpr uint64_t kBlock = kTransposeCols / 2;
  for (uint64_t begin = 0; begin < units; begin += kBlock) {
    const uint64_t end = begin + kBlock < units ? begin + kBlock : units;
    for (uint32_t row = 0; row < row_count; ++row)
      for (uint64_t k = begin; k < end; ++k)
        std::memcpy(panel + (k * kPanelRows + row) * sizeof(T), rows + row * row_bytes + k * sizeof(T),
                    sizeof(T));
  }
}

void convert(Format format, Dtype source, const std::byte* rows, uint32_t row_count, uint64_t cols,
             std::byte* panel) {
  const uint64_t width = dtype_bytes(source);
  for (uint64_t k = 0; k < cols; ++k) {
    for (uint32_t row = 0; row < row_count; ++row) {
      const float x = source_value(format, source, rows + (row * cols + k) * width);
      const uint64_t at = element_index(format, row, k);
      if (format == Format::f32) {
        std::memcpy(panel + at * 4, &x, 4);
      } else {
        const uint16_t bits = to_half(format, x);
        std::memcpy(panel + at * 2, &bits, 2);
      }
    }
  }
}

}  // namespace

Format dense_format(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return Format::f32;
    case Dtype::f16:
      return Format::f16;
    case Dtype::bf16:
      return Format::bf16;
    default:
      throw Error(ErrorKind::unsupported, "dense-format", "no packed format holds this element type exactly")
          .saw(std::string(dtype_name(dtype)))
          .want("F32, F16 or BF16");
  }
}

const char* format_name(Format format) {
  switch (format) {
    case Format::f32:
      return "f32";
    case Format::f16:
      return "f16";
    case Format::bf16:
      return "bf16";
    case Format::int8:
      return "int8";
    case Format::nf4:
      return "nf4";
    case Format::nf4_nested:
      return "nf4-nested";
    case Format::fp4:
      return "fp4";
    case Format::fp4_nested:
      return "fp4-nested";
    case Format::ternary:
      return "ternary";
  }
  return "";
}

uint64_t panel_count(uint64_t rows) {
  return rows / kPanelRows + (rows % kPanelRows != 0);
}

uint64_t padded_cols(Format format, uint64_t cols) {
  if (format == Format::int8) return (cols + 3) / 4 * 4;
  if (format == Format::ternary) return (cols + kTernaryCols - 1) / kTernaryCols * kTernaryCols;
  return cols + cols % 2;
}

uint64_t panel_metadata_bytes(Format format, uint64_t cols) {
  if (is_dense(format) || format == Format::ternary) return 0;
  if (format == Format::int8) return kInt8HeaderBytes;
  const uint64_t blocks = cols / kBlockCols;
  return is_nested(format) ? nested_header_bytes(cols) : blocks * kPanelRows * 4;
}

uint64_t panel_bytes(Format format, uint64_t cols) {
  if (cols > UINT64_MAX / (kPanelRows * 8)) throw too_large(kPanelRows, cols);
  assert(!is_four_bit(format) || cols % kBlockCols == 0);
  const uint64_t elements = padded_cols(format, cols) * kPanelRows;
  if (is_four_bit(format)) return elements / 2 + panel_metadata_bytes(format, cols);
  if (format == Format::int8) return elements + kInt8HeaderBytes;
  if (format == Format::ternary) return elements / 4;
  return elements * (format == Format::f32 ? 4u : 2u);
}

uint64_t packed_bytes(Format format, uint64_t rows, uint64_t cols) {
  const std::optional<uint64_t> bytes = checked_mul(panel_count(rows), panel_bytes(format, cols));
  if (!bytes) throw too_large(rows, cols);
  return *bytes;
}

void pack_panel(Format format, Dtype source, std::span<const std::byte> rows, uint32_t row_count,
                uint64_t cols, std::span<std::byte> panel) {
  assert(row_count <= kPanelRows);
  assert(rows.size() == row_count * cols * dtype_bytes(source));
  assert(panel.size() == panel_bytes(format, cols));
  if (row_count < kPanelRows || cols % 2 != 0) std::memset(panel.data(), 0, panel.size());
  const std::byte* from = rows.data();
  const uint64_t row_bytes = cols * dtype_bytes(source);
  if (format == Format::f32 && source == Dtype::f32) {
    transpose<uint32_t>(from, row_bytes, row_count, cols, panel.data());
  } else if (format == Format::f16 && source == Dtype::f16) {
    transpose<uint16_t>(from, row_bytes, row_count, cols, panel.data());
  } else if (format == Format::bf16 && source == Dtype::bf16) {
    transpose<uint32_t>(from, row_bytes, row_count, cols / 2, panel.data());
    for (uint32_t row = 0; cols % 2 != 0 && row < row_count; ++row)
      std::memcpy(panel.data() + element_index(format, row, cols - 1) * 2,
                  from + row * row_bytes + (cols - 1) * 2, 2);
  } else {
    convert(format, source, from, row_count, cols, panel.data());
  }
}

void unpack_row(Format format, std::span<const std::byte> panel, uint32_t row, uint64_t cols, float* out) {
  assert(row < kPanelRows);
  assert(panel.size() >= panel_bytes(format, cols));
  if (format == Format::int8) return unpack_int8_row(panel.data(), row, cols, out);
  if (format == Format::ternary) return unpack_ternary_row(panel.data(), row, cols, out);
  if (is_four_bit(format)) return unpack_four_bit_row(format, panel.data(), row, cols, out);
  for (uint64_t k = 0; k < cols; ++k) {
    const uint64_t at = element_index(format, row, k);
    if (format == Format::f32)
      out[k] = read<float>(panel.data() + at * 4);
    else if (format == Format::f16)
      out[k] = f16_to_float(read<uint16_t>(panel.data() + at * 2));
    else
      out[k] = bf16_to_float(read<uint16_t>(panel.data() + at * 2));
  }
}

}  // namespace rhapsode::quant
