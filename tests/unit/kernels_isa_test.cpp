// Every kernel set of this build against the reference, bit for bit: odd shapes, all types, outliers,
// subnormals, -0. A set that this CPU cannot run is named in the output, not passed over in silence.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

constexpr Dtype kTypes[] = {Dtype::f32, Dtype::f16, Dtype::bf16};
constexpr Format kFormats[] = {Format::f32, Format::f16, Format::bf16};
constexpr uint64_t kLengths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 100, 129, 577};

const Kernels& reference() {
  return select_kernels("reference");
}

std::vector<const Kernels*> others() {
  std::vector<const Kernels*> sets;
  for (const KernelSet& set : kernel_sets())
    if (set.supported && set.kernels->name != "reference") sets.push_back(set.kernels);
  return sets;
}

struct Source {
  std::mt19937 random;
  explicit Source(uint32_t seed) : random(seed) {}

  // Mostly normal values, some outliers, subnormals and zeros of both signs.
  float value() {
    const float x = std::normal_distribution<float>()(random);
    switch (random() % 32) {
      case 0:
        return x * 300.0f;
      case 1:
        return x * 1e-39f;
      case 2:
        return -0.0f;
      case 3:
        return 0.0f;
      case 4:
        return x * 1e-4f;
      default:
        return x;
    }
  }
  std::vector<float> row(uint64_t n, Dtype D = Dtype::f32) {
    std::vector<float> values(n);
    for (float& x : values) x = round_to(D, value());
    return values;
  }
};

// Equal bit for bit; one NaN is as good as another.
testing::AssertionResult same(const std::vector<float>& expected, const std::vector<float>& found) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(expected[i]) && std::isnan(found[i])) continue;
    if (std::bit_cast<uint32_t>(expected[i]) != std::bit_cast<uint32_t>(found[i])) {
      char text[128];
      std::snprintf(text, sizeof text, "element %zu of %zu: %a, the reference has %a", i, expected.size(),
                    static_cast<double>(found[i]), static_cast<double>(expected[i]));
      return testing::AssertionFailure() << text;
    }
  }
  return testing::AssertionSuccess();
}

std::string label(const Kernels& set, Dtype D, uint64_t n) {
  return std::string(set.name) + " " + std::string(dtype_name(D)) + " n=" + std::to_string(n);
}

// A matrix of `rows` <= 32 rows packed as one panel.
std::vector<std::byte> panel_of(Source& source, Format format, uint32_t rows, uint64_t cols) {
  const std::vector<float> values = source.row(rows * cols);
  std::vector<std::byte> panel(quant::panel_bytes(format, cols));
  quant::pack_panel(format, Dtype::f32, std::as_bytes(std::span(values)), rows, cols, panel);
  return panel;
}

TEST(KernelsIsa, SaysWhichSetsWereNotExecuted) {
  for (const KernelSet& set : kernel_sets()) {
    if (set.supported) {
#ifdef RHAPSODE_EMULATED
      const bool emulated = set.kernels->name.starts_with("avx512");
#else
      const bool emulated = false;
#endif
      std::printf("%s here: %.*s\n", emulated ? "emulated" : "executed",
                  static_cast<int>(set.kernels->name.size()), set.kernels->name.data());
    } else {
      std::printf("not executed here: %.*s (needs %.*s)\n", static_cast<int>(set.kernels->name.size()),
                  set.kernels->name.data(), static_cast<int>(set.needs.size()), set.needs.data());
    }
  }
  for (const KernelSet& set : kernel_sets()) {
    if (set.kernels->name.starts_with("reference")) {
      EXPECT_TRUE(set.supported);
    }
  }
}

