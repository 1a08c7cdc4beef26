// One token times 4-bit weights, as reference_quantized.cpp has it. Sixteen rows of a panel are one stream, a
// cache line at each step; it is prefetched far ahead, since a step computes for longer than the machine
// looks ahead by itself. Needs a vec_<isa>.h before it.
#pragma once

#include "kernels/isa/vec_quantized_matmul.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

constexpr uint32_t kStripRows = 16;
constexpr uint32_t kStripVectors = kStripRows / kWidth;
constexpr uint32_t kStrips = kPanelRows / kStripRows;
constexpr uint32_t kStripSteps = kBlockCols / 8;

// The absmax of one panel's blocks, from the first one on.
template <Format Fmt, bool LooksAhead = quant::is_nested(Fmt) && !ByteMap::kFast>
struct BlockScales {
  const uint8_t* block;  // the present one
  PanelScales<Fmt> scales;
  static constexpr uint32_t kBlocks = PanelScales<Fmt>::kBlocks;
  F of_rows[kBlocks][kPanelVectors];

  BlockScales(const uint8_t* panel, uint64_t cols)
      : block(first_block<Fmt>(panel, cols)), scales(panel, cols) {}

  void advance() { block += kBlockStride<Fmt>; }
  template <uint32_t Rows>
  void look_ahead(uint64_t, uint32_t) {}

  // Of block `index`, the present one, for the rows of vector v; blocks and vectors are asked for in order.
  F absmax(uint64_t index, uint32_t v) {
    if (v == 0 && index % kBlocks == 0) scales.absmax(block, index, of_rows);
    return of_rows[index % kBlocks][v];
  }
};

// Looked up while the block before is multiplied, some at each step and by loads and stores alone.
template <Format Fmt>
struct BlockScales<Fmt, true> {
  const uint8_t* block;
  const uint8_t* next;  // absmax codes of the block after it; behind the last one, other bytes of the panel
  const float* map;
  const float* nested;  // [groups][kPanelRows]
  uint64_t groups;
  float offset;
  alignas(64) int32_t phase[kPanelRows];
  alignas(64) uint32_t values[2][kPanelRows];  // bits of floats: of the present block and of the next

  BlockScales(const uint8_t* panel, uint64_t cols)
      : block(first_block<Fmt>(panel, cols)),
        next(panel + quant::absmax_codes_offset(cols)),
        map(nested_map(panel)),
        nested(reinterpret_cast<const float*>(panel + sizeof(quant::FourBitPanel))),
        groups(quant::nested_groups(cols)) {
    const auto* header = reinterpret_cast<const quant::FourBitPanel*>(panel);
    offset = header->offset;
    for (uint32_t row = 0; row < kPanelRows; ++row) phase[row] = header->phase[row];
    look_up<kPanelRows>(0, values[0]);
    next += kPanelRows;
  }

  void advance() { block += kBlockStride<Fmt>, next += kPanelRows; }

  // Of `Rows` rows of the next block, while block `index` is the present one.
  template <uint32_t Rows>
  void look_ahead(uint64_t index, uint32_t row) {
    look_up<Rows>(row, values[(index + 1) % 2]);
  }

  template <uint32_t Rows>
  void look_up(uint32_t row, uint32_t* out) const {
    for (uint32_t i = 0; i < Rows; ++i) {
      uint32_t value;
      __builtin_memcpy(&value, map + next[row + i], sizeof value);
      asm("" : "+r"(value));  // stays a scalar: two of them would be joined by a shuffle
      out[row + i] = value;
    }
  }

  F absmax(uint64_t index, uint32_t v) const {
    F scale = load(nested + v * kWidth);
    for (uint64_t g = 1; g < groups; ++g) {
      // Rows whose block lies in group g or later take its absmax.
      const I at = add_i(load_dwords(reinterpret_cast<const uint8_t*>(phase + v * kWidth)),
                         splat_i(static_cast<uint32_t>(index)));
      const F start = splat(static_cast<float>(g * quant::kNestedBlocks));
      scale = choose(at_least(to_float(at), start), load(nested + g * kPanelRows + v * kWidth), scale);
    }
    const F value = load(reinterpret_cast<const float*>(values[index % 2]) + v * kWidth);
    return value * scale + splat(offset);
  }
};

struct StripSums {
  I sums[kStripVectors];
};

