// The packed layouts of weight matrices: what kernels read. A format is a written contract; kernels only
// speed it up. The canonical bytes of a matrix are the checkpoint's own (row-major [rows, cols] in the
// checkpoint's dtype).
//
// A packed matrix is a sequence of panels of kPanelRows output rows, so that one SIMD lane is one output row
// and a panel is one sequential stream. Rows beyond the matrix are zero. cols is padded to an even number
// with zeros.
//   f32, f16: panel[k][row]                  row in 0..31
//   bf16:     panel[k / 2][row][k % 2]       pairs of k adjacent: serves shift-and-FMA and bf16 dot
//   instructions alike
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace rhapsode::quant {

constexpr uint32_t kPanelRows = 32;

enum class Format : uint8_t { f32, f16, bf16 };
constexpr uint32_t kFormatCount = 3;

// The packed format that holds `dtype` exactly (f32, f16 or bf16).
Format dense_format(Dtype dtype);
const char* format_name(Format format);

uint64_t panel_count(uint64_t rows);
uint64_t padded_cols(uint64_t cols);
uint64_t panel_bytes(Format format, uint64_t cols);
// Bytes of the whole packed matrix; the planner's arithmetic and the loader's.
uint64_t packed_bytes(Format format, uint64_t rows, uint64_t cols);

// Packs up to 32 rows of a row-major matrix of `source` dtype (f32, f16, bf16, f64) into one panel. Values
// are rounded once to the format's type. `rows` holds row_count * cols elements; the remaining rows of the
// panel become zero.
void pack_panel(Format format, Dtype source, std::span<const std::byte> rows, uint32_t row_count,
                uint64_t cols, std::span<std::byte> panel);

// Row `row` (0..31) of a panel, as float, cols values: the way back, used for embedding look-ups and tests.
void unpack_row(Format format, std::span<const std::byte> panel, uint32_t row, uint64_t cols, float* out);

}  // namespace rhapsode::quant
