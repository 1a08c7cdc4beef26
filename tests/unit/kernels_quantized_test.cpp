// Quantized products: every set equals the reference bit for bit, one token equals many, and the fixed point
// stays within its stated error.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "kernels/kernels.h"
#include "quant/codec.h"

namespace rhapsode::kernels {
namespace {

constexpr Format kFourBit[] = {Format::nf4, Format::nf4_nested, Format::fp4, Format::fp4_nested};

struct Matrix {
  Format format;
  uint64_t cols;
  uint64_t padded;
  std::vector<std::byte> panel;

  float value(uint32_t row, uint64_t k) const {
    std::vector<float> out(cols);
    quant::unpack_row(format, panel, row, cols, out.data());
    return out[k];
  }
};

Matrix matrix(Format format, uint32_t rows, uint64_t cols, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(rows * cols);
  for (float& value : x) value = round_to(Dtype::f16, normal(random) * 0.05f);
  Matrix out{format, cols, quant::padded_cols(format, cols),
             std::vector<std::byte>(quant::panel_bytes(format, cols))};
  if (format == Format::int8) {
    std::vector<int8_t> codes(x.size());
    std::vector<float> scb(rows);
    for (uint32_t r = 0; r < rows; ++r)
      scb[r] = quant::int8_row(std::span(x).subspan(r * cols, cols), codes.data() + r * cols);
    quant::pack_int8_panel(codes, scb, cols, out.panel);
    return out;
  }
  std::vector<uint8_t> codes(x.size());
  std::vector<float> absmax;
  for (size_t b = 0; b < x.size(); b += 64)
    absmax.push_back(quant::four_bit_block(quant::four_bit_code(format), std::span(x).subspan(b, 64), true,
                                           codes.data() + b));
  const quant::NestedScales nested = quant::nest_scales(absmax);
  quant::pack_four_bit_panel(format, codes, rows, cols, out.panel);
  for (uint32_t r = 0; r < rows; ++r) {
    if (quant::is_nested(format))
      quant::set_nested_scales(out.panel, r, cols, nested, r * (cols / 64));
    else
      quant::set_block_scales(out.panel, r, std::span(absmax).subspan(r * (cols / 64), cols / 64));
  }
  return out;
}

std::vector<float> tokens(uint64_t count, uint64_t cols, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(count * cols);
  for (float& value : x) value = round_to(Dtype::bf16, normal(random) * (random() % 97 == 0 ? 20.0f : 1.0f));
  return x;
}

struct Codes {
  std::vector<int16_t> storage;  // int8 codes use the first bytes
  std::vector<float> scales;
};

Codes quantize(const Kernels& set, const Matrix& m, const float* x) {
  Codes out{std::vector<int16_t>(m.padded), std::vector<float>(m.padded / 64 + 1)};
  if (m.format == Format::int8)
    set.quantize_int8(x, m.cols, 6.0f, reinterpret_cast<int8_t*>(out.storage.data()), out.scales.data());
  else
    set.quantize_fixed(m.format, x, m.cols, out.storage.data(), out.scales.data());
  return out;
}

std::vector<float> product(const Kernels& set, const Matrix& m, const Codes& codes) {
  std::vector<float> y(64, -1.0f);
  set.gemv_quantized[static_cast<size_t>(m.format)](m.panel.data(), m.panel.data(), codes.storage.data(),
                                                    codes.scales.data(), m.padded, y.data(), y.data() + 32);
  EXPECT_EQ(std::memcmp(y.data(), y.data() + 32, 128), 0);
  return y;
}

// The products of all tokens by the tile kernels, in two blocks of columns.
std::vector<float> tiled(const Kernels& set, const Matrix& m, const std::vector<Codes>& rows) {
  const uint32_t tile = set.gemm_tokens;
  const auto count = static_cast<uint32_t>(rows.size());
  std::vector<int16_t> a(m.padded * tile), b(m.padded * 32);
  std::vector<float> scales((m.padded / 64 + 1) * tile), absmax((m.padded / 64 + 1) * 32), c(count * 32);
  for (uint32_t t = 0; t < count; ++t) {
    for (uint64_t k = 0; k < m.padded; ++k) a[(k / 2 * tile + t) * 2 + k % 2] = rows[t].storage[k];
    for (uint64_t s = 0; s < m.padded / 64 + 1; ++s) scales[s * tile + t] = rows[t].scales[s];
  }
  const auto f = static_cast<size_t>(m.format);
  const uint64_t split = m.padded / 128 * 64;
  for (const auto& [begin, end] : {std::pair{uint64_t{0}, split}, std::pair{split, m.padded}}) {
    if (begin == end) continue;
    set.expand_codes[f](m.panel.data(), m.padded, begin, end - begin, b.data(), absmax.data());
    set.tile_fixed({b.data(), absmax.data(), a.data() + begin * tile, scales.data() + begin / 64 * tile,
                    count, (end - begin) / 64},
                   c.data(), 32, begin == 0);
  }
  return c;
}

// int8 by words, in two blocks of columns.
std::vector<float> tiled_by_words(const Kernels& set, const Matrix& m, const std::vector<Codes>& rows) {
  const uint32_t tile = set.gemm_tokens;
  const auto count = static_cast<uint32_t>(rows.size());
  std::vector<int8_t> a(m.padded * tile);
  std::vector<uint8_t> b(m.padded * 32);
  std::vector<std::vector<uint32_t>> heavy(count);
  std::vector<int32_t> sums(count);
  for (uint32_t t = 0; t < count; ++t) {
    std::vector<int16_t> storage = rows[t].storage;
    auto* codes = reinterpret_cast<int8_t*>(storage.data());
    heavy[t].resize(m.padded / 2);
    heavy[t].resize(set.take_heavy(codes, m.padded, heavy[t].data(), &sums[t]));
    for (uint64_t k = 0; k < m.padded; ++k) a[(k / 4 * tile + t) * 4 + k % 4] = codes[k];
  }
  std::vector<float> c(count * 35, -2.0f);
  const uint64_t split = m.padded / 8 * 4;
  for (const auto& [begin, end] : {std::pair{uint64_t{0}, split}, std::pair{split, m.padded}}) {
    if (begin == end) continue;
    set.expand_bytes[static_cast<size_t>(Format::int8)](m.panel.data(), m.padded, begin, end - begin,
                                                        b.data(), nullptr);
    set.tile_quads(b.data(), a.data() + begin * tile, count, (end - begin) / 4, c.data(), 35, begin == 0);
  }
  for (uint32_t t = 0; t < count; ++t) {
    set.add_heavy(m.panel.data(), heavy[t].data(), static_cast<uint32_t>(heavy[t].size()), sums[t],
                  c.data() + t * 35);
    set.finish_int8(reinterpret_cast<const float*>(m.panel.data()), rows[t].scales[0], c.data() + t * 35);
  }
  return c;
}

// int8 straight from the panel, in two blocks of columns; rows of c are apart from each other.
std::vector<float> tiled_as_stored(const Kernels& set, const Matrix& m, const std::vector<Codes>& rows) {
  const uint32_t tile = set.gemm_tokens;
  const auto count = static_cast<uint32_t>(rows.size());
  std::vector<uint8_t> a(m.padded * tile);
  std::vector<float> c(count * 35, -2.0f);
  for (uint32_t t = 0; t < count; ++t)
    for (uint64_t k = 0; k < m.padded; ++k)
      a[(k / 4 * tile + t) * 4 + k % 4] =
          static_cast<uint8_t>(reinterpret_cast<const int8_t*>(rows[t].storage.data())[k] + 128);
  const uint64_t split = m.padded / 8 * 4;
  for (const auto& [begin, end] : {std::pair{uint64_t{0}, split}, std::pair{split, m.padded}})
    if (begin != end)
      set.tile_int8(m.panel.data(), begin, a.data() + begin * tile, count, end - begin, c.data(), 35);
  for (uint32_t t = 0; t < count; ++t)
    set.finish_int8(reinterpret_cast<const float*>(m.panel.data()), rows[t].scales[0], c.data() + t * 35);
  return c;
}

// The products of up to few_tokens tokens at once; rows of y are apart from each other.
std::vector<float> few(const Kernels& set, const Matrix& m, const std::vector<Codes>& rows) {
  const auto count = static_cast<uint32_t>(rows.size());
  std::vector<int16_t> codes;
  std::vector<float> scales, y(count * 32);
  for (const Codes& row : rows) {
    codes.insert(codes.end(), row.storage.begin(), row.storage.end());
    scales.insert(scales.end(), row.scales.begin(), row.scales.end());
  }
  set.few_fixed[static_cast<size_t>(m.format)](
      m.panel.data(), {codes.data(), m.padded, scales.data(), m.padded / 64 + 1, count}, m.padded, y.data(),
      32);
  return y;
}

// One after the other.
std::vector<float> products(const Kernels& set, const Matrix& m, const std::vector<Codes>& rows) {
  std::vector<float> y;
  for (const Codes& row : rows) {
    const std::vector<float> one = product(set, m, row);
    y.insert(y.end(), one.begin(), one.begin() + 32);
  }
  return y;
}

bool equal_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0;
}

void check_sets(const Matrix& m, uint32_t seed) {
  const Kernels& reference = select_kernels("reference");
  for (const KernelSet& set : kernel_sets()) {
    if (!set.supported) continue;
    const std::vector<float> x = tokens(set.kernels->gemm_tokens, m.padded, seed);
    std::vector<Codes> rows;
    for (uint32_t t = 0; t < set.kernels->gemm_tokens; ++t) {
      rows.push_back(quantize(*set.kernels, m, x.data() + t * m.padded));
      const Codes expected = quantize(reference, m, x.data() + t * m.padded);
      ASSERT_EQ(rows[t].storage, expected.storage) << set.kernels->name;
      ASSERT_TRUE(equal_bits(rows[t].scales, expected.scales)) << set.kernels->name;
      ASSERT_TRUE(equal_bits(product(*set.kernels, m, rows[t]), product(reference, m, rows[t])))
          << set.kernels->name << " " << quant::format_name(m.format) << " cols " << m.cols;
    }
    for (uint32_t count = 1; count <= set.kernels->gemm_tokens; ++count) {
      const std::vector<Codes> some(rows.begin(), rows.begin() + count);
      if (m.format != Format::int8 && count <= set.kernels->few_tokens) {
        ASSERT_TRUE(equal_bits(few(*set.kernels, m, some), products(reference, m, some)))
            << set.kernels->name << " " << quant::format_name(m.format) << " cols " << m.cols;
      }
      const bool int8 = m.format == Format::int8;
      const uint64_t stride = int8 ? 35 : 32;
      const std::vector<float> c =
          int8 ? tiled_as_stored(*set.kernels, m, some) : tiled(*set.kernels, m, some);
      if (int8 && set.kernels->take_heavy != nullptr) {
        ASSERT_TRUE(equal_bits(tiled_by_words(*set.kernels, m, some), c)) << set.kernels->name;
      }
      for (uint32_t t = 0; t < count; ++t) {
        ASSERT_EQ(std::memcmp(c.data() + t * stride, product(reference, m, rows[t]).data(), 128), 0)
            << set.kernels->name << " " << quant::format_name(m.format) << " cols " << m.cols << " token "
            << t;
        for (uint64_t beyond = 32; beyond < stride; ++beyond) ASSERT_EQ(c[t * stride + beyond], -2.0f);
      }
    }
  }
}

struct ByteCodes {
  std::vector<int8_t> codes;
  std::vector<Kernels::ByteBlock> blocks;
};

ByteCodes quantize_bytes(const Kernels& set, const Matrix& m, const float* x) {
  ByteCodes out{std::vector<int8_t>(m.cols), std::vector<Kernels::ByteBlock>(m.cols / 64)};
  set.quantize_bytes(m.format, x, m.cols, out.codes.data(), out.blocks.data());
  return out;
}

// Both panels of a call, then one alone.
std::vector<float> product(const Kernels& set, const Matrix& m, const ByteCodes& token) {
  std::vector<float> y(96);
  const auto gemv = set.gemv_bytes[static_cast<size_t>(m.format)];
  const std::byte* panel = m.panel.data();
  gemv(panel, panel, token.codes.data(), token.blocks.data(), m.cols, y.data(), y.data() + 32);
  gemv(panel, nullptr, token.codes.data(), token.blocks.data(), m.cols, y.data() + 64, nullptr);
  EXPECT_EQ(std::memcmp(y.data(), y.data() + 32, 128), 0);
  EXPECT_EQ(std::memcmp(y.data(), y.data() + 64, 128), 0);
  y.resize(32);
  return y;
}

// All tokens by the tile, in two blocks of columns.
std::vector<float> tiled(const Kernels& set, const Matrix& m, const std::vector<ByteCodes>& rows) {
  const uint32_t tile = set.gemm_tokens;
  std::vector<int8_t> a(m.cols * tile);
  std::vector<uint8_t> b(m.cols * 32);
  std::vector<Kernels::ByteBlock> blocks(m.cols / 64 * tile);
  std::vector<float> absmax(m.cols / 64 * 32), c(rows.size() * 35, -2.0f);
  for (uint32_t t = 0; t < rows.size(); ++t) {
    for (uint64_t k = 0; k < m.cols; ++k) a[(k / 4 * tile + t) * 4 + k % 4] = rows[t].codes[k];
    for (uint64_t s = 0; s < m.cols / 64; ++s) blocks[s * tile + t] = rows[t].blocks[s];
  }
  const uint64_t split = m.cols / 128 * 64;
  for (const auto& [begin, end] : {std::pair{uint64_t{0}, split}, std::pair{split, m.cols}}) {
    if (begin == end) continue;
    set.expand_bytes[static_cast<size_t>(m.format)](m.panel.data(), m.cols, begin, end - begin, b.data(),
                                                    absmax.data());
    set.tile_bytes({b.data(), absmax.data(), a.data() + begin * tile, blocks.data() + begin / 64 * tile,
                    static_cast<uint32_t>(rows.size()), (end - begin) / 64},
                   c.data(), 35, begin == 0);
  }
  return c;
}

// Up to few_tokens tokens straight from the panel.
std::vector<float> few(const Kernels& set, const Matrix& m, const std::vector<ByteCodes>& rows) {
  std::vector<int8_t> codes;
  std::vector<Kernels::ByteBlock> blocks;
  std::vector<float> y(rows.size() * 35, -2.0f);
  for (const ByteCodes& row : rows) {
    codes.insert(codes.end(), row.codes.begin(), row.codes.end());
    blocks.insert(blocks.end(), row.blocks.begin(), row.blocks.end());
  }
  set.few_bytes[static_cast<size_t>(m.format)](
      m.panel.data(), {codes.data(), m.cols, blocks.data(), m.cols / 64, static_cast<uint32_t>(rows.size())},
      m.cols, y.data(), 35);
  return y;
}

void check_bytes(const Kernels& set, const Matrix& m) {
  const Kernels& reference = select_kernels("reference");
  const std::vector<float> x = tokens(set.gemm_tokens, m.cols, 7);
  std::vector<ByteCodes> rows;
  for (uint32_t t = 0; t < set.gemm_tokens; ++t) {
    rows.push_back(quantize_bytes(set, m, x.data() + t * m.cols));
    const ByteCodes expected = quantize_bytes(reference, m, x.data() + t * m.cols);
    ASSERT_EQ(rows[t].codes, expected.codes) << set.name;
    for (size_t b = 0; b < expected.blocks.size(); ++b) {
      ASSERT_EQ(rows[t].blocks[b].scale, expected.blocks[b].scale) << set.name;
      ASSERT_EQ(rows[t].blocks[b].offset, expected.blocks[b].offset) << set.name;
    }
    ASSERT_TRUE(equal_bits(product(set, m, rows[t]), product(reference, m, rows[t])))
        << set.name << " " << quant::format_name(m.format) << " cols " << m.cols;
    const std::vector<float> c = tiled(set, m, rows);  // of this token and those before it
    const std::vector<float> at_once = t < set.few_tokens ? few(set, m, rows) : c;
    for (uint32_t i = 0; i <= t; ++i) {
      ASSERT_EQ(std::memcmp(at_once.data() + i * 35, c.data() + i * 35, 140), 0) << set.name << i;
      ASSERT_EQ(std::memcmp(c.data() + i * 35, product(reference, m, rows[i]).data(), 128), 0)
          << set.name << " " << quant::format_name(m.format) << " cols " << m.cols << " token " << i;
      for (uint32_t beyond = 32; beyond < 35; ++beyond) ASSERT_EQ(c[i * 35 + beyond], -2.0f);
    }
  }
}

// Weights while loading: every set gives the codec's codes and scales. The values lie on the bounds between
// codes, one step beside them, and at the ends of what floats hold.
TEST(KernelsQuantized, WeightBlocksEqualTheCodec) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (const Format format : {Format::nf4, Format::fp4}) {
    const quant::FourBitCode& code = quant::four_bit_code(format);
    std::vector<float> x;
    for (const float scale : {1.0f, 0.37f, 2e-39f, 1e-45f, 3e38f, 0.0f})
      for (int sign : {1, -1}) {
        x.push_back(sign * scale);
        for (uint32_t i = 1; i < quant::kBlockCols; ++i) {
          const float bound = code.bounds[i % 15] * scale;
          x.push_back(i < 16 ? bound : i < 32 ? std::nextafter(bound, 9.0f) : std::nextafter(bound, -9.0f));
        }
      }
    for (uint32_t i = 0; i < 40 * quant::kBlockCols; ++i)
      x.push_back(normal(random) * (i % 97 == 0 ? 30 : 1));
    const uint64_t blocks = x.size() / quant::kBlockCols;
    std::vector<uint8_t> expected(x.size());
    std::vector<float> scales(blocks);
    for (uint64_t b = 0; b < blocks; ++b)
      scales[b] =
          quant::four_bit_block(code, std::span(x).subspan(b * 64, 64), true, expected.data() + b * 64);
    for (const KernelSet& set : kernel_sets()) {
      if (!set.supported) continue;
      std::vector<uint8_t> codes(x.size() + 1, 77);
      std::vector<float> absmax(blocks);
      set.kernels->quantize_blocks(format, x.data(), blocks, codes.data(), absmax.data());
      EXPECT_EQ(codes.back(), 77) << set.kernels->name;
      codes.pop_back();
      EXPECT_EQ(codes, expected) << set.kernels->name << code.name;
      EXPECT_TRUE(equal_bits(absmax, scales)) << set.kernels->name << code.name;
    }
  }
}