// The exact sums of a block for sixteen rows; ahead(step) is called at each of the steps.
template <class Ahead>
inline StripSums strip_sums(const CodeTable& table, const uint8_t* codes, const int16_t* x, Ahead ahead) {
  I first[kStripVectors], second[kStripVectors];
  at_each<kStripVectors>(
      [&](auto v) { first[decltype(v)::value] = second[decltype(v)::value] = splat_i(0); });
#pragma GCC unroll 1
  for (uint32_t step = 0; step < kStripSteps; ++step, codes += kStripRows * 4, x += 8) {
    prefetch_unpacked(codes);
    ahead(step);
    const I x0 = splat_qword(x), x1 = splat_qword(x + 4);
    at_each<kStripVectors>([&](auto at) {
      constexpr uint32_t v = decltype(at)::value;
      const I dwords = load_dwords(codes + v * kWidth * 4);
      const FourColumns low = look_up(table, low_nibbles(dwords));
      const FourColumns high = look_up(table, high_nibbles(dwords));
      first[v] = added(first[v], multiply_pairs16(low.first, x0));
      second[v] = added(second[v], multiply_pairs16(low.second, x0));
      first[v] = added(first[v], multiply_pairs16(high.first, x1));
      second[v] = added(second[v], multiply_pairs16(high.second, x1));
    });
  }
  StripSums out;
  at_each<kStripVectors>([&](auto at) {
    constexpr uint32_t v = decltype(at)::value;
    out.sums[v] = add_i(even_dwords(first[v], second[v]), odd_dwords(first[v], second[v]));
  });
  return out;
}

// One token's codes in 16-bit fixed point, from the present block on.
struct FixedToken {
  CodeTable table;
  const int16_t* x;
  const float* scales;

  template <class Ahead>
  StripSums sums(const uint8_t* codes, Ahead ahead) const {
    return strip_sums(table, codes, x, ahead);
  }
  float scale() const { return *scales; }
  void next() { x += kBlockCols, ++scales; }
};

template <Format Fmt, uint32_t Panels, class Token>
inline void gemv_four_bit(const uint8_t* const* panels, Token token, uint64_t cols, float* const* y) {
  const uint64_t blocks = cols / kBlockCols;
  BlockScales<Fmt> of[2] = {{panels[0], cols}, {panels[Panels - 1], cols}};
  F sums[Panels][kPanelVectors];
  for (auto& panel : sums)
    for (F& sum : panel) sum = zero();
  for (uint64_t index = 0; index < blocks; ++index, token.next()) {
    const F scale = splat(token.scale());
    for (uint32_t p = 0; p < Panels; ++p) {
      const uint8_t* at = of[p].block;
      for (uint32_t strip = 0; strip < kStrips; ++strip) {
        const StripSums found = token.sums(
            code_dwords(at + kScaleBytes<Fmt>, strip * kStripVectors, 0),
            [&](uint32_t step) { of[p].template look_ahead<2>(index, strip * kStripRows + 2 * step); });
        for (uint32_t i = 0; i < kStripVectors; ++i) {
          const uint32_t v = strip * kStripVectors + i;
          sums[p][v] = fma(to_float(found.sums[i]), of[p].absmax(index, v) * scale, sums[p][v]);
        }
      }
      of[p].advance();
    }
  }
  for (uint32_t p = 0; p < Panels; ++p)
    for (uint32_t v = 0; v < kPanelVectors; ++v) store(y[p] + v * kWidth, sums[p][v]);
}

// Of one panel, or of two at once.
template <Format Fmt, class Token>
inline void gemv_of_panels(const void* panel_a, const void* panel_b, const Token& token, uint64_t cols,
                           float* y_a, float* y_b) {
  with_panels(panel_a, panel_b, y_a, y_b, [&](auto count, const uint8_t* const* panels, float* const* y) {
    gemv_four_bit<Fmt, decltype(count)::value>(panels, token, cols, y);
  });
}

template <Format Fmt>
void gemv_fixed(const void* panel_a, const void* panel_b, const void* codes, const float* scales,
                uint64_t cols, float* y_a, float* y_b) {
  const FixedToken token{code_table(quant::four_bit_code(Fmt).fixed), static_cast<const int16_t*>(codes),
                         scales};
  gemv_of_panels<Fmt>(panel_a, panel_b, token, cols, y_a, y_b);
}

}  // namespace
}  // namespace rhapsode::kernels
