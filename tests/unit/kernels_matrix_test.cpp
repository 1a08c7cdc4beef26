// Matrix tiles of every kernel set that has them, bit for bit against their reference and against sums that
// are made here: odd numbers of tokens and columns, rows that are apart from each other.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/math.h"

namespace rhapsode::kernels {
namespace {

constexpr uint32_t kRows = 32;
constexpr uint64_t kStride = 37;  // of the sums

std::vector<const Kernels*> sets_with_tiles() {
  std::vector<const Kernels*> sets;
  for (const KernelSet& set : kernel_sets())
    if (set.supported && set.kernels->matrix != nullptr) sets.push_back(set.kernels);
  return sets;
}

// Tokens and weights as bytes; what lies behind the last dword of weights is not to be looked at.
struct Operands {
  uint32_t tokens;
  uint64_t dwords;
  uint64_t a_stride = (dwords + kMatrixDwords - 1) / kMatrixDwords * kMatrixBytes;
  std::vector<uint8_t> a = std::vector<uint8_t>((tokens + kMatrixRows - 1) / kMatrixRows * a_stride);
  std::vector<uint8_t> b = std::vector<uint8_t>(dwords * kRows * 4 + 64 * kRows, 0xff);
  std::vector<float> absmax = std::vector<float>((dwords + 31) / 32 * kRows);  // of codes

  uint8_t* token(uint32_t t, uint64_t byte) {
    return a.data() + t / kMatrixRows * a_stride + byte / kMatrixLine * kMatrixBytes +
           t % kMatrixRows * kMatrixLine + byte % kMatrixLine;
  }

