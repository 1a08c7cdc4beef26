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
//   int8:     float scb[32], int32 code_sum[32] (of the row's codes), then codes [k / 4][row][k % 4] as int8,
//             cols padded to a multiple of 4 with zeros
//   nf4, fp4: for each 64 columns: float absmax[32], then codes [row / 16][k / 8 % 8][row % 16][4 bytes]:
//   byte
//             i of a row's dword holds column 8j + i in its low nibble and 8j + 4 + i in its high one
//   nf4_nested, fp4_nested: a header (FourBitPanel) and uint8 absmax code[cols / 64][32], padded to whole
//   cache
//             lines; then for each 64 columns codes as above, which so are whole lines too. cols is a
//             multiple of 64 for all 4-bit formats.
//   ternary:  value + 1 in 2 bits, [k / 16][row][4 bytes]: byte i holds columns 4j + i of the 16 in bits 2j
//   and
//             2j + 1. cols padded to a multiple of 16 with the value 0, as are rows beyond the matrix.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/four_bit.h"
#include "tensor/dtype.h"

namespace rhapsode::quant {

constexpr uint32_t kPanelRows = 32;
// Of the layouts above, raised whenever one of them changes: packed bytes that were kept are then made anew.
constexpr uint32_t kLayoutVersion = 2;

struct NestedScales;  // quant/codec.h

enum class Format : uint8_t { f32, f16, bf16, int8, nf4, nf4_nested, fp4, fp4_nested, ternary };
constexpr uint32_t kFormatCount = 9;
constexpr uint32_t kDenseFormats = 3;  // the first ones: f32, f16, bf16

constexpr bool is_dense(Format format) {
  return static_cast<uint32_t>(format) < kDenseFormats;
}
constexpr bool is_four_bit(Format format) {
  return static_cast<uint32_t>(format) >= static_cast<uint32_t>(Format::nf4) && format != Format::ternary;
}
constexpr bool is_nested(Format format) {
  return format == Format::nf4_nested || format == Format::fp4_nested;
}
constexpr const FourBitCode& four_bit_code(Format format) {
  return format == Format::nf4 || format == Format::nf4_nested ? kNf4 : kFp4;
}

constexpr uint64_t kTernaryCols = 16;  // of a row's dword
constexpr uint64_t kInt8HeaderBytes = kPanelRows * 8;
constexpr uint64_t kBlockCodeBytes = kPanelRows * kBlockCols / 2;
constexpr uint64_t kBlockBytes = kPanelRows * 4 + kBlockCodeBytes;  // nf4, fp4; nested: kBlockCodeBytes

// Header of a nested 4-bit panel. Row r's block b has absmax map[code] * nested[(phase[r] + b) / 256][r] +
// offset.
struct FourBitPanel {
  float offset;
  uint8_t unused[4];
  // Of the map that codes are looked up in, in bytes from the panel's start: a checkpoint brings its own,
  // whose last bits differ from ours. 0: kNestedMap.
  uint64_t map_offset;
  uint8_t unused_too[16];
  uint8_t phase[kPanelRows];  // index of the row's first block in the tensor, modulo 256
  // float nested[nested_groups(cols)][kPanelRows] and the absmax codes follow
};
static_assert(sizeof(FourBitPanel) == 64);
constexpr uint64_t kNestedMapBytes = 256 * sizeof(float);  // of a map that a matrix brings

// Nested blocks that one row may touch.
constexpr uint64_t nested_groups(uint64_t cols) {
  const uint64_t blocks = cols / kBlockCols;
  return kNestedBlocks % blocks == 0 ? 1 : (kNestedBlocks - 2 + blocks) / kNestedBlocks + 1;
}
// Where the absmax codes of a nested panel stand.
constexpr uint64_t absmax_codes_offset(uint64_t cols) {
  return sizeof(FourBitPanel) + nested_groups(cols) * kPanelRows * sizeof(float);
}
// Up to the codes of its first block.
constexpr uint64_t nested_header_bytes(uint64_t cols) {
  constexpr uint64_t kLine = 64;
  return absmax_codes_offset(cols) + (cols / kBlockCols * kPanelRows + kLine - 1) / kLine * kLine;
}

// The packed format that holds `dtype` exactly (f32, f16 or bf16).
Format dense_format(Dtype dtype);
const char* format_name(Format format);

uint64_t panel_count(uint64_t rows);
uint64_t padded_cols(Format format, uint64_t cols);
uint64_t panel_bytes(Format format, uint64_t cols);
// Bytes of the whole packed matrix; the planner's arithmetic and the loader's.
uint64_t packed_bytes(Format format, uint64_t rows, uint64_t cols);
// The part of panel_bytes that is scales and the like, not codes; 0 for dense formats.
uint64_t panel_metadata_bytes(Format format, uint64_t cols);

// Packs up to 32 rows of a row-major matrix of `source` dtype (f32, f16, bf16, f64) into one panel. Values
// are rounded once to the (dense) format's type. `rows` holds row_count * cols elements; the remaining rows
// of the panel become zero.
void pack_panel(Format format, Dtype source, std::span<const std::byte> rows, uint32_t row_count,
                uint64_t cols, std::span<std::byte> panel);

// Packs up to 32 rows of int8 codes [row_count][cols] and their scb.
void pack_int8_panel(std::span<const int8_t> codes, std::span<const float> scb, uint64_t cols,
                     std::span<std::byte> panel);
// Packs up to 32 rows of -1, 0, 1 [row_count][cols].
void pack_ternary_panel(std::span<const int8_t> values, uint32_t row_count, uint64_t cols,
                        std::span<std::byte> panel);
// Packs up to 32 rows of 4-bit codes [row_count][cols], one a byte; the scales are set row by row afterwards.
void pack_four_bit_panel(Format format, std::span<const uint8_t> codes, uint32_t row_count, uint64_t cols,
                         std::span<std::byte> panel);
// absmax: one for each 64 columns of the row.
void set_block_scales(std::span<std::byte> panel, uint32_t row, std::span<const float> absmax);
// Scales of the row whose first block is number `first_block` of its tensor. All rows of a panel are of one
// tensor.
void set_nested_scales(std::span<std::byte> panel, uint32_t row, uint64_t cols, const NestedScales& scales,
                       uint64_t first_block);
// Names the map of a nested panel: kNestedMapBytes bytes, `map_offset` bytes from the panel's start.
void set_nested_map(std::span<std::byte> panel, uint64_t map_offset);
// Absmax of a row's block as float, of any 4-bit format.
float block_scale(Format format, const std::byte* panel, uint64_t cols, uint32_t row, uint64_t block);

// Row `row` (0..31) of a panel, as float, cols values, not rounded to any dtype: the way back, used for
// embedding look-ups and tests.
void unpack_row(Format format, std::span<const std::byte> panel, uint32_t row, uint64_t cols, float* out);

}  // namespace rhapsode::quant
