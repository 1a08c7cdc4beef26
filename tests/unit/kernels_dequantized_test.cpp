// Dequantized 4-bit weights: every set equals the reference bit for bit, whatever absmax is, and the
// reference is what bitsandbytes makes of a code.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "kernels/kernels.h"
#include "quant/codec.h"

namespace rhapsode::kernels {
namespace {

constexpr Format kFourBit[] = {Format::nf4, Format::nf4_nested, Format::fp4, Format::fp4_nested};
constexpr Dtype kTypes[] = {Dtype::f32, Dtype::f16, Dtype::bf16};
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Random codes; absmax: of the blocks of row 0, of row 1, ….
std::vector<std::byte> panel_of(Format format, uint64_t cols, const std::vector<float>& absmax,
                                std::mt19937& random) {
  const uint64_t blocks = cols / quant::kBlockCols, rows = absmax.size() / blocks;
  std::vector<uint8_t> codes(rows * cols);
  for (uint8_t& code : codes) code = random() % 16;
  std::vector<std::byte> panel(quant::panel_bytes(format, cols));
  quant::pack_four_bit_panel(format, codes, static_cast<uint32_t>(rows), cols, panel);
  const quant::NestedScales nested =
      quant::is_nested(format) ? quant::nest_scales(absmax) : quant::NestedScales{};
  for (uint32_t row = 0; row < rows; ++row) {
    if (quant::is_nested(format))
      quant::set_nested_scales(panel, row, cols, nested, row * blocks);
    else
      quant::set_block_scales(panel, row, std::span(absmax).subspan(row * blocks, blocks));
  }
  return panel;
}

std::vector<float> normal_absmax(uint64_t count, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> absmax(count);
  for (float& value : absmax) value = std::fabs(normal(random)) * 0.05f + 0.001f;
  return absmax;
}

std::vector<float> token(Dtype D, uint64_t cols, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> x(cols);
  for (float& value : x) value = round_to(D, normal(random));
  return x;
}

void expect_same(const std::vector<float>& expected, const std::vector<float>& found,
                 const std::string& what) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(expected[i]) && std::isnan(found[i])) continue;
    ASSERT_EQ(std::bit_cast<uint32_t>(expected[i]), std::bit_cast<uint32_t>(found[i]))
        << what << " at " << i << ": " << found[i] << " for " << expected[i];
  }
}

std::vector<float> product(const Dequantized& kernels, Dtype D, const std::vector<std::byte>& a,
                           const std::vector<std::byte>* b, const std::vector<float>& x) {
  std::vector<float> y(b == nullptr ? 32 : 64, -1.0f);
  kernels.gemv(D, a.data(), b == nullptr ? nullptr : b->data(), x.data(), x.size(), y.data(),
               b == nullptr ? nullptr : y.data() + 32);
  return y;
}

// All sets but the reference, by two panels, by one, and expanded in two steps.
void check_sets(Format format, const std::vector<std::byte>& a, const std::vector<std::byte>& b, Dtype D,
                const std::vector<float>& x, bool with_pairs = true) {
  const auto index = static_cast<size_t>(format);
  const Dequantized& reference = select_kernels("reference").dequantized[index];
  const uint64_t cols = x.size(), split = cols / 128 * 64;
  const auto expanded = [&](const Dequantized& kernels, uint64_t begin, uint64_t end) {
    std::vector<float> out((end - begin) * 32 + 1, 7.0f);
    kernels.expand(D, a.data(), cols, begin, end - begin, out.data());
    return out;  // the last one stays
  };
  for (const KernelSet& set : kernel_sets()) {
    if (!set.supported || set.kernels->name == "reference") continue;
    const Dequantized& kernels = set.kernels->dequantized[index];
    const std::string what = std::string(set.kernels->name) + " " + std::string(quant::format_name(format)) +
                             " " + std::string(dtype_name(D)) + " " + std::to_string(cols);
    expect_same(expanded(reference, 0, split), expanded(kernels, 0, split), what);
    expect_same(expanded(reference, split, cols), expanded(kernels, split, cols), what);
    if (D == Dtype::bf16 && set.kernels->tile_pairs != nullptr && !with_pairs) continue;
    expect_same(product(reference, D, a, &b, x), product(kernels, D, a, &b, x), what);
    expect_same(product(reference, D, b, nullptr, x), product(kernels, D, b, nullptr, x), what);
  }
}