TEST(KernelsIsa, SetsAreChosenByName) {
  EXPECT_EQ(select_kernels("reference").name, "reference");
  for (const KernelSet& set : kernel_sets()) {
    if (!set.supported) {
      try {
        select_kernels(set.kernels->name);
        FAIL();
      } catch (const Error& error) {
        EXPECT_EQ(error.code, "isa-not-available");
        EXPECT_EQ(error.kind, ErrorKind::unsupported);
      }
    }
  }
  for (const KernelSet& set : kernel_sets()) {
    if (!set.supported) continue;
    EXPECT_EQ(select_kernels().name, set.kernels->name);  // the best one
    break;
  }
  try {
    select_kernels("mmx");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, "unknown-isa");
    EXPECT_EQ(error.kind, ErrorKind::usage);
  }
}

TEST(KernelsIsa, GemvIsOneChainAnOutput) {
  Source source(1);
  for (const Kernels* set : others()) {
    for (Format format : kFormats) {
      for (uint64_t cols : {2u, 4u, 6u, 64u, 130u, 578u}) {
        const std::vector<std::byte> a = panel_of(source, format, 32, cols),
                                     b = panel_of(source, format, 19, cols);
        const std::vector<float> x = source.row(cols);
        std::vector<float> expected(64), pair(64), alone(64);
        const size_t f = static_cast<size_t>(format);
        reference().gemv[f](a.data(), b.data(), x.data(), cols, expected.data(), expected.data() + 32);
        set->gemv[f](a.data(), b.data(), x.data(), cols, pair.data(), pair.data() + 32);
        set->gemv[f](a.data(), nullptr, x.data(), cols, alone.data(), nullptr);
        set->gemv[f](b.data(), nullptr, x.data(), cols, alone.data() + 32, nullptr);
        ASSERT_TRUE(same(expected, pair)) << set->name << quant::format_name(format) << cols;
        ASSERT_TRUE(same(expected, alone)) << set->name << quant::format_name(format) << cols;
      }
    }
  }
}

TEST(KernelsIsa, ReferenceGemvIsTheMatrixProduct) {
  Source source(2);
  for (Format format : kFormats) {
    const uint64_t cols = 101;
    const std::vector<std::byte> panel = panel_of(source, format, 32, cols);
    std::vector<float> x = source.row(cols), y(32), row(cols);
    x.push_back(0.0f);
    reference().gemv[static_cast<size_t>(format)](panel.data(), nullptr, x.data(), cols + 1, y.data(),
                                                  nullptr);
    for (uint32_t r = 0; r < 32; ++r) {
      quant::unpack_row(format, panel, r, cols, row.data());
      double sum = 0, size = 0;
      for (uint64_t k = 0; k < cols; ++k) {
        sum += static_cast<double>(row[k]) * x[k];
        size += std::fabs(static_cast<double>(row[k]) * x[k]);
      }
      EXPECT_NEAR(y[r], sum, size * 1e-6);
    }
  }
}

TEST(KernelsIsa, ExpandGivesBackTheColumns) {
  Source source(3);
  const uint64_t cols = 70;
  for (const KernelSet& entry : kernel_sets()) {
    if (!entry.supported) continue;
    for (Format format : kFormats) {
      const std::vector<std::byte> panel = panel_of(source, format, 27, cols);
      std::vector<float> row(cols);
      for (const auto& [begin, count] :
           {std::pair{0u, 70u}, std::pair{2u, 5u}, std::pair{64u, 6u}, std::pair{68u, 1u}}) {
        std::vector<float> out(32 * count + 1, 7.0f);
        entry.kernels->expand[static_cast<size_t>(format)](panel.data(), cols, begin, count, out.data());
        EXPECT_EQ(out.back(), 7.0f);  // nothing beyond the columns asked for
        for (uint32_t r = 0; r < 32; ++r) {
          quant::unpack_row(format, panel, r, cols, row.data());
          for (uint64_t k = 0; k < count; ++k) ASSERT_EQ(out[k * 32 + r], row[begin + k]);
        }
      }
    }
  }
}

