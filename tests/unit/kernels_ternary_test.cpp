// Ternary panels: every kernel set against sums of the values that were packed, exact.
#include <gtest/gtest.h>

#include <random>

#include "kernels/kernels.h"
#include "quant/formats.h"

namespace rhapsode::kernels {
namespace {

struct Case {
  uint32_t rows;
  uint64_t cols;
  std::vector<int8_t> values;  // [rows][cols]
  std::vector<std::byte> panel;

  Case(uint32_t row_count, uint64_t col_count, int8_t (*next)(std::mt19937&), std::mt19937& random)
      : rows(row_count), cols(col_count), panel(quant::panel_bytes(Format::ternary, col_count)) {
    for (uint64_t i = 0; i < rows * cols; ++i) values.push_back(next(random));
    quant::pack_ternary_panel(values, rows, cols, panel);
  }
  int8_t value(uint32_t row, uint64_t k) const { return row < rows && k < cols ? values[row * cols + k] : 0; }
};

int8_t any_value(std::mt19937& random) {
  return static_cast<int8_t>(random() % 3) - 1;
}
int8_t one(std::mt19937&) {
  return 1;
}

// Sums of up to kTernaryTokens tokens by each set; rows of y are apart from each other.
void compare(const Case& with, const std::vector<int8_t>& codes, uint32_t tokens) {
  const uint64_t padded = quant::padded_cols(Format::ternary, with.cols);
  for (const KernelSet& set : kernel_sets()) {
    if (!set.supported) continue;
    std::vector<float> y(tokens * 35, 5.0f);
    set.kernels->dot_ternary(with.panel.data(), codes.data(), padded, tokens, padded, y.data(), 35);
    for (uint32_t t = 0; t < tokens; ++t) {
      for (uint32_t row = 0; row < kPanelRows; ++row) {
        int64_t sum = 0;
        for (uint64_t k = 0; k < with.cols; ++k) sum += with.value(row, k) * codes[t * padded + k];
        ASSERT_EQ(y[t * 35 + row], static_cast<float>(sum))
            << set.kernels->name << " tokens " << tokens << " cols " << with.cols << " row " << row;
      }
      for (uint32_t beyond = 32; beyond < 35; ++beyond) ASSERT_EQ(y[t * 35 + beyond], 5.0f);
    }
  }
}

TEST(KernelsTernary, SumsAreExact) {
  std::mt19937 random(5);
  for (const uint64_t cols : {1, 4, 15, 16, 17, 60, 239, 240, 241, 496, 2560}) {
    for (const uint32_t rows : {32u, 7u}) {
      const Case with(rows, cols, any_value, random);
      const uint64_t padded = quant::padded_cols(Format::ternary, cols);
      for (uint32_t tokens = 1; tokens <= kTernaryTokens; ++tokens) {
        std::vector<int8_t> codes(tokens * padded, 0);
        for (uint32_t t = 0; t < tokens; ++t)
          for (uint64_t k = 0; k < cols; ++k) codes[t * padded + k] = static_cast<int8_t>(random());
        compare(with, codes, tokens);
      }
    }
  }
}

// No sum of 16 bits overflows where every product is the largest of its sign.
TEST(KernelsTernary, LargestSumsAreExact) {
  std::mt19937 random(6);
  const Case with(32, 6912, one, random);
  for (const int8_t code : {int8_t{127}, int8_t{-128}})
    for (uint32_t tokens = 1; tokens <= kTernaryTokens; ++tokens)
      compare(with, std::vector<int8_t>(tokens * 6912, code), tokens);
}

TEST(KernelsTernary, ExpandedAndUnpackedAreWhatWasPacked) {
  std::mt19937 random(7);
  const Case with(29, 300, any_value, random);
  for (uint32_t row = 0; row < kPanelRows; ++row) {
    std::vector<float> unpacked(with.cols);
    quant::unpack_row(Format::ternary, with.panel, row, with.cols, unpacked.data());
    for (uint64_t k = 0; k < with.cols; ++k) ASSERT_EQ(unpacked[k], static_cast<float>(with.value(row, k)));
  }
  const uint64_t padded = quant::padded_cols(Format::ternary, with.cols);
  for (const KernelSet& set : kernel_sets()) {
    if (!set.supported) continue;
    for (const uint64_t begin : {uint64_t{0}, uint64_t{256}}) {
      const uint64_t count = std::min<uint64_t>(256, padded - begin);
      std::vector<float> out(count * kPanelRows);
      set.kernels->expand[static_cast<size_t>(Format::ternary)](with.panel.data(), padded, begin, count,
                                                                out.data());
      for (uint64_t k = 0; k < count; ++k)
        for (uint32_t row = 0; row < kPanelRows; ++row)
          ASSERT_EQ(out[k * kPanelRows + row], static_cast<float>(with.value(row, begin + k)))
              << set.kernels->name << " " << begin + k;
    }
  }
}

}  // namespace
}  // namespace rhapsode::kernels