TEST(KernelsDequantized, SetsEqualTheReference) {
  std::mt19937 random(1);
  for (const Format format : kFourBit)
    for (const uint64_t cols : {64u, 128u, 320u, 64u * 43})
      for (const Dtype D : kTypes) {
        const uint64_t rows = cols == 320 ? 27 : 32;
        const auto panel = [&] {
          return panel_of(format, cols, normal_absmax(rows * cols / 64, random), random);
        };
        const std::vector<std::byte> a = panel(), b = panel();
        check_sets(format, a, b, D, token(D, cols, random));
      }
}

// Rounding to bf16 takes another way where absmax is far from usual: in one row of one block, or in all.
TEST(KernelsDequantized, AnyAbsmaxIsRoundedAlike) {
  std::mt19937 random(2);
  const float unusual[] = {0.0f,     1e-45f,  1e-39f, 0x1p-126f, 0x1.8p-101f, 0x1p-100f, 0x1.fep99f,
                           0x1p100f, 1.2e38f, 3e38f,  kInfinity, NAN,         -0.04f,    -2e38f};
  const uint64_t cols = 256, blocks = cols / 64;
  for (const Format format : {Format::nf4, Format::fp4}) {
    for (const float value : unusual) {
      for (const uint32_t row : {0u, 9u, 17u, 31u}) {
        std::vector<float> absmax = normal_absmax(32 * blocks, random);
        absmax[row * blocks + row % blocks] = value;
        const std::vector<std::byte> a = panel_of(format, cols, absmax, random);
        const std::vector<std::byte> b = panel_of(format, cols, normal_absmax(32 * blocks, random), random);
        for (const Dtype D : kTypes) check_sets(format, a, b, D, token(D, cols, random));
      }
      const std::vector<float> everywhere(32 * blocks, value);
      const std::vector<std::byte> all = panel_of(format, cols, everywhere, random);
      // An instruction for pairs takes products below 2^-126 for 0.
      for (const Dtype D : kTypes) check_sets(format, all, all, D, token(D, cols, random), false);
    }
  }
}

// Halfway between two bf16 numbers, to the even one: of absmax 1 + n / 256, code value 1 is there for each
// odd n.
TEST(KernelsDequantized, TiesGoToTheEven) {
  std::mt19937 random(3);
  for (const Format format : {Format::nf4, Format::fp4}) {
    std::vector<float> absmax;
    for (int i = 0; i < 256; ++i) absmax.push_back(1.0f + static_cast<float>(i) / 256.0f);
    const uint64_t cols = 64 * 8;
    const std::vector<std::byte> panel = panel_of(format, cols, absmax, random);
    check_sets(format, panel, panel, Dtype::bf16, token(Dtype::bf16, cols, random));
  }
}

TEST(KernelsDequantized, ValuesAreThoseOfTheCodes) {
  std::mt19937 random(4);
  for (const Format format : kFourBit) {
    const uint64_t cols = 192;
    const std::vector<std::byte> panel = panel_of(format, cols, normal_absmax(32 * 3, random), random);
    for (const Dtype D : kTypes) {
      std::vector<float> out(128 * 32), row(cols);
      select_kernels("reference")
          .dequantized[static_cast<size_t>(format)]
          .expand(D, panel.data(), cols, 64, 128, out.data());
      for (uint32_t r = 0; r < 32; ++r) {
        quant::unpack_row(format, panel, r, cols, row.data());
        for (uint64_t k = 0; k < 128; ++k) ASSERT_EQ(out[k * 32 + r], round_to(D, row[64 + k]));
      }
    }
  }
}

}  // namespace
}  // namespace rhapsode::kernels