// One 32-row product through pack_tokens and gemm_tile of a set, in pieces of k.
std::vector<float> tiled(const Kernels& set, const std::vector<float>& b, const std::vector<float>& x,
                         uint32_t tokens, uint64_t cols) {
  const uint64_t stride = 35;  // the three floats between rows of c must stay as they are
  std::vector<float> c(tokens * stride, -3.0f), a(cols * set.gemm_tokens);
  for (uint32_t t = 0; t < tokens; t += set.gemm_tokens) {
    const uint32_t rows = std::min(set.gemm_tokens, tokens - t);
    for (uint64_t k = 0; k < cols; k += 37) {
      const uint64_t count = std::min<uint64_t>(37, cols - k);
      set.pack_tokens(x.data() + t * cols, cols, rows, k, count, a.data());
      set.gemm_tile(b.data() + k * 32, a.data(), rows, count, c.data() + t * stride, stride, k == 0);
    }
  }
  return c;
}

TEST(KernelsIsa, GemmTileContinuesTheSameChainsAsGemv) {
  Source source(4);
  for (uint64_t cols : {2u, 36u, 38u, 130u}) {
    const std::vector<std::byte> panel = panel_of(source, Format::bf16, 32, cols);
    std::vector<float> b(cols * 32);
    reference().expand[static_cast<size_t>(Format::bf16)](panel.data(), cols, 0, cols, b.data());
    const uint32_t most = 26;
    const std::vector<float> x = source.row(most * cols);
    for (uint32_t tokens = 1; tokens <= most; ++tokens) {
      const std::vector<float> expected = tiled(reference(), b, x, tokens, cols);
      for (const Kernels* set : others())
        ASSERT_TRUE(same(expected, tiled(*set, b, x, tokens, cols))) << set->name << tokens << "x" << cols;
      std::vector<float> y(32);
      reference().gemv[static_cast<size_t>(Format::bf16)](
          panel.data(), nullptr, x.data() + (tokens - 1) * cols, cols, y.data(), nullptr);
      const float* last = expected.data() + (tokens - 1) * 35;
      ASSERT_TRUE(same(y, std::vector<float>(last, last + 32)));
    }
  }
}

TEST(KernelsIsa, TilesOfNoColumnsStartFromZeroOrLeaveTheSums) {
  const float nothing = 0.0f;
  std::vector<const Kernels*> all = others();
  all.push_back(&reference());
  for (const Kernels* set : all) {
    std::vector<float> c(set->gemm_tokens * 35, 4.0f);
    set->gemm_tile(&nothing, &nothing, set->gemm_tokens, 0, c.data(), 35, false);
    EXPECT_EQ(c[34], 4.0f);
    EXPECT_EQ(c[0], 4.0f) << set->name;
    set->gemm_tile(&nothing, &nothing, set->gemm_tokens, 0, c.data(), 35, true);
    for (uint32_t t = 0; t < set->gemm_tokens; ++t)
      for (uint32_t row = 0; row < 35; ++row) ASSERT_EQ(c[t * 35 + row], row < 32 ? 0.0f : 4.0f) << set->name;
  }
}

TEST(KernelsIsa, FewTokensAreTheSameChainsAsGemv) {
  Source source(5);
  std::vector<const Kernels*> all = others();
  all.push_back(&reference());
  for (const Format format : {Format::f32, Format::f16, Format::bf16}) {
    for (const uint64_t cols : {2u, 36u, 254u, 256u, 258u, 770u}) {
      const std::vector<std::byte> panel = panel_of(source, format, 32, cols);
      for (const Kernels* set : all) {
        const uint32_t tile = set->gemm_tokens;
        const std::vector<float> x = source.row(tile * cols);
        for (uint32_t tokens = 1; tokens <= tile; ++tokens) {
          std::vector<float> a(cols * tile), c(tokens * 35, 5.0f), y(32);
          set->pack_tokens(x.data(), cols, tokens, 0, cols, a.data());
          set->few_dense[static_cast<size_t>(format)](panel.data(), a.data(), tokens, cols, c.data(), 35);
          for (uint32_t t = 0; t < tokens; ++t) {
            reference().gemv[static_cast<size_t>(format)](panel.data(), nullptr, x.data() + t * cols, cols,
                                                          y.data(), nullptr);
            const float* row = c.data() + t * 35;
            ASSERT_TRUE(same(y, std::vector<float>(row, row + 32))) << set->name << tokens << "x" << cols;
            for (uint32_t beyond = 32; beyond < 35; ++beyond) ASSERT_EQ(row[beyond], 5.0f);
          }
        }
      }
    }
  }
}