TEST(KernelsQuantized, WeightRowsEqualTheCodec) {
  for (const KernelSet& set : kernel_sets()) {
    if (!set.supported) continue;
    for (const uint64_t cols : {1u, 7u, 8u, 64u, 75u, 300u}) {
      std::vector<float> x = tokens(1, cols, static_cast<uint32_t>(cols));
      for (float& value : x) value = round_to(Dtype::f16, value);
      std::vector<int8_t> codes(cols + 3), expected(cols);
      float scale = -1;
      set.kernels->quantize_int8(x.data(), cols, std::numeric_limits<float>::quiet_NaN(), codes.data(),
                                 &scale);
      EXPECT_EQ(scale, quant::int8_row(x, expected.data()));
      codes.resize(cols);
      EXPECT_EQ(codes, expected) << set.kernels->name << cols;
    }
  }
}

TEST(KernelsQuantized, WeightsThatAreNotFiniteAreTold) {
  for (const KernelSet& set : kernel_sets()) {
    if (!set.supported) continue;
    for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
      for (const uint32_t at : {0u, 63u}) {
        std::vector<float> x(3 * 64, 0.5f);
        x[64 + at] = bad;
        std::vector<uint8_t> codes(x.size());
        std::vector<float> absmax(3);
        set.kernels->quantize_blocks(Format::nf4, x.data(), 3, codes.data(), absmax.data());
        EXPECT_EQ(absmax[0], 0.5f);
        EXPECT_FALSE(std::isfinite(absmax[1])) << set.kernels->name;
        EXPECT_EQ(absmax[2], 0.5f);
        EXPECT_EQ(codes[191], 15);
      }
  }
}