  // In two calls, the second of which goes on; split is a multiple of kMatrixDwords.
  std::vector<float> multiply(void (*kernel)(const MatrixTile&), uint64_t split) const {
    std::vector<float> c(tokens * kStride, -2.0f);
    const auto call = [&](uint64_t begin, uint64_t end) {
      if (begin == end) return;
      kernel({.b = b.data() + begin * kRows * 4,
              .a = a.data() + begin / kMatrixDwords * kMatrixBytes,
              .a_stride = a_stride,
              .tokens = tokens,
              .dwords = end - begin,
              .c = c.data(),
              .c_stride = kStride,
              .first = begin == 0,
              .absmax = absmax.data() + begin / 32 * kRows,
              .ahead = b.data(),
              .ahead_bytes = b.size()});
    };
    call(0, split);
    call(split, dwords);
    return c;
  }
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(KernelsMatrix, BytesAreSummedExactly) {
  std::mt19937 random(3);
  for (const uint32_t tokens : {1u, 2u, 15u, 16u, 17u, 31u, 32u, 33u, 70u}) {
    for (const uint64_t dwords : {1u, 7u, 16u, 19u, 48u, 100u}) {
      Operands at{tokens, dwords};
      for (uint32_t t = 0; t < tokens; ++t)
        for (uint64_t i = 0; i < dwords * 4; ++i) *at.token(t, i) = static_cast<uint8_t>(random());
      for (uint64_t i = 0; i < dwords * kRows * 4; ++i) at.b[i] = static_cast<uint8_t>(random());
      std::vector<float> expected(tokens * kStride, -2.0f);
      for (uint32_t t = 0; t < tokens; ++t)
        for (uint32_t row = 0; row < kRows; ++row) {
          int32_t sum = 0;
          for (uint64_t i = 0; i < dwords * 4; ++i)
            sum += static_cast<int8_t>(*at.token(t, i)) *
                   static_cast<int8_t>(at.b[(i / 4 * kRows + row) * 4 + i % 4]);
          expected[t * kStride + row] = std::bit_cast<float>(sum);
        }
      for (const Kernels* set : sets_with_tiles())
        for (const uint64_t split : {uint64_t{0}, dwords / 32 * 16})
          EXPECT_TRUE(same_bits(at.multiply(set->matrix->bytes, split), expected))
              << set->name << " tokens " << tokens << " dwords " << dwords << " split " << split;
    }
  }
}

// Mostly normal values, some large ones and zeros of both signs.
float some_value(std::mt19937& random) {
  const float x = std::normal_distribution<float>()(random);
  switch (random() % 16) {
    case 0:
      return x * 300.0f;
    case 1:
      return -0.0f;
    case 2:
      return x * 1e-5f;
    default:
      return x;
  }
}

TEST(KernelsMatrix, PairsAreSummedInBlocks) {
  std::mt19937 random(4);
  for (const uint32_t tokens : {1u, 2u, 15u, 16u, 17u, 31u, 32u, 33u, 70u}) {
    for (const uint64_t dwords : {1u, 7u, 16u, 19u, 48u, 100u}) {
      Operands at{tokens, dwords};
      const auto put = [&](uint8_t* to) {
        const uint16_t bits = float_to_bf16(some_value(random));
        std::memcpy(to, &bits, sizeof bits);
      };
      for (uint32_t t = 0; t < tokens; ++t)
        for (uint64_t i = 0; i < dwords * 2; ++i) put(at.token(t, i * 2));
      for (uint64_t i = 0; i < dwords * kRows * 2; ++i) put(at.b.data() + i * 2);
      const std::vector<float> expected = at.multiply(select_kernels("reference-amx").matrix->pairs, 0);
      for (const Kernels* set : sets_with_tiles()) {
        for (const uint64_t split : {uint64_t{0}, dwords / 32 * 16})
          EXPECT_TRUE(same_bits(at.multiply(set->matrix->pairs, split), expected))
              << set->name << " tokens " << tokens << " dwords " << dwords << " split " << split;
        // One token alone, by the very panel.
        std::vector<float> x(dwords * 2), y(2 * kRows);
        for (uint32_t t = 0; t < tokens; t += 5) {
          for (uint64_t i = 0; i < x.size(); ++i) {
            uint16_t bits;
            std::memcpy(&bits, at.token(t, i * 2), sizeof bits);
            x[i] = bf16_to_float(bits);
          }
          const auto gemv = set->matrix->gemv[static_cast<size_t>(Format::bf16)];
          gemv(at.b.data(), at.b.data(), x.data(), x.size(), y.data(), y.data() + kRows);
          EXPECT_EQ(std::memcmp(y.data(), y.data() + kRows, kRows * 4), 0);
          EXPECT_EQ(std::memcmp(y.data(), expected.data() + t * kStride, kRows * 4), 0)
              << set->name << " token " << t << " dwords " << dwords;
          gemv(at.b.data(), nullptr, x.data(), x.size(), y.data(), nullptr);
          EXPECT_EQ(std::memcmp(y.data(), expected.data() + t * kStride, kRows * 4), 0) << set->name;
        }
      }
    }
  }
}

// The order that matrix_tiles.h names, where another would give another sum.
TEST(KernelsMatrix, EvenAndOddColumnsHaveChainsOfTheirOwn) {
  Operands at{1, 17};
  const auto put = [&](uint64_t column, float x, float w) {
    const uint16_t a = float_to_bf16(x), b = float_to_bf16(w);
    std::memcpy(at.token(0, column * 2), &a, sizeof a);
    for (uint32_t row = 0; row < kRows; ++row)
      std::memcpy(at.b.data() + ((column / 2 * kRows + row) * 2 + column % 2) * 2, &b, sizeof b);
  };
  for (uint64_t column = 0; column < 34; ++column) put(column, 0.0f, 0.0f);
  put(0, 4096.0f, 4096.0f);  // 2^24: a sum of floats counts by twos from here on
  put(1, 1.0f, 1.0f);
  put(2, 1.0f, 1.0f);   // lost beside 2^24
  put(3, 1.0f, 1.0f);   // 2 with column 1: not lost
  put(32, 0.5f, 1.0f);  // lost, in a block of its own
  for (const Kernels* set : sets_with_tiles())
    for (uint32_t row = 0; row < kRows; ++row)
      ASSERT_EQ(at.multiply(set->matrix->pairs, 0)[row], 16777218.0f) << set->name;
}

// Of random codes and scales.
std::vector<std::byte> four_bit_panel(Format format, uint64_t cols, std::mt19937& random) {
  std::vector<uint8_t> codes(kRows * cols);
  for (uint8_t& code : codes) code = random() % 16;
  std::vector<std::byte> panel(quant::panel_bytes(format, cols));
  quant::pack_four_bit_panel(format, codes, kRows, cols, panel);
  std::vector<float> absmax(cols / 64);
  for (uint32_t row = 0; row < kRows; ++row) {
    for (float& scale : absmax) scale = std::fabs(some_value(random)) + 0.01f;
    quant::set_block_scales(panel, row, absmax);
  }
  return panel;
}

TEST(KernelsMatrix, CodesAreSummedInBlocksAndScaled) {
  std::mt19937 random(6);
  const MatrixTiles& reference = *select_kernels("reference-amx").matrix;
  for (const Format format : {Format::nf4, Format::fp4}) {
    const auto index = static_cast<size_t>(format);
    for (const uint64_t cols : {64u, 128u, 320u, 64u * 43}) {
      const std::vector<std::byte> panel = four_bit_panel(format, cols, random);
      for (const uint32_t tokens : {1u, 2u, 16u, 17u, 33u, 70u}) {
        Operands at{tokens, cols / 2};
        std::vector<float> x(tokens * cols);
        for (uint32_t t = 0; t < tokens; ++t)
          for (uint64_t k = 0; k < cols; ++k) {
            x[t * cols + k] = round_to(Dtype::bf16, some_value(random));
            const uint16_t bits = float_to_bf16(x[t * cols + k]);
            std::memcpy(at.token(t, k * 2), &bits, sizeof bits);
          }
        const auto expand = [&](const MatrixTiles& tiles, uint64_t k_begin, uint64_t k_count, int16_t* b,
                                float* absmax) {
          tiles.expand_codes[index]({panel.data(), cols, k_begin, k_count, b + k_begin * kRows,
                                     absmax + k_begin / 64 * kRows, panel.data(), panel.size()});
        };
        expand(reference, 0, cols, reinterpret_cast<int16_t*>(at.b.data()), at.absmax.data());
        const std::vector<float> expected = at.multiply(reference.codes, 0);
        for (const Kernels* set : sets_with_tiles()) {
          std::vector<int16_t> b(cols * kRows);
          std::vector<float> absmax(cols / 64 * kRows);
          expand(*set->matrix, 0, 64, b.data(), absmax.data());
          if (cols > 64) expand(*set->matrix, 64, cols - 64, b.data(), absmax.data());
          EXPECT_EQ(std::memcmp(b.data(), at.b.data(), b.size() * 2), 0) << set->name << cols;
          EXPECT_TRUE(same_bits(absmax, at.absmax)) << set->name << cols;
          for (const uint64_t split : {uint64_t{0}, cols / 128 * 32})
            EXPECT_TRUE(same_bits(at.multiply(set->matrix->codes, split), expected))
                << set->name << " tokens " << tokens << " cols " << cols << " split " << split;
          std::vector<float> y(2 * kRows);
          for (uint32_t t = 0; t < tokens; t += 7) {
            const auto gemv = set->matrix->gemv_codes[index];
            gemv(panel.data(), panel.data(), x.data() + t * cols, cols, y.data(), y.data() + kRows);
            EXPECT_EQ(std::memcmp(y.data(), y.data() + kRows, kRows * 4), 0);
            EXPECT_EQ(std::memcmp(y.data(), expected.data() + t * kStride, kRows * 4), 0)
                << set->name << " token " << t << " cols " << cols;
            gemv(panel.data(), nullptr, x.data() + t * cols, cols, y.data(), nullptr);
            EXPECT_EQ(std::memcmp(y.data(), expected.data() + t * kStride, kRows * 4), 0) << set->name;
          }
        }
      }
    }
  }
}

// What codes rounded to bf16 err by, beside what weights do that are rounded to bf16 after scaling.
TEST(KernelsMatrix, CodesErrLessThanWeightsRoundedToBf16) {
  for (const quant::FourBitCode* code : {&quant::kNf4, &quant::kFp4}) {
    double of_codes = 0, of_weights = 0;
    constexpr int kScales = 1000;
    for (int i = 0; i < kScales; ++i) {
      const float absmax = 1.0f + static_cast<float>(i) / kScales;
      for (int c = 0; c < 16; ++c) {
        const double exact = double{code->values[c]} * absmax;
        of_codes += std::pow(double{bf16_to_float(code->bf16[c])} / code->bf16_max * absmax - exact, 2);
        of_weights += std::pow(double{round_to(Dtype::bf16, code->values[c] * absmax)} - exact, 2);
      }
    }
    std::printf("%s: codes in bf16 err by %.2g of what rounded weights do\n", code->name,
                std::sqrt(of_codes / of_weights));
    EXPECT_LT(std::sqrt(of_codes / of_weights), 0.4) << code->name;
  }
}

TEST(KernelsMatrix, FourBitWeightsAreRoundedToBf16) {
  std::mt19937 random(5);
  for (const Format format : {Format::nf4, Format::fp4}) {
    for (const uint64_t cols : {64u, 128u, 320u, 64u * 43}) {
      const std::vector<std::byte> panel = four_bit_panel(format, cols, random);
      std::vector<float> x(cols);
      for (float& value : x) value = round_to(Dtype::bf16, some_value(random));
      const auto index = static_cast<size_t>(format);
      std::vector<float> dequantized(kRows * cols);
      for (uint32_t row = 0; row < kRows; ++row)
        quant::unpack_row(format, panel, row, cols, dequantized.data() + row * cols);
      Operands at{1, cols / 2};
      for (uint64_t k = 0; k < cols; ++k) {
        const uint16_t bits = float_to_bf16(x[k]);
        std::memcpy(at.token(0, k * 2), &bits, sizeof bits);
        for (uint32_t row = 0; row < kRows; ++row) {
          const uint16_t weight = float_to_bf16(dequantized[row * cols + k]);
          std::memcpy(at.b.data() + ((k / 2 * kRows + row) * 2 + k % 2) * 2, &weight, sizeof weight);
        }
      }
      const std::vector<float> expected = at.multiply(select_kernels("reference-amx").matrix->pairs, 0);
      for (const Kernels* set : sets_with_tiles()) {
        std::vector<uint32_t> expanded(cols / 2 * kRows);
        set->matrix->expand[index](panel.data(), cols, 0, 64, expanded.data());
        if (cols > 64)
          set->matrix->expand[index](panel.data(), cols, 64, cols - 64, expanded.data() + 32 * kRows);
        EXPECT_EQ(std::memcmp(expanded.data(), at.b.data(), expanded.size() * 4), 0) << set->name << cols;
        std::vector<float> y(2 * kRows);
        set->matrix->gemv[index](panel.data(), panel.data(), x.data(), cols, y.data(), y.data() + kRows);
        EXPECT_EQ(std::memcmp(y.data(), expected.data(), kRows * 4), 0) << set->name << " cols " << cols;
        EXPECT_EQ(std::memcmp(y.data() + kRows, expected.data(), kRows * 4), 0) << set->name;
      }
    }
  }
}

}  // namespace
}  // namespace rhapsode::kernels