// Tokens of bf16 times a panel by the pairs of a set: in pieces of k, or in one as the panel is stored.
std::vector<float> tiled_pairs(const Kernels& set, const std::vector<std::byte>& panel,
                               const std::vector<float>& x, uint32_t tokens, uint64_t cols, uint64_t piece) {
  std::vector<float> c(tokens * 35, -3.0f);
  std::vector<uint32_t> a(cols / 2 * set.gemm_tokens), b(piece / 2 * 32);
  for (uint64_t k = 0; k < cols; k += piece) {
    const uint64_t count = std::min(piece, cols - k);
    set.pack_pairs(x.data(), cols, tokens, k, count, a.data());
    set.expand_pairs[static_cast<size_t>(Format::bf16)](panel.data(), cols, k, count, b.data());
    set.tile_pairs(b.data(), a.data(), tokens, count / 2, c.data(), 35, k == 0);
  }
  return c;
}
std::vector<float> few_pairs(const Kernels& set, const std::vector<std::byte>& panel,
                             const std::vector<float>& x, uint32_t tokens, uint64_t cols) {
  std::vector<float> c(tokens * 35, -3.0f);
  std::vector<uint32_t> a(cols / 2 * set.gemm_tokens);
  set.pack_pairs(x.data(), cols, tokens, 0, cols, a.data());
  set.few_pairs(panel.data(), a.data(), tokens, cols / 2, c.data(), 35);
  return c;
}

// Values of bf16 with zeros for those below 2^-126, which an instruction for pairs takes for zero.
std::vector<float> without_subnormals(std::vector<float> values) {
  for (float& x : values)
    if (std::fabs(x) < 0x1p-126f) x = 0.0f;
  return values;
}

TEST(KernelsIsa, PairsOfBf16AreTheSameChainsAsGemv) {
  Source source(6);
  for (const Kernels* set : others()) {
    if (set->tile_pairs == nullptr) continue;
    for (const uint64_t cols : {2u, 36u, 128u, 130u, 258u, 770u}) {
      const std::vector<float> weights = without_subnormals(source.row(32 * cols, Dtype::bf16));
      std::vector<std::byte> panel(quant::panel_bytes(Format::bf16, cols));
      quant::pack_panel(Format::bf16, Dtype::f32, std::as_bytes(std::span(weights)), 32, cols, panel);
      const std::vector<float> x = without_subnormals(source.row(set->gemm_tokens * cols, Dtype::bf16));
      for (uint32_t tokens = 1; tokens <= set->gemm_tokens; ++tokens) {
        for (const auto& c :
             {tiled_pairs(*set, panel, x, tokens, cols, cols), tiled_pairs(*set, panel, x, tokens, cols, 34),
              few_pairs(*set, panel, x, tokens, cols)}) {
          for (uint32_t t = 0; t < tokens; ++t) {
            std::vector<float> y(32);
            reference().gemv[static_cast<size_t>(Format::bf16)](panel.data(), nullptr, x.data() + t * cols,
                                                                cols, y.data(), nullptr);
            const float* row = c.data() + t * 35;
            ASSERT_TRUE(same(y, std::vector<float>(row, row + 32))) << set->name << tokens << "x" << cols;
            for (uint32_t beyond = 32; beyond < 35; ++beyond) ASSERT_EQ(row[beyond], -3.0f);
          }
        }
      }
    }
  }
}

