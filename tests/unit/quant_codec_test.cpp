// The numbers of bitsandbytes: vectors that the library gave, and the edges of each rule.
#include "quant/codec.h"

#include <gtest/gtest.h>

#include <cmath>

#include "quant/formats.h"

namespace rhapsode::quant {
namespace {

TEST(QuantCodec, Nf4VectorsOfTheLibrary) {
  const float x[8] = {0, 1e-3f, -1e-3f, .5f, -.5f, 1, -1, .25f};
  std::vector<float> block;
  for (int i = 0; i < 8; ++i) block.insert(block.end(), x, x + 8);
  uint8_t codes[64];
  EXPECT_EQ(four_bit_block(kNf4, block, true, codes), 1.0f);
  const uint8_t expected[8] = {7, 7, 7, 12, 2, 15, 0, 10};
  for (int i = 0; i < 64; ++i) EXPECT_EQ(codes[i], expected[i % 8]) << i;
  four_bit_block(kFp4, block, true, codes);
  const uint8_t fp4[8] = {0, 8, 0, 5, 13, 3, 11, 7};
  for (int i = 0; i < 64; ++i) EXPECT_EQ(codes[i], fp4[i % 8]) << i;
}

TEST(QuantCodec, AShortBlockDivides) {
  const float x[3] = {3, -1.5f, .75f};
  uint8_t codes[3];
  EXPECT_EQ(four_bit_block(kNf4, x, false, codes), 3.0f);
  EXPECT_EQ(codes[0], 15);
  EXPECT_EQ(codes[1], 2);
  EXPECT_EQ(codes[2], 10);
}

TEST(QuantCodec, ATieGoesToTheLowerCode) {
  for (uint32_t i = 0; i < 15; ++i) {
    const float x[2] = {kNf4.bounds[i], 1.0f};
    uint8_t codes[2];
    four_bit_block(kNf4, x, true, codes);
    EXPECT_EQ(codes[0], i);
  }
}

TEST(QuantCodec, ZerosHaveZeroScales) {
  const std::vector<float> zeros(64, 0.0f);
  uint8_t codes[64];
  EXPECT_EQ(four_bit_block(kNf4, zeros, true, codes), 0.0f);
  EXPECT_EQ(codes[5], 7);
  int8_t bytes[64];
  EXPECT_EQ(int8_row(zeros, bytes), 0.0f);
  EXPECT_EQ(bytes[5], 0);
}

TEST(QuantCodec, WhatIsNotFiniteIsReported) {
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    const float x[4] = {1, bad, 2, 3};
    uint8_t codes[4];
    int8_t bytes[4];
    EXPECT_FALSE(std::isfinite(four_bit_block(kNf4, x, true, codes)));
    EXPECT_FALSE(std::isfinite(int8_row(x, bytes)));
  }
}

TEST(QuantCodec, FixedPointSumsFitIn32Bits) {
  for (const FourBitCode* code : {&kNf4, &kFp4})
    EXPECT_LT(int64_t{code->fixed_max} * code->act_max * kBlockCols, int64_t{1} << 31);
}

TEST(QuantCodec, PanelsGiveBackWhatWasPacked) {
  for (const Format format : {Format::nf4, Format::nf4_nested, Format::fp4, Format::fp4_nested}) {
    for (const uint64_t cols : {64u, 192u, 320u, 64u * 259}) {
      const uint32_t rows = 19;
      const uint64_t blocks = cols / kBlockCols;
      std::vector<uint8_t> codes(rows * cols);
      for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>((i * 7 + i / 64) % 16);
      std::vector<float> absmax((rows + 40) * blocks);
      for (size_t i = 0; i < absmax.size(); ++i) absmax[i] = 1.0f + static_cast<float>(i * 37 % 101);
      const NestedScales nested = nest_scales(absmax);
      std::vector<std::byte> panel(panel_bytes(format, cols));
      pack_four_bit_panel(format, codes, rows, cols, panel);
      // Rows stand in the tensor from row 40 - 3 * row on, in another order than in the panel.
      const auto source = [](uint32_t row) { return 40 + (row * 5) % 19; };
      for (uint32_t r = 0; r < rows; ++r) {
        if (is_nested(format))
          set_nested_scales(panel, r, cols, nested, source(r) * blocks);
        else
          set_block_scales(panel, r, std::span(absmax).subspan(source(r) * blocks, blocks));
      }
      std::vector<float> out(cols);
      for (uint32_t r = 0; r < rows; ++r) {
        unpack_row(format, panel, r, cols, out.data());
        for (uint64_t k = 0; k < cols; ++k) {
          const uint64_t block = source(r) * blocks + k / kBlockCols;
          const float scale = is_nested(format)
                                  ? nested_value(kNestedMap.values[nested.codes[block]],
                                                 nested.absmax[block / kNestedBlocks], nested.offset)
                                  : absmax[block];
          ASSERT_EQ(out[k], four_bit_code(format).values[codes[r * cols + k]] * scale)
              << format_name(format) << " cols " << cols << " row " << r << " column " << k;
        }
      }
    }
  }
}

}  // namespace
}  // namespace rhapsode::quant
