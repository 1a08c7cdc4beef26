// Ternary panels: every kernel set against sums of the values that were packed, exact.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
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
    std::vector<int32_t> code_sums(tokens, 0);
    for (uint64_t i = 0; i < codes.size(); ++i) code_sums[i / padded] += codes[i];
    set.kernels->dot_ternary(with.panel.data(), codes.data(), padded, code_sums.data(), tokens, padded,
                             y.data(), 35);
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

// One token by each set: a panel by itself, and beside another one.
void compare_one(const Case& with, const Case& other, const std::vector<int8_t>& codes) {
  const float code_sum = static_cast<float>(std::accumulate(codes.begin(), codes.end(), int32_t{0}));
  for (const KernelSet& set : kernel_sets()) {
    if (!set.supported) continue;
    const auto gemv = set.kernels->gemv_quantized[static_cast<size_t>(Format::ternary)];
    for (const Case* second : {static_cast<const Case*>(nullptr), &other}) {
      std::vector<float> y(2 * kPanelRows, 5.0f);
      gemv(with.panel.data(), second == nullptr ? nullptr : second->panel.data(), codes.data(), &code_sum,
           codes.size(), y.data(), y.data() + kPanelRows);
      for (uint32_t at = 0; at < y.size(); ++at) {
        const Case* of = at < kPanelRows ? &with : second;
        int64_t sum = of == nullptr ? 5 : 0;
        for (uint64_t k = 0; of != nullptr && k < of->cols; ++k)
          sum += of->value(at % kPanelRows, k) * codes[k];
        ASSERT_EQ(y[at], static_cast<float>(sum))
            << set.kernels->name << " cols " << with.cols << " row " << at;
      }
    }
  }
}