// Runs a row kernel in place on each set and compares; one float beyond the row must stay.
template <class Call>
void compare_rows(uint32_t seed, Call call, Dtype input = Dtype::f32) {
  Source source(seed);
  for (const Kernels* set : others()) {
    for (Dtype D : kTypes) {
      for (uint64_t n : kLengths) {
        std::vector<float> x = source.row(n, input), y = source.row(n), z = source.row(n);
        x.push_back(5.0f);
        std::vector<float> expected = x;
        call(reference(), D, expected.data(), y.data(), z.data(), n);
        call(*set, D, x.data(), y.data(), z.data(), n);
        ASSERT_EQ(x.back(), 5.0f) << label(*set, D, n);
        ASSERT_TRUE(same(expected, x)) << label(*set, D, n);
      }
    }
  }
}

TEST(KernelsIsa, SimpleRows) {
  compare_rows(10, [](const Kernels& k, Dtype D, float* x, const float*, const float*, uint64_t n) {
    k.round_row(D, x, n);
  });
  compare_rows(11, [](const Kernels& k, Dtype D, float* x, const float* y, const float*, uint64_t n) {
    k.add(D, x, y, n);
  });
  compare_rows(12, [](const Kernels& k, Dtype, float* x, const float* y, const float*, uint64_t n) {
    k.add_bias(x, y, n);
  });
  compare_rows(13, [](const Kernels& k, Dtype D, float* x, const float*, const float*, uint64_t n) {
    k.scale(D, x, 59.866518f, n);
  });
  compare_rows(14, [](const Kernels& k, Dtype D, float* x, const float*, const float*, uint64_t n) {
    k.softcap(D, x, 30.0f, n);
  });
}

TEST(KernelsIsa, SumsBecomeRowsThatLieApart) {
  Source source(15);
  for (const Kernels* set : others()) {
    for (Dtype D : kTypes) {
      const uint32_t tokens = 13, stride = 37;
      const std::vector<float> sums = source.row(tokens * 32);
      std::vector<float> expected(tokens * stride, 5.0f), y = expected;
      reference().round_sums(D, sums.data(), tokens, expected.data(), stride);
      set->round_sums(D, sums.data(), tokens, y.data(), stride);
      ASSERT_TRUE(same(expected, y)) << label(*set, D, stride);
      EXPECT_EQ(y[32], 5.0f);
      EXPECT_EQ(y[stride + 3], round_to(D, sums[32 + 3]));
    }
  }
}

TEST(KernelsIsa, Norms) {
  compare_rows(20, [](const Kernels& k, Dtype D, float* x, const float* w, const float*, uint64_t n) {
    k.rms_norm_l(D, x, w, n, 1e-5f, x);
  });
  compare_rows(21, [](const Kernels& k, Dtype D, float* x, const float* w, const float*, uint64_t n) {
    k.rms_norm_g(D, x, w, n, 1e-6f, x);
  });
  compare_rows(22, [](const Kernels& k, Dtype D, float* x, const float* w, const float* b, uint64_t n) {
    k.layer_norm(D, x, w, b, n, 1e-5f, x);
  });
  compare_rows(23, [](const Kernels& k, Dtype D, float* x, const float* w, const float*, uint64_t n) {
    k.layer_norm(D, x, w, nullptr, n, 1e-12f, x);
  });
}

TEST(KernelsIsa, Rope) {
  compare_rows(30, [](const Kernels& k, Dtype D, float* x, const float* c, const float* s, uint64_t n) {
    k.rope(D, x, c, s, static_cast<uint32_t>(n / 2 * 2));
  });
}

TEST(KernelsIsa, Activations) {
  for (Activation act : {Activation::silu, Activation::gelu_tanh, Activation::gelu_new, Activation::gelu_erf,
                         Activation::relu2, Activation::relu}) {
    SCOPED_TRACE(static_cast<int>(act));
    compare_rows(40, [=](const Kernels& k, Dtype D, float* x, const float*, const float*, uint64_t n) {
      k.activate(act, D, x, n);
    });
    compare_rows(41, [=](const Kernels& k, Dtype D, float* x, const float* up, const float*, uint64_t n) {
      k.activate_mul(act, D, x, up, n);
    });
  }
}

