// The fp32 functions against the C library's double functions, and the activations against their formulas.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "kernels/math.h"

namespace rhapsode::kernels {
namespace {

// Distance of y from the real value, in units of the last place of the float nearest to it.
double ulps(float y, double real) {
  const float nearest = static_cast<float>(real);
  const double ulp = std::fabs(static_cast<double>(std::nextafterf(nearest, HUGE_VALF)) - nearest);
  return std::fabs(y - real) / ulp;
}

// The worst error over all floats of a coarse grid through [low, high], both signs of the exponent included.
double worst(const std::function<float(float)>& f, const std::function<double(double)>& real, float low,
             float high) {
  double bound = 0;
  for (int i = 0; i <= 400000; ++i) {
    const float x = low + (high - low) * (static_cast<float>(i) / 400000.0f);
    bound = std::max(bound, ulps(f(x), real(x)));
  }
  return bound;
}

TEST(KernelsMath, ExpIsWithinOneUlp) {
  const auto real = [](double x) { return std::exp(x); };
  EXPECT_LT(worst(exp_f32, real, -87.0f, 88.7f), 1.0);
  EXPECT_LT(worst(exp_f32, real, -1.0f, 1.0f), 1.0);
  EXPECT_LT(worst(exp_f32, real, -103.9f, -87.0f), 1.0);  // subnormal results
}

TEST(KernelsMath, ExpAtTheEdges) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp_f32(0.0f), 1.0f);
  EXPECT_EQ(exp_f32(-0.0f), 1.0f);
  EXPECT_EQ(exp_f32(-inf), 0.0f);
  EXPECT_EQ(exp_f32(-1e30f), 0.0f);
  EXPECT_EQ(exp_f32(inf), inf);
  EXPECT_EQ(exp_f32(89.0f), inf);
  EXPECT_LT(exp_f32(88.72f), inf);
  EXPECT_TRUE(std::isnan(exp_f32(std::nanf(""))));
}

// Below the cut a weight is nothing, above it exp; none is subnormal.
TEST(KernelsMath, WeightsOfAttentionAreCut) {
  const auto real = [](double x) { return std::exp(x); };
  EXPECT_LT(worst(weight_f32, real, -64.0f, 0.0f), 1.0);
  EXPECT_EQ(weight_f32(-0.0f), 1.0f);
  EXPECT_GT(weight_f32(-64.0f), 0x1p-93f);
  EXPECT_EQ(weight_f32(std::nextafter(-64.0f, -65.0f)), 0.0f);
  EXPECT_EQ(weight_f32(-100.0f), 0.0f);
  EXPECT_EQ(weight_f32(-std::numeric_limits<float>::infinity()), 0.0f);
  EXPECT_TRUE(std::isnan(weight_f32(std::nanf(""))));
}

TEST(KernelsMath, TanhAndErfAreWithinTwoUlps) {
  const auto tanh_real = [](double x) { return std::tanh(x); };
  const auto erf_real = [](double x) { return std::erf(x); };
  EXPECT_LT(worst(tanh_f32, tanh_real, -10.0f, 10.0f), 2.0);
  EXPECT_LT(worst(tanh_f32, tanh_real, -0.7f, 0.7f), 2.0);
  EXPECT_LT(worst(erf_f32, erf_real, -5.0f, 5.0f), 2.0);
  EXPECT_LT(worst(erf_f32, erf_real, -1.1f, 1.1f), 2.0);
  EXPECT_EQ(std::signbit(tanh_f32(-0.0f)), true);
  EXPECT_EQ(tanh_f32(-INFINITY), -1.0f);
  EXPECT_EQ(erf_f32(INFINITY), 1.0f);
  EXPECT_TRUE(std::isnan(tanh_f32(std::nanf(""))));
  EXPECT_TRUE(std::isnan(erf_f32(std::nanf(""))));
}

TEST(KernelsMath, ActivationsFollowTheirFormulas) {
  for (float x = -12.0f; x <= 12.0f; x += 0.01f) {
    const double d = x;
    const double cubic = std::sqrt(2.0 / M_PI) * (d + 0.044715 * d * d * d);
    const double tolerance = 4e-7 * std::max(1.0, std::fabs(d));
    EXPECT_NEAR(activation_f32(Activation::silu, x), d / (1 + std::exp(-d)), tolerance);
    EXPECT_NEAR(activation_f32(Activation::gelu_tanh, x), 0.5 * d * (1 + std::tanh(cubic)), tolerance);
    EXPECT_NEAR(activation_f32(Activation::gelu_erf, x), 0.5 * d * (1 + std::erf(d / std::sqrt(2.0))),
                tolerance);
    EXPECT_EQ(activation_f32(Activation::relu, x), std::max(x, 0.0f));
    EXPECT_EQ(activation_f32(Activation::relu2, x), std::max(x, 0.0f) * std::max(x, 0.0f));
  }
}

TEST(KernelsMath, GeluNewRoundsEachStep) {
  // Made with torch: NewGELUActivation on bfloat16 and float16 tensors.
  struct Case {
    float x, bf16, f16;
  };
  const Case cases[] = {{-6.0f, -0x0p+0f, -0x0p+0f},          {-3.1f, -0x0p+0f, -0x1.298p-9f},
                        {-2.3f, -0x1.7p-6f, -0x1.8bcp-6f},    {-1.7f, -0x1.3ap-4f, -0x1.374p-4f},
                        {-0.9f, -0x1.56p-3f, -0x1.534p-3f},   {-0.33f, -0x1.f6p-4f, -0x1.f5p-4f},
                        {-0.011f, -0x1.66p-8f, -0x1.654p-8f}, {0.07f, 0x1.2ep-5f, 0x1.2ecp-5f},
                        {0.45f, 0x1.36p-2f, 0x1.368p-2f},     {0.8f, 0x1.44p-1f, 0x1.42cp-1f},
                        {1.3f, 0x1.2cp+0f, 0x1.2c8p+0f},      {1.9f, 0x1.d6p+0f, 0x1.d88p+0f},
                        {2.6f, 0x1.4ap+1f, 0x1.4b4p+1f},      {3.3f, 0x1.a6p+1f, 0x1.a64p+1f},
                        {4.7f, 0x1.2cp+2f, 0x1.2ccp+2f},      {30.0f, 0x1.ep+4f, 0x1.ep+4f},
                        {50.0f, 0x1.9p+5f, 0x1.9p+5f}};
  for (const Case& c : cases) {
    EXPECT_EQ(gelu_new_in(Dtype::bf16, round_to(Dtype::bf16, c.x)), c.bf16) << c.x;
    EXPECT_EQ(gelu_new_in(Dtype::f16, round_to(Dtype::f16, c.x)), c.f16) << c.x;
  }
}

}  // namespace
}  // namespace rhapsode::kernels
