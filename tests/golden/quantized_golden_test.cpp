// Quantized matrices equal to bitsandbytes' own, bit for bit: codes, scales and dequantized values.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/json.h"
#include "models/paths.h"
#include "models/seeded_matrix.h"
#include "quant/codec.h"

namespace rhapsode::quant {
namespace {

Json fixture() {
  return read_json_file(paths::fixtures() + "/golden/quantized.json");
}

class Hash {
 public:
  void add(const void* data, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i)
      hash_ = (hash_ ^ static_cast<const uint8_t*>(data)[i]) * 1099511628211ull;
  }
  std::string text() const {
    char out[17];
    std::snprintf(out, sizeof out, "%016llx", static_cast<unsigned long long>(hash_));
    return out;
  }

 private:
  uint64_t hash_ = 14695981039346656037ull;
};

// As a tensor of `dtype` stores it; -0 and 0 are one.
void add_value(Hash& hash, Dtype dtype, float value) {
  value = value == 0.0f ? 0.0f : value;
  if (dtype == Dtype::f32) return hash.add(&value, 4);
  const uint16_t bits = dtype == Dtype::bf16 ? float_to_bf16(value) : float_to_f16(value);
  hash.add(&bits, 2);
}

struct Hashes {
  Hash codes, scales, values;
};

Hashes int8_matrix(std::vector<float> x, uint64_t cols) {
  Hashes out;
  std::vector<int8_t> codes(cols);
  for (float& value : x) value = round_to(Dtype::f16, value);
  for (uint64_t begin = 0; begin < x.size(); begin += cols) {
    const float scb = int8_row(std::span(x).subspan(begin, cols), codes.data());
    out.codes.add(codes.data(), cols);
    out.scales.add(&scb, 4);
    for (const int8_t code : codes) {
      const float value = int8_value(code, scb);
      out.values.add(&value, 4);
    }
  }
  return out;
}

Hashes four_bit_matrix(const FourBitCode& code, const std::vector<float>& x, Dtype dtype) {
  Hashes out;
  std::vector<uint8_t> codes(x.size() + x.size() % 2);
  // The padding of an odd count is a zero.
  codes.back() =
      code.order[static_cast<size_t>(std::lower_bound(code.bounds, code.bounds + 15, 0.0f) - code.bounds)];
  for (size_t begin = 0; begin < x.size(); begin += kBlockCols) {
    const size_t count = std::min<size_t>(kBlockCols, x.size() - begin);
    const float absmax =
        four_bit_block(code, std::span(x).subspan(begin, count), count == kBlockCols, codes.data() + begin);
    out.scales.add(&absmax, 4);
    for (size_t i = begin; i < begin + count; ++i)
      add_value(out.values, dtype, four_bit_value(code, codes[i], absmax, dtype));
  }
  for (size_t i = 0; i < codes.size(); i += 2) {
    const auto byte = static_cast<uint8_t>(codes[i] << 4 | codes[i + 1]);
    out.codes.add(&byte, 1);
  }
  return out;
}

TEST(QuantizedGolden, EveryMatrixEqualsTheLibrarys) {
  const Json cases = fixture()["cases"];
  ASSERT_GE(cases.size(), 200u);
  for (const Json& c : cases) {
    const uint64_t rows = c["rows"], cols = c["cols"];
    const Dtype dtype = *dtype_from_name(c["dtype"].get<std::string>());
    std::vector<float> x = seeded_matrix(c["seed"], rows * cols, c["spread"].get<float>());
    for (uint64_t k = 0; c["zero_row"].get<bool>() && k < cols; ++k) x[k] = 0.0f;
    for (float& value : x) value = round_to(dtype, value);
    const Hashes found = c["kind"] == "int8" ? int8_matrix(x, cols)
                                             : four_bit_matrix(c["kind"] == "nf4" ? kNf4 : kFp4, x, dtype);
    const std::string name = c.dump();
    EXPECT_EQ(found.codes.text(), c["codes"]) << name;
    EXPECT_EQ(found.scales.text(), c["scales"]) << name;
    EXPECT_EQ(found.values.text(), c["values"]) << name;
  }
}

// Nested codes are exact nearest, the library's own look-up may be a neighbour: how far at most, its record
// says in units of the nested absmax. Offsets are means summed up in another order.
TEST(QuantizedGolden, NestedScalesAreTheLibrarysWithinWhatItsLookUpMisses) {
  for (const Json& c : fixture()["nested"]) {
    const uint64_t rows = c["rows"], cols = c["cols"];
    std::vector<float> x = seeded_matrix(c["seed"], rows * cols, 1.0f), absmax;
    for (float& value : x) value = round_to(Dtype::bf16, value);
    uint8_t codes[kBlockCols];
    for (size_t b = 0; b < x.size(); b += kBlockCols)
      absmax.push_back(four_bit_block(kNf4, std::span(x).subspan(b, kBlockCols), true, codes));
    const NestedScales nested = nest_scales(absmax);
    const float ulp = 6e-8f, offset = c["offset"].get<float>();
    EXPECT_NEAR(nested.offset, offset, 8 * ulp * offset);
    ASSERT_EQ(nested.absmax.size(), c["nested_absmax"].size());
    ASSERT_EQ(absmax.size(), c["absmax"].size());
    for (size_t i = 0; i < nested.absmax.size(); ++i)
      EXPECT_NEAR(nested.absmax[i], c["nested_absmax"][i].get<float>(), 16 * ulp * offset);
    size_t apart = 0;
    for (size_t i = 0; i < absmax.size(); ++i) {
      const float size = nested.absmax[i / kNestedBlocks];
      const float value = nested_value(kNestedMap.values[nested.codes[i]], size, nested.offset);
      const float expected = std::bit_cast<float>(c["absmax"][i].get<uint32_t>());
      EXPECT_NEAR(value, expected, c["furthest"].get<float>() * size + 32 * ulp * offset) << i;
      if (std::fabs(value - expected) > 32 * ulp * offset) ++apart;
    }
    EXPECT_LE(apart, c["codes_off"].get<size_t>() + 2);  // a mean that differs in its last bit may flip a tie
  }
}

}  // namespace
}  // namespace rhapsode::quant