TEST(KernelsQuantized, Int8SetsEqualTheReference) {
  for (const uint64_t cols : {1u, 3u, 4u, 17u, 64u, 129u, 576u})
    check_sets(matrix(Format::int8, 29, cols, static_cast<uint32_t>(cols)), 5);
}

// Codes and weights at their ends, where words of two products would overflow.
TEST(KernelsQuantized, HeavyPairsOfCodesAreSummedExactly) {
  constexpr uint64_t kCols = 1028;
  std::mt19937 random(11);
  std::vector<int8_t> weights(32 * kCols);
  for (uint64_t i = 0; i < weights.size(); ++i)
    weights[i] = static_cast<int8_t>(i / kCols % 3 == 0 ? 127 : i / kCols % 3 == 1 ? -128 : random() % 256);
  const std::vector<float> scb(32, 1.0f);
  Matrix m{Format::int8, kCols, kCols, std::vector<std::byte>(quant::panel_bytes(Format::int8, kCols))};
  quant::pack_int8_panel(weights, scb, kCols, m.panel);
  const auto fill = [&](auto code) {
    Codes codes{std::vector<int16_t>(kCols), {1.0f}};
    for (uint64_t k = 0; k < kCols; ++k)
      reinterpret_cast<int8_t*>(codes.storage.data())[k] = static_cast<int8_t>(code(k));
    return codes;
  };
  const std::vector<Codes> rows = {
      fill([](uint64_t) { return 127; }), fill([](uint64_t) { return -127; }),
      fill([](uint64_t k) { return k % 2 == 0 ? 64 : 64 + static_cast<int>(k / 2 % 2); }),
      fill([&](uint64_t) { return static_cast<int>(random() % 255) - 127; })};
  const std::vector<float> expected = products(select_kernels("reference"), m, rows);
  for (const KernelSet& set : kernel_sets()) {
    if (!set.supported) continue;
    const std::vector<float> c = tiled_as_stored(*set.kernels, m, rows);
    for (size_t t = 0; t < rows.size(); ++t)
      EXPECT_EQ(std::memcmp(c.data() + t * 35, expected.data() + t * 32, 128), 0) << set.kernels->name << t;
    if (set.kernels->take_heavy == nullptr) continue;
    EXPECT_TRUE(equal_bits(tiled_by_words(*set.kernels, m, rows), c)) << set.kernels->name;
    std::vector<int16_t> storage = rows[2].storage;  // pairs of 128 stay, those of 129 do not
    std::vector<uint32_t> heavy(kCols / 2);
    int32_t sum = 0;
    EXPECT_EQ(set.kernels->take_heavy(reinterpret_cast<int8_t*>(storage.data()), kCols, heavy.data(), &sum),
              kCols / 4);
    EXPECT_EQ(heavy[1], 7u * 256 + 65) << set.kernels->name;
    EXPECT_EQ(sum, static_cast<int32_t>(kCols / 4 * 3 * 64)) << set.kernels->name;
  }
}