TEST(KernelsTernary, OneTokensSumsAreExact) {
  std::mt19937 random(7);
  for (const uint64_t cols : {1, 16, 17, 112, 127, 128, 129, 144, 257, 2560}) {
    const Case with(32, cols, any_value, random), other(19, cols, any_value, random);
    std::vector<int8_t> codes(quant::padded_cols(Format::ternary, cols), 0);
    for (uint64_t k = 0; k < cols; ++k) codes[k] = static_cast<int8_t>(random());
    compare_one(with, other, codes);
  }
  const Case ones(32, 6912, one, random);
  for (const int8_t code : {int8_t{127}, int8_t{-128}})
    compare_one(ones, ones, std::vector<int8_t>(6912, code));
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

// All columns of a panel by tiles of up to gemm_tokens tokens, in blocks of at most kTritQuads quads.
void compare_tiles(const Case& with, int8_t (*code)(std::mt19937&), std::mt19937& random) {
  const uint64_t padded = quant::padded_cols(Format::ternary, with.cols);
  for (const KernelSet& set : kernel_sets()) {
    if (!set.supported) continue;
    const uint32_t tile = set.kernels->gemm_tokens;
    for (uint32_t tokens = 1; tokens <= tile; ++tokens) {
      std::vector<float> c(tokens * 35, 5.0f);
      std::vector<int64_t> sums(tokens * kPanelRows, 0);
      std::vector<int32_t> code_sums(tokens, 0);
      for (uint64_t k = 0; k < padded; k += 4 * kTritQuads) {
        const uint64_t count = std::min<uint64_t>(4 * kTritQuads, padded - k);
        std::vector<uint8_t> b(count * kPanelRows);
        std::vector<int8_t> a(count * tile, 0);
        for (uint64_t i = 0; i < count; ++i)
          for (uint32_t t = 0; t < tokens && k + i < with.cols; ++t) {
            const int8_t value = a[(i / 4 * tile + t) * 4 + i % 4] = code(random);
            code_sums[t] += value;
            for (uint32_t row = 0; row < kPanelRows; ++row)
              sums[t * kPanelRows + row] += with.value(row, k + i) * value;
          }
        set.kernels->expand_trits(with.panel.data(), k, count, b.data());
        set.kernels->tile_trits(b.data(), a.data(), tokens, count / 4, c.data(), 35, k == 0);
      }
      for (uint32_t t = 0; t < tokens; ++t) {
        set.kernels->finish_trits(code_sums[t], c.data() + t * 35);
        for (uint32_t row = 0; row < kPanelRows; ++row)
          ASSERT_EQ(c[t * 35 + row], static_cast<float>(sums[t * kPanelRows + row]))
              << set.kernels->name << " tokens " << tokens << " cols " << with.cols << " row " << row;
        for (uint32_t beyond = 32; beyond < 35; ++beyond) ASSERT_EQ(c[t * 35 + beyond], 5.0f);
      }
    }
  }
}

TEST(KernelsTernary, TilesAreExact) {
  std::mt19937 random(8);
  const auto any = [](std::mt19937& next) { return static_cast<int8_t>(next()); };
  for (const uint64_t cols : {1, 16, 60, 255, 256, 257, 496, 2560})
    for (const uint32_t rows : {32u, 7u}) compare_tiles(Case(rows, cols, any_value, random), any, random);
  const Case ones(32, 1024, one, random);
  compare_tiles(
      ones, [](std::mt19937&) { return int8_t{127}; }, random);
  compare_tiles(
      ones, [](std::mt19937&) { return int8_t{-128}; }, random);
}

TEST(KernelsTernary, ActivationsRoundAlike) {
  std::mt19937 random(9);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  for (const uint64_t n : {1, 7, 8, 16, 61, 576}) {
    std::vector<float> x(n);
    for (float& value : x) value = normal(random);
    x[n / 2] = 2.5f;  // a tie
    x[n - 1] = -1000.0f;
    for (const float special : {-1000.0f, std::numeric_limits<float>::infinity(),
                                std::numeric_limits<float>::quiet_NaN(), 0.0f, -1e-40f}) {
      x[n / 3] = special;
      std::vector<float> expected = x;
      const Kernels& reference = select_kernels("reference");
      const float largest = reference.largest_magnitude(x.data(), n);
      reference.round_codes(expected.data(), n, 1.0f);
      std::vector<int8_t> codes(n + 1, 99), other(n + 1, 99);
      const int32_t sum = reference.narrow_codes(expected.data(), n, codes.data());
      for (uint64_t k = 0; k < n; ++k) ASSERT_EQ(static_cast<float>(codes[k]), expected[k]);
      ASSERT_EQ(std::accumulate(codes.begin(), codes.end() - 1, 0), sum);
      for (const KernelSet& set : kernel_sets()) {
        if (!set.supported) continue;
        std::vector<float> got = x;
        set.kernels->round_codes(got.data(), n, 1.0f);
        ASSERT_EQ(got, expected) << set.kernels->name << " n " << n;
        ASSERT_EQ(set.kernels->narrow_codes(got.data(), n, other.data()), sum) << set.kernels->name;
        ASSERT_EQ(other, codes) << set.kernels->name;
        ASSERT_EQ(std::bit_cast<uint32_t>(set.kernels->largest_magnitude(x.data(), n)),
                  std::bit_cast<uint32_t>(largest))
            << set.kernels->name;
      }
    }
  }
}

TEST(KernelsTernary, OneTokenOfFloatsIsAChain) {
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  for (const uint64_t cols : {16u, 48u, 300u, 2560u, 6912u}) {
    const Case with(29, cols, any_value, random), other(32, cols, any_value, random);
    const uint64_t padded = quant::padded_cols(Format::ternary, cols);
    std::vector<float> x(padded, 0.0f), expected(2 * kPanelRows, 0.0f);
    for (uint64_t k = 0; k < cols; ++k) x[k] = normal(random);
    for (uint32_t row = 0; row < 2 * kPanelRows; ++row)
      for (uint64_t k = 0; k < padded; ++k) {
        const Case& of = row < kPanelRows ? with : other;
        expected[row] = std::fma(static_cast<float>(of.value(row % kPanelRows, k)), x[k], expected[row]);
      }
    for (const KernelSet& set : kernel_sets()) {
      if (!set.supported) continue;
      const auto gemv = set.kernels->gemv[static_cast<size_t>(Format::ternary)];
      std::vector<float> both(2 * kPanelRows, 5.0f), alone = both;
      gemv(with.panel.data(), other.panel.data(), x.data(), padded, both.data(), both.data() + kPanelRows);
      gemv(with.panel.data(), nullptr, x.data(), padded, alone.data(), nullptr);
      gemv(other.panel.data(), nullptr, x.data(), padded, alone.data() + kPanelRows, nullptr);
      EXPECT_EQ(both, expected) << set.kernels->name << " " << cols;
      EXPECT_EQ(alone, expected) << set.kernels->name << " " << cols;
    }
  }
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
