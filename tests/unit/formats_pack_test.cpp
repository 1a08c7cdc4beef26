#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "base/error.h"
#include "quant/formats.h"

namespace rhapsode::quant {
namespace {

std::vector<std::byte> bytes_of(const std::vector<float>& values, Dtype dtype) {
  std::vector<std::byte> bytes(values.size() * dtype_bytes(dtype));
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == Dtype::f32) {
      std::memcpy(bytes.data() + 4 * i, &values[i], 4);
    } else if (dtype == Dtype::f64) {
      const double wide = values[i];
      std::memcpy(bytes.data() + 8 * i, &wide, 8);
    } else {
      const uint16_t half = dtype == Dtype::bf16 ? float_to_bf16(values[i]) : float_to_f16(values[i]);
      std::memcpy(bytes.data() + 2 * i, &half, 2);
    }
  }
  return bytes;
}

Dtype type_of(Format format) {
  return format == Format::f32 ? Dtype::f32 : format == Format::f16 ? Dtype::f16 : Dtype::bf16;
}

TEST(Formats, SizesCountWholePanelsAndEvenColumns) {
  EXPECT_EQ(panel_count(0), 0u);
  EXPECT_EQ(panel_count(32), 1u);
  EXPECT_EQ(panel_count(33), 2u);
  EXPECT_EQ(padded_cols(Format::bf16, 7), 8u);
  EXPECT_EQ(panel_bytes(Format::bf16, 7), 32u * 8 * 2);
  EXPECT_EQ(packed_bytes(Format::f32, 33, 8), 2u * 32 * 8 * 4);
  EXPECT_THROW(panel_bytes(Format::f32, UINT64_MAX - 1), Error);
  EXPECT_THROW(panel_bytes(Format::f32, UINT64_MAX), Error);
  EXPECT_THROW(packed_bytes(Format::f16, UINT64_MAX, 4096), Error);
}

TEST(Formats, DenseFormatsAreTheThreeFloatTypes) {
  EXPECT_EQ(dense_format(Dtype::bf16), Format::bf16);
  EXPECT_STREQ(format_name(Format::f16), "f16");
  EXPECT_THROW(dense_format(Dtype::f64), Error);
  EXPECT_THROW(dense_format(Dtype::i8), Error);
}

TEST(Formats, PackAndUnpackAreInverseAndPadWithZeros) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (Format format : {Format::f32, Format::f16, Format::bf16}) {
    for (Dtype source : {Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::f64}) {
      for (uint32_t rows : {1u, 31u, 32u}) {
        for (uint64_t cols : {1u, 2u, 31u, 33u, 64u, 101u}) {
          std::vector<float> values(rows * cols);
          for (float& x : values) x = round_to(source, normal(random));
          std::vector<std::byte> panel(panel_bytes(format, cols), std::byte{0xee});
          pack_panel(format, source, bytes_of(values, source), rows, cols, panel);
          std::vector<float> out(padded_cols(Format::f32, cols));
          for (uint32_t row = 0; row < kPanelRows; ++row) {
            unpack_row(format, panel, row, padded_cols(Format::f32, cols), out.data());
            for (uint64_t k = 0; k < out.size(); ++k)
              ASSERT_EQ(out[k],
                        row < rows && k < cols ? round_to(type_of(format), values[row * cols + k]) : 0.0f)
                  << format_name(format) << " row " << row << " column " << k << " of " << rows << " x "
                  << cols;
          }
        }
      }
    }
  }
}

TEST(Formats, LayoutIsTheWrittenOne) {
  std::vector<float> values(2 * 4);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i + 1);
  std::vector<std::byte> panel(panel_bytes(Format::bf16, 4));
  pack_panel(Format::bf16, Dtype::f32, bytes_of(values, Dtype::f32), 2, 4, panel);
  const auto at = [&](uint64_t index) {
    uint16_t bits;
    std::memcpy(&bits, panel.data() + 2 * index, 2);
    return bf16_to_float(bits);
  };
  EXPECT_EQ(at(0), 1.0f);  // row 0, columns 0 and 1
  EXPECT_EQ(at(1), 2.0f);
  EXPECT_EQ(at(2), 5.0f);   // row 1
  EXPECT_EQ(at(64), 3.0f);  // row 0, columns 2 and 3
  EXPECT_EQ(at(67), 8.0f);
}

TEST(Formats, DoublesAreRoundedOnce) {
  // Just above the tie between two bfloats: rounding to float first would land on the tie and then go to
  // even, down.
  const double above_tie = 1.0 + 0x1p-8 + 0x1p-40;
  const double huge = 1e300, tiny = 0x1p-25 + 0x1p-60;
  for (const auto& [x, format, expected] :
       {std::tuple{above_tie, Format::bf16, 1.0f + 0x1p-7f},
        std::tuple{-above_tie, Format::bf16, -1.0f - 0x1p-7f},
        std::tuple{huge, Format::bf16, std::numeric_limits<float>::infinity()},
        std::tuple{tiny, Format::f16, 0x1p-24f}, std::tuple{above_tie, Format::f32, 1.0f + 0x1p-8f}}) {
    std::vector<std::byte> bytes(8), panel(panel_bytes(format, 1));
    std::memcpy(bytes.data(), &x, 8);
    pack_panel(format, Dtype::f64, bytes, 1, 1, panel);
    float out = 0;
    unpack_row(format, panel, 0, 1, &out);
    EXPECT_EQ(out, expected) << x;
  }
}

}  // namespace
}  // namespace rhapsode::quant