TEST(KernelsQuantized, TwoDigitsEqualTheReference) {
  std::mt19937 random(5);
  for (const uint64_t cols : {4u, 12u, 72u, 580u, 4096u}) {
    const Matrix m = matrix(Format::int8, 31, cols, 3);
    std::vector<int8_t> high(cols), low(cols);
    for (uint64_t k = 0; k < cols; ++k) {
      high[k] = static_cast<int8_t>(static_cast<int>(random() % 255) - 127);
      low[k] = static_cast<int8_t>(k % 3 == 0 ? (random() % 2 == 0 ? -127 : 127) : 1);
    }
    std::vector<float> expected(32);
    select_kernels("reference").dot_digits(m.panel.data(), high.data(), low.data(), cols, expected.data());
    for (const KernelSet& set : kernel_sets()) {
      if (!set.supported) continue;
      std::vector<float> y(32);
      set.kernels->dot_digits(m.panel.data(), high.data(), low.data(), cols, y.data());
      EXPECT_EQ(std::memcmp(y.data(), expected.data(), 128), 0) << set.kernels->name << " " << cols;
    }
  }
}

TEST(KernelsQuantized, FourBitSetsEqualTheReference) {
  for (const Format format : kFourBit)
    for (const uint64_t cols : {64u, 128u, 320u, 64u * 172})
      check_sets(matrix(format, cols > 1000 ? 32 : 31, cols, static_cast<uint32_t>(cols)), 6);
}

