// Ternary weights and int8 activations against what transformers computes, bit for bit
// (tools/golden/ternary_vectors.py).
#include "quant/ternary.h"
#include "models/paths.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "base/input_file.h"
#include "base/json.h"
#include "tensor/dtype.h"

namespace rhapsode::quant {
namespace {

const Json& vectors() {
  static const Json json = read_json_file(paths::fixtures() + "/golden/ternary.json");
  return json;
}

Dtype dtype_of(const Json& row) {
  return *dtype_from_torch_name(row.at("dtype").get<std::string>());
}

float value_of(Dtype dtype, uint32_t bits) {
  return dtype == Dtype::bf16 ? bf16_to_float(static_cast<uint16_t>(bits)) : std::bit_cast<float>(bits);
}

std::vector<float> floats(const Json& row, const char* key) {
  std::vector<float> out;
  for (const Json& bits : row.at(key)) out.push_back(value_of(dtype_of(row), bits.get<uint32_t>()));
  return out;
}

TEST(Ternary, BytesHoldStackedQuarters) {
  const Json& packed = vectors().at("packed");
  const auto rows = packed.at("rows").get<uint64_t>(), cols = packed.at("cols").get<uint64_t>();
  const auto values = packed.at("values").get<std::vector<int8_t>>();
  std::vector<std::byte> expected;
  for (const Json& byte : packed.at("bytes")) expected.push_back(static_cast<std::byte>(byte.get<int>()));
  std::vector<std::byte> found(expected.size());
  pack_ternary(values, rows, cols, found);
  EXPECT_EQ(found, expected);
  std::vector<int8_t> row(cols);
  for (uint64_t r = 0; r < rows; ++r) {
    const TernaryRows whole{found, 0, rows / 4, cols};
    ASSERT_TRUE(unpack_ternary_row(whole, r, row));
    EXPECT_EQ(row, std::vector<int8_t>(values.begin() + r * cols, values.begin() + (r + 1) * cols));
    const uint64_t first = r % (rows / 4);
    const TernaryRows one{std::span(found).subspan(first * cols, cols), first, rows / 4, cols};
    std::vector<int8_t> again(cols);
    ASSERT_TRUE(unpack_ternary_row(one, r, again));
    EXPECT_EQ(again, row);
  }
}

TEST(Ternary, TheFieldThreeIsNoValue) {
  const std::vector<std::byte> packed{std::byte{0b00011011}};
  std::vector<int8_t> row(1);
  EXPECT_FALSE(unpack_ternary_row({packed, 0, 1, 1}, 0, row));
  for (const auto& [index, expected] : {std::pair{1, 1}, {2, 0}, {3, -1}}) {
    EXPECT_TRUE(unpack_ternary_row({packed, 0, 1, 1}, static_cast<uint64_t>(index), row));
    EXPECT_EQ(row[0], expected);
  }
}

TEST(Ternary, FullWeightsAreRoundedAsTransformersDoes) {
  for (const Json& matrix : vectors().at("weights")) {
    const std::vector<float> weight = floats(matrix, "weight"), expected = floats(matrix, "rounded");
    double sum = 0;
    for (const float w : weight) sum += static_cast<double>(std::fabs(w));
    const float factor = ternary_factor(sum, weight.size());
    // torch's fp32 mean depends on the width of the machine's vectors: the last bit of the size may differ.
    const float slack = dtype_of(matrix) == Dtype::f32 ? 1.2e-7f : 0.0f;
    for (size_t i = 0; i < weight.size(); ++i) {
      const int8_t value = ternary_value(weight[i], factor);
      ASSERT_EQ(value, (expected[i] > 0) - (expected[i] < 0)) << i;
      ASSERT_NEAR(round_to(dtype_of(matrix), static_cast<float>(value) / factor), expected[i],
                  slack * std::fabs(expected[i]));
    }
  }
}

TEST(Ternary, ActivationsAreRoundedAsTransformersDoes) {
  for (const Json& record : vectors().at("rows")) {
    const Dtype dtype = dtype_of(record);
    const std::vector<float> row = floats(record, "row"), expected = floats(record, "rounded");
    float largest = 0;
    for (const float x : row) largest = std::max(largest, std::fabs(x));
    const float factor = activation_factor(largest);
    for (size_t i = 0; i < row.size(); ++i)
      ASSERT_EQ(round_to(dtype, static_cast<float>(activation_value(row[i], factor)) / factor), expected[i]);
    const float stored = round_to(dtype, factor);
    EXPECT_EQ(stored, value_of(dtype, record.at("factor").get<uint32_t>()));
    for (size_t i = 0; i < row.size(); ++i)
      ASSERT_EQ(activation_value(row[i], stored), record.at("codes").at(i).get<int>());
  }
}

}  // namespace
}  // namespace rhapsode::quant
