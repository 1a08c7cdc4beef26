// Packing of quantized panels: the written meaning of the int8 and 4-bit layouts, in portable code.
#include "quant/quantized_panels.h"

#include <cassert>
#include <cstddef>
#include <cstring>

#include "quant/codec.h"

namespace rhapsode::quant {
namespace {

template <class T>
T read(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

uint64_t int8_index(uint32_t row, uint64_t k) {
  return kInt8HeaderBytes + (k / 4 * kPanelRows + row) * 4 + k % 4;
}

// Of column k of a block, in the block's codes: its byte, and whether it is the high nibble.
struct Nibble {
  uint64_t byte;
  bool high;
};
Nibble nibble(uint32_t row, uint64_t k) {
  return {((row / 16 * 8 + k / 8) * 16 + row % 16) * 4 + k % 4, k % 8 >= 4};
}

// Where the codes of block `block` of a 4-bit panel start.
uint64_t codes_offset(Format format, uint64_t cols, uint64_t block) {
  return is_nested(format) ? nested_header_bytes(cols) + block * kBlockCodeBytes
                           : block * kBlockBytes + kPanelRows * 4;
}
uint64_t absmax_code_offset(uint64_t cols, uint32_t row, uint64_t block) {
  return absmax_codes_offset(cols) + block * kPanelRows + row;
}

}  // namespace

void pack_int8_panel(std::span<const int8_t> codes, std::span<const float> scb, uint64_t cols,
                     std::span<std::byte> panel) {
  assert(panel.size() == panel_bytes(Format::int8, cols) && codes.size() == scb.size() * cols);
  if (scb.size() < kPanelRows || cols % 4 != 0) std::memset(panel.data(), 0, panel.size());
  // A block of columns at a time, so that what is written stays in the first cache.
  constexpr uint64_t kBlock = 256;
  for (uint64_t begin = 0; begin < cols; begin += kBlock) {
    const uint64_t end = begin + kBlock < cols ? begin + kBlock : cols, whole = end / 4 * 4;
    for (uint32_t row = 0; row < scb.size(); ++row) {
      const int8_t* from = codes.data() + row * cols;
      for (uint64_t k = begin; k < whole; k += 4) std::memcpy(&panel[int8_index(row, k)], from + k, 4);
      for (uint64_t k = whole; k < end; ++k) panel[int8_index(row, k)] = static_cast<std::byte>(from[k]);
    }
  }
  for (uint32_t row = 0; row < scb.size(); ++row) {
    int32_t sum = 0;
    for (uint64_t k = 0; k < cols; ++k) sum += codes[row * cols + k];
    std::memcpy(panel.data() + row * 4, &scb[row], 4);
    std::memcpy(panel.data() + kPanelRows * 4 + row * 4, &sum, 4);
  }
}

void pack_four_bit_panel(Format format, std::span<const uint8_t> codes, uint32_t row_count, uint64_t cols,
                         std::span<std::byte> panel) {
  assert(panel.size() == panel_bytes(format, cols) && codes.size() == row_count * cols);
  if (row_count < kPanelRows)
    std::memset(panel.data(), 0, panel.size());
  else if (is_nested(format))
    std::memset(panel.data(), 0, nested_header_bytes(cols));
  for (uint64_t block = 0; block < cols / kBlockCols; ++block) {
    std::byte* out = panel.data() + codes_offset(format, cols, block);
    for (uint32_t row = 0; row < row_count; ++row) {
      const uint8_t* in = codes.data() + row * cols + block * kBlockCols;
      for (uint64_t j = 0; j < kBlockCols; j += 8) {
        uint32_t low, high;
        std::memcpy(&low, in + j, 4);
        std::memcpy(&high, in + j + 4, 4);
        low |= high << 4;
        std::memcpy(out + nibble(row, j).byte, &low, 4);
      }
    }
  }
}

void set_block_scales(std::span<std::byte> panel, uint32_t row, std::span<const float> absmax) {
  for (uint64_t block = 0; block < absmax.size(); ++block)
    std::memcpy(panel.data() + block * kBlockBytes + row * 4, &absmax[block], 4);
}

void set_nested_scales(std::span<std::byte> panel, uint32_t row, uint64_t cols, const NestedScales& scales,
                       uint64_t first_block) {
  const uint64_t blocks = cols / kBlockCols, phase = first_block % kNestedBlocks;
  std::memcpy(panel.data() + offsetof(FourBitPanel, offset), &scales.offset, 4);
  panel[offsetof(FourBitPanel, phase) + row] = static_cast<std::byte>(phase);
  for (uint64_t group = 0; group * kNestedBlocks < phase + blocks; ++group)
    std::memcpy(panel.data() + sizeof(FourBitPanel) + (group * kPanelRows + row) * 4,
                &scales.absmax[first_block / kNestedBlocks + group], 4);
  for (uint64_t block = 0; block < blocks; ++block)
    panel[absmax_code_offset(cols, row, block)] = static_cast<std::byte>(scales.codes[first_block + block]);
}

void set_nested_map(std::span<std::byte> panel, uint64_t map_offset) {
  std::memcpy(panel.data() + offsetof(FourBitPanel, map_offset), &map_offset, sizeof map_offset);
}

float block_scale(Format format, const std::byte* panel, uint64_t cols, uint32_t row, uint64_t block) {
  if (!is_nested(format)) return read<float>(panel + block * kBlockBytes + row * 4);
  const uint64_t phase = std::to_integer<uint64_t>(panel[offsetof(FourBitPanel, phase) + row]);
  const uint64_t group = (phase + block) / kNestedBlocks;
  const float absmax = read<float>(panel + sizeof(FourBitPanel) + (group * kPanelRows + row) * 4);
  const uint64_t map_offset = read<uint64_t>(panel + offsetof(FourBitPanel, map_offset));
  const auto code = std::to_integer<uint8_t>(panel[absmax_code_offset(cols, row, block)]);
  const float value = map_offset == 0 ? kNestedMap.values[code] : read<float>(panel + map_offset + code * 4);
  return nested_value(value, absmax, read<float>(panel));
}

void unpack_int8_row(const std::byte* panel, uint32_t row, uint64_t cols, float* out) {
  const float scb = read<float>(panel + row * 4);
  for (uint64_t k = 0; k < cols; ++k)
    out[k] = int8_value(std::to_integer<int8_t>(panel[int8_index(row, k)]), scb);
}

void unpack_four_bit_row(Format format, const std::byte* panel, uint32_t row, uint64_t cols, float* out) {
  const FourBitCode& code = four_bit_code(format);
  for (uint64_t k = 0; k < cols; ++k) {
    const uint64_t block = k / kBlockCols;
    const Nibble at = nibble(row, k % kBlockCols);
    const auto byte = std::to_integer<uint8_t>(panel[codes_offset(format, cols, block) + at.byte]);
    const float scale = block_scale(format, panel, cols, row, block);
    out[k] = code.values[at.high ? byte >> 4 : byte & 15] * scale;
  }
}

}  // namespace rhapsode::quant