TEST(KernelsQuantized, PairsAreTheDequantizedValuesInBf16) {
  for (const KernelSet& set : kernel_sets()) {
    if (!set.supported) continue;
    for (const Format format : kFourBit) {
      const auto expand = set.kernels->expand_pairs[static_cast<size_t>(format)];
      if (expand == nullptr) continue;
      const Matrix m = matrix(format, 31, 192, 4);
      std::vector<float> row(192);
      std::vector<uint32_t> out(128 / 2 * 32 + 1, 7);
      expand(m.panel.data(), 192, 64, 128, out.data());
      EXPECT_EQ(out.back(), 7u);
      for (uint32_t r = 0; r < 32; ++r) {
        quant::unpack_row(format, m.panel, r, 192, row.data());
        for (uint64_t k = 0; k < 128; ++k) {
          const uint32_t pair = out[k / 2 * 32 + r];
          const uint32_t half = k % 2 == 0 ? pair & 0xffff0000u : pair << 16;
          ASSERT_EQ(std::bit_cast<float>(half), round_to(Dtype::bf16, row[64 + k])) << set.kernels->name;
        }
      }
    }
  }
}

TEST(KernelsQuantized, OneTokenByPairsIsTheChainOfTheTile) {
  for (const KernelSet& set : kernel_sets()) {
    if (!set.supported) continue;
    const Kernels& kernels = *set.kernels;
    for (const Format format : kFourBit) {
      const auto f = static_cast<size_t>(format);
      if (kernels.expand_pairs[f] == nullptr) continue;
      for (const uint64_t cols : {64u, 320u, 64u * 172}) {
        const Matrix m = matrix(format, 32, cols, 11);
        const std::vector<float> x = tokens(1, cols, 12);
        std::vector<uint32_t> a(cols / 2 * kernels.gemm_tokens), b(cols / 2 * 32);
        std::vector<float> tile(32), y(96, -1.0f);
        kernels.pack_pairs(x.data(), cols, 1, 0, cols, a.data());
        kernels.expand_pairs[f](m.panel.data(), cols, 0, cols, b.data());
        kernels.tile_pairs(b.data(), a.data(), 1, cols / 2, tile.data(), 32, true);
        const auto gemv = kernels.dequantized[f].gemv;
        gemv(Dtype::bf16, m.panel.data(), m.panel.data(), x.data(), cols, y.data(), y.data() + 32);
        gemv(Dtype::bf16, m.panel.data(), nullptr, x.data(), cols, y.data() + 64, nullptr);
        for (uint32_t part = 0; part < 3; ++part)
          ASSERT_EQ(std::memcmp(tile.data(), y.data() + 32 * part, 128), 0)
              << kernels.name << " " << quant::format_name(format) << " cols " << cols;
      }
    }
  }
}

