#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace rhapsode {
namespace {

TEST(Dtype, EveryHalfSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const float x = f16_to_float(static_cast<uint16_t>(bits));
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(x))));
      continue;
    }
    EXPECT_EQ(float_to_f16(x), bits) << bits;
  }
}

TEST(Dtype, HalvesRoundToNearestEven) {
  EXPECT_EQ(float_to_f16(1.0f + 0x1p-11f), 0x3c00);      // a tie: to even, down
  EXPECT_EQ(float_to_f16(1.0f + 3 * 0x1p-11f), 0x3c02);  // a tie: to even, up
  EXPECT_EQ(float_to_f16(65519.0f), 0x7bff);
  EXPECT_EQ(float_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_f16(0x1p-25f), 0);  // half of the smallest subnormal: to even
  EXPECT_EQ(float_to_f16(-0x1.8p-25f), 0x8001);
}

TEST(Dtype, BfloatRoundsToNearestEven) {
  EXPECT_EQ(float_to_bf16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(float_to_bf16(1.0f + 3 * 0x1p-8f), 0x3f82);
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(Dtype, NamesOfTorchAndOfSafetensors) {
  EXPECT_EQ(dtype_from_torch_name("torch.bfloat16"), Dtype::bf16);
  EXPECT_EQ(dtype_from_torch_name("fp16"), Dtype::f16);
  EXPECT_EQ(dtype_from_torch_name("int7"), std::nullopt);
  EXPECT_EQ(dtype_from_name("BF16"), Dtype::bf16);
  EXPECT_EQ(dtype_name(Dtype::f8_e5m2), "F8_E5M2");
}

}  // namespace
}  // namespace rhapsode