// Every exponent and sign, and the values at which something changes.
std::vector<float> hard_values() {
  std::vector<float> values = {0.0f,
                               -0.0f,
                               INFINITY,
                               -INFINITY,
                               NAN,
                               -NAN,
                               65504.0f,
                               65519.99f,
                               65520.0f,
                               1e-45f,
                               88.72f,
                               88.73f,
                               89.0f,
                               -87.4f,
                               -103.9f,
                               -104.0f,
                               -150.0f,
                               0.625f,
                               4.0f,
                               1.0f,
                               std::bit_cast<float>(0x7f800001u),
                               std::bit_cast<float>(0xffa00000u)};
  std::mt19937 random(5);
  for (uint32_t exponent = 0; exponent < 256; ++exponent)
    for (int i = 0; i < 24; ++i)
      values.push_back(
          std::bit_cast<float>(static_cast<uint32_t>((exponent << 23) | (random() & 0x807fffffu))));
  for (uint32_t half = 0; half < 0x10000u; half += 3)  // ties between halves and between bfloats
    values.push_back(std::bit_cast<float>((half << 16) | 0x8000u));
  for (uint32_t half = 1; half < 0x7c00u; half += 5)
    values.push_back(
        (f16_to_float(static_cast<uint16_t>(half)) + f16_to_float(static_cast<uint16_t>(half - 1))) / 2);
  return values;
}

TEST(KernelsIsa, ConversionsAgreeOnEveryHardValue) {
  const std::vector<float> values = hard_values();
  for (const Kernels* set : others()) {
    for (Dtype D : kTypes) {
      for (uint64_t n : {values.size(), size_t{1}, size_t{13}}) {
        std::vector<uint8_t> expected(4 * n + 1, 0xaa), found(4 * n + 1, 0xaa);
        reference().store(D, values.data(), n, expected.data());
        set->store(D, values.data(), n, found.data());
        ASSERT_EQ(expected, found) << label(*set, D, n);  // NaN payloads too
        std::vector<float> back(n + 1, 5.0f), again(n + 1, 5.0f), rounded(values.begin(), values.begin() + n);
        reference().load(D, expected.data(), n, back.data());
        set->load(D, expected.data(), n, again.data());
        ASSERT_EQ(0, std::memcmp(back.data(), again.data(), 4 * n + 4)) << label(*set, D, n);
        set->round_row(D, rounded.data(), n);
        ASSERT_EQ(0, std::memcmp(back.data(), rounded.data(), 4 * n)) << label(*set, D, n);
      }
    }
    // Every half, signalling NaNs included, is loaded alike.
    std::vector<uint16_t> halves(0x10000);
    for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
    for (Dtype D : {Dtype::f16, Dtype::bf16}) {
      std::vector<float> expected(halves.size()), found(halves.size());
      reference().load(D, halves.data(), halves.size(), expected.data());
      set->load(D, halves.data(), halves.size(), found.data());
      ASSERT_EQ(0, std::memcmp(expected.data(), found.data(), 4 * halves.size())) << label(*set, D, 0);
    }
  }
}

TEST(KernelsIsa, FunctionsAgreeOnEveryHardValue) {
  const std::vector<float> values = hard_values();
  for (const Kernels* set : others()) {
    for (Dtype D : kTypes) {
      for (Activation act : {Activation::silu, Activation::gelu_tanh, Activation::gelu_new,
                             Activation::gelu_erf, Activation::relu2, Activation::relu}) {
        std::vector<float> expected = values, found = values;
        reference().activate(act, D, expected.data(), expected.size());
        set->activate(act, D, found.data(), found.size());
        ASSERT_TRUE(same(expected, found)) << label(*set, D, values.size()) << " " << static_cast<int>(act);
      }
      std::vector<float> expected = values, found = values;
      reference().softcap(D, expected.data(), 50.0f, expected.size());
      set->softcap(D, found.data(), 50.0f, found.size());
      ASSERT_TRUE(same(expected, found)) << label(*set, D, values.size());
    }
  }
}

}  // namespace
}  // namespace rhapsode::kernels
