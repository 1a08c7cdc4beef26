// Coefficients of the fp32 functions that every kernel set evaluates by the same sequence of operations.
// Minimax fits of this project (Remez in 30 digits); the error beside each is that of the exact polynomial.
// Plain numbers: ISA files may include it.
#pragma once

namespace rhapsode::kernels {

// exp(x) = 2^n * exp(r): n = x * log2(e) rounded, r = x - n * ln2 in two steps, exp(r) = 1 + (r + r^2 q(r)).
// Relative error 3.3e-9 on |r| <= ln2 / 2.
constexpr float kLog2E = 0x1.715476p+0f;
constexpr float kRoundMagic =
    0x1.8p+23f;  // adding it rounds to an integer that its low mantissa bits then hold
constexpr float kLn2High = 0x1.62e4p-1f;
constexpr float kLn2Low = 0x1.7f7d1cp-20f;
constexpr float kExpLowest = -104.0f;  // exp is 0 from here down, +inf above kExpHighest
constexpr float kExpHighest = 89.0f;
// A weight of attention, exp of a score less the highest one, is 0 below: 2^-92 of the highest weight, where
// a float's last place is 2^-24 of it. Smaller ones would be, or make, subnormal numbers, which some machines
// multiply a hundred times more slowly.
constexpr float kWeightLowest = -64.0f;
constexpr float kExp[5] = {0x1.fffffcp-2f, 0x1.55548ap-3f, 0x1.555916p-5f, 0x1.123fc6p-7f, 0x1.6a1a6cp-10f};

// tanh(x) = x + x^3 p(x^2) below kTanhSplit (4.4e-9), else 1 - 2 / (exp(2x) + 1).
constexpr float kTanhSplit = 0.625f;
constexpr float kTanh[5] = {-0x1.555532p-2f, 0x1.110726p-3f, -0x1.b83c58p-5f, 0x1.522692p-6f,
                            -0x1.75e1a4p-8f};

// erf(x) = x + x p(x^2) up to 1 (1.2e-9), else 1 - exp(q(x)) with q = log(erfc) on [1, 4] (2.1e-11 of erf); 1
// beyond.
constexpr float kErfSplit = 1.0f;
constexpr float kErfLast = 4.0f;
constexpr float kErfSmall[7] = {0x1.06eba8p-3f, -0x1.81273ep-2f,  0x1.ce2cf8p-4f, -0x1.b7f90cp-6f,
                                0x1.5405aep-8f, -0x1.a3f6e8p-11f, 0x1.4969f6p-14f};
constexpr float kErfLarge[8] = {0x1.8b3daap-13f, -0x1.212c2cp+0f, -0x1.4434f2p-1f, -0x1.bc18cap-4f,
                                0x1.9d0bc8p-6f,  -0x1.1398e8p-8f, 0x1.ceeab8p-12f, -0x1.6c064ep-16f};

constexpr float kSqrt2OverPi = 0.7978845608028654f;
constexpr float kSqrtHalf = 0.7071067811865476f;
constexpr float kGeluCubic = 0.044715f;

}  // namespace rhapsode::kernels