TEST(KernelsQuantized, NotFiniteActivationsGiveNotANumber) {
  for (const KernelSet& set : kernel_sets()) {
    if (!set.supported) continue;
    for (const Format format : {Format::int8, Format::nf4}) {
      const Matrix m = matrix(format, 32, 128, 9);
      std::vector<float> x = tokens(1, 128, 1);
      x[70] = NAN;
      EXPECT_TRUE(std::isnan(product(*set.kernels, m, quantize(*set.kernels, m, x.data()))[3]));
    }
  }
}

// The promise of docs/quantization.md: less error than a product of bfloat16 values has.
TEST(KernelsQuantized, FixedPointErrsLessThanBfloat16) {
  const Kernels& set = select_kernels();
  for (const Format format : {Format::nf4, Format::fp4}) {
    const Matrix m = matrix(format, 32, 4096, 8);
    const std::vector<float> x = tokens(1, 4096, 2);
    const std::vector<float> y = product(set, m, quantize(set, m, x.data()));
    double fixed = 0, half = 0, norm = 0;
    std::vector<float> row(4096);
    for (uint32_t r = 0; r < 32; ++r) {
      quant::unpack_row(format, m.panel, r, 4096, row.data());
      double exact = 0, rounded = 0;
      for (uint64_t k = 0; k < 4096; ++k) {
        exact += double{row[k]} * x[k];
        rounded += double{round_to(Dtype::bf16, row[k])} * x[k];
      }
      fixed += (y[r] - exact) * (y[r] - exact);
      half += (rounded - exact) * (rounded - exact);
      norm += exact * exact;
    }
    std::printf("%s: relative error, fixed point %.1e, bfloat16 weights %.1e\n", quant::format_name(format),
                std::sqrt(fixed / norm), std::sqrt(half / norm));
    EXPECT_LT(fixed, half / 4);
  }
}

TEST(KernelsQuantized, BytesOfFourBitSetsEqualTheReference) {
  for (const KernelSet& set : kernel_sets())
    for (const Format format : kFourBit)
      for (const uint64_t cols : {64u, 128u, 320u, 64u * 37})
        if (set.supported) check_bytes(*set.kernels, matrix(format, 31, cols, static_cast<uint32_t>(cols)));
}

TEST(KernelsQuantized, BytesOfActivationsThatAreNotFiniteGiveNotANumber) {
  for (const KernelSet& set : kernel_sets()) {
    if (!set.supported) continue;
    const Matrix m = matrix(Format::nf4, 32, 128, 9);
    std::vector<float> x = tokens(1, 128, 1);
    for (const float bad :
         {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      x[70] = bad;
      EXPECT_TRUE(std::isnan(product(*set.kernels, m, quantize_bytes(*set.kernels, m, x.data()))[3]));
    }
    std::fill(x.begin(), x.end(), 1e-31f);
    EXPECT_EQ(product(*set.kernels, m, quantize_bytes(*set.kernels, m, x.data()))[3], 0.0f);
  }
}

// The largest products: codes of 63 and bytes of 127 everywhere must not run into the ends of 16 bits.
TEST(KernelsQuantized, BytesHoldTheirLargestSums) {
  for (const Format format : {Format::nf4, Format::fp4}) {
    const quant::FourBitCode& code = quant::four_bit_code(format);
    for (const uint8_t byte : code.bytes) EXPECT_LE(byte, 127);
    std::vector<uint8_t> codes(32 * 64, format == Format::nf4 ? 15 : 3);  // 1.0
    Matrix m{format, 64, 64, std::vector<std::byte>(quant::panel_bytes(format, 64))};
    quant::pack_four_bit_panel(format, codes, 32, 64, m.panel);
    const float absmax = 1.0f;
    for (uint32_t r = 0; r < 32; ++r) quant::set_block_scales(m.panel, r, std::span(&absmax, 1));
    for (const KernelSet& set : kernel_sets()) {
      if (!set.supported) continue;
      for (const float sign : {1.0f, -1.0f}) {
        const std::vector<float> x(64, sign * 3.0f);
        EXPECT_NEAR(product(*set.kernels, m, quantize_bytes(*set.kernels, m, x.data()))[5], sign * 192.0f,
                    1e-3f)
            << set.kernels->name;
      }
    }
  }
}

// The figure of docs/quantization.md.
TEST(KernelsQuantized, BytesErrAsStated) {
  const Kernels& set = select_kernels();
  for (const Format format : {Format::nf4, Format::fp4}) {
    const Matrix m = matrix(format, 32, 4096, 8);
    const std::vector<float> x = tokens(1, 4096, 2);
    const std::vector<float> y = product(set, m, quantize_bytes(set, m, x.data()));
    double error = 0, norm = 0;
    std::vector<float> row(4096);
    for (uint32_t r = 0; r < 32; ++r) {
      quant::unpack_row(format, m.panel, r, 4096, row.data());
      double exact = 0;
      for (uint64_t k = 0; k < 4096; ++k) exact += double{row[k]} * x[k];
      error += (y[r] - exact) * (y[r] - exact);
      norm += exact * exact;
    }
    std::printf("%s: relative error of bytes %.1e\n", quant::format_name(format), std::sqrt(error / norm));
    EXPECT_LT(error, norm * 9e-4);  // 3e-2
  }
}

// Marks, dequantized columns and their narrow product, of every set, against their meaning.
void check_outliers(const Kernels& set, uint64_t cols, uint32_t seed) {
  const Matrix m = matrix(Format::int8, 32, cols, seed);
  const uint32_t count = set.gemm_tokens;
  const std::vector<float> x = tokens(count, cols, seed + 1);
  std::vector<uint32_t> marks((cols + 31) / 32, ~0u), columns;
  set.mark_outliers(x.data(), cols, 6.0f, marks.data());
  for (uint32_t k = 0; k < marks.size() * 32; ++k) {
    const bool outlier = k < cols && std::fabs(round_to(Dtype::f16, x[k])) >= 6.0f;
    ASSERT_EQ(marks[k / 32] >> k % 32 & 1, outlier ? 1u : 0u) << set.name << k;
    if (k < cols && (outlier || k % 5 == 0)) columns.push_back(k);
  }
  std::vector<float> b(columns.size() * 32), c(count * 33, -2.0f);
  set.expand_int8_columns(Dtype::bf16, m.panel.data(), columns.data(), columns.size(), b.data());
  for (const bool first : {true, false})  // the same columns twice: the second pass continues the chains
    set.tile_columns({b.data(), x.data(), cols, columns.data(), columns.size(), count}, c.data(), 33, first);
  for (uint32_t row = 0; row < 32; ++row) {
    std::vector<float> w(cols);
    quant::unpack_row(Format::int8, m.panel, row, cols, w.data());
    for (size_t i = 0; i < columns.size(); ++i)
      ASSERT_EQ(b[i * 32 + row], round_to(Dtype::bf16, w[columns[i]])) << set.name;
    for (uint32_t t = 0; t < count; ++t) {
      float sum = 0.0f;
      for (int pass = 0; pass < 2; ++pass)
        for (size_t i = 0; i < columns.size(); ++i)
          sum = std::fma(x[t * cols + columns[i]], b[i * 32 + row], sum);
      ASSERT_EQ(c[t * 33 + row], sum) << set.name;
    }
  }
  for (uint32_t t = 0; t < count; ++t) ASSERT_EQ(c[t * 33 + 32], -2.0f);
}

TEST(KernelsQuantized, OutlierColumnsAreFoundAndMultiplied) {
  for (const KernelSet& set : kernel_sets())
    for (uint64_t cols : {3u, 32u, 64u, 76u, 260u})
      if (set.supported) check_outliers(*set.kernels, cols, static_cast<uint32_t>(cols));
}

}  // namespace
}  // namespace rhapsode::kernels
