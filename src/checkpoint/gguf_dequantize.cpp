// The block types of GGUF: their sizes, and their values as float32 in the order of operations of the
// format's reference, so that every bit agrees. Knows no files.
#include <algorithm>
#include <array>
#include <cstring>

#include "checkpoint/gguf_file.h"
#include "tensor/dtype.h"

namespace rhapsode::gguf {
namespace {

constexpr std::array<BlockTraits, 34> kTraits{{
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},      {3, "Q4_1", 32, 20},
    {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},      {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 40},
    {10, "Q2_K", 256, 84},    {11, "Q3_K", 256, 110},   {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66}, {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},   {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},
    {22, "IQ2_S", 256, 82},   {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},         {25, "I16", 1, 2},
    {26, "I32", 1, 4},        {27, "I64", 1, 8},        {28, "F64", 1, 8},        {29, "IQ1_M", 256, 56},
    {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},   {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},
    {40, "NVFP4", 64, 36},    {41, "Q1_0", 128, 18},
}};

constexpr std::array<int8_t, 16> kIq4Levels{-127, -104, -83, -65, -49, -35, -22, -10,
                                            1,    13,   25,  38,  53,  69,  89,  113};

using Bytes = const uint8_t*;  // one block, whose size the type gives

float half_at(Bytes p) {
  return f16_to_float(static_cast<uint16_t>(p[0] | p[1] << 8));
}
int low(uint8_t byte) {
  return byte & 15;
}
int high(uint8_t byte) {
  return byte >> 4;
}

void block_f32(Bytes p, float* out) {
  std::memcpy(out, p, 4);
}
void block_f16(Bytes p, float* out) {
  *out = half_at(p);
}
void block_bf16(Bytes p, float* out) {
  *out = bf16_to_float(static_cast<uint16_t>(p[0] | p[1] << 8));
}

void block_q4_0(Bytes p, float* out) {
  const float d = half_at(p);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(low(p[2 + i]) - 8);
    out[16 + i] = d * static_cast<float>(high(p[2 + i]) - 8);
  }
}

void block_q4_1(Bytes p, float* out) {
  const float d = half_at(p);
  const float m = half_at(p + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(low(p[4 + i])) + m;
    out[16 + i] = d * static_cast<float>(high(p[4 + i])) + m;
  }
}

// Bit i of the 32-bit plane at p is the fifth bit of value i.
int fifth(Bytes plane, int i) {
  return (plane[i / 8] >> (i % 8) & 1) << 4;
}

void block_q5_0(Bytes p, float* out) {
  const float d = half_at(p);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((low(p[6 + i]) | fifth(p + 2, i)) - 16);
    out[16 + i] = d * static_cast<float>((high(p[6 + i]) | fifth(p + 2, 16 + i)) - 16);
  }
}

void block_q5_1(Bytes p, float* out) {
  const float d = half_at(p);
  const float m = half_at(p + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(low(p[8 + i]) | fifth(p + 4, i)) + m;
    out[16 + i] = d * static_cast<float>(high(p[8 + i]) | fifth(p + 4, 16 + i)) + m;
  }
}

void block_q8_0(Bytes p, float* out) {
  const float d = half_at(p);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<int8_t>(p[2 + i])) * d;
}

// Value i of a plane of 2-bit fields: 32 bytes hold 128 values, a byte's four fields are 32 values apart.
int two_bits(Bytes plane, int i) {
  return plane[i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4)) & 3;
}
// Value i of a plane of nibbles whose bytes pair values 32 (or `apart`) apart.
int nibble(Bytes plane, int i, int apart) {
  const uint8_t byte = plane[i / (2 * apart) * apart + i % apart];
  return i / apart % 2 == 0 ? low(byte) : high(byte);
}
int one_bit(Bytes plane, int i) {
  return plane[i % 32] >> (i / 32) & 1;
}

void block_q2_k(Bytes p, float* out) {
  const Bytes scales = p, qs = p + 16;
  const float d = half_at(p + 80);
  const float dmin = half_at(p + 82);
  for (int i = 0; i < 256; ++i) {
    const float dl = d * static_cast<float>(low(scales[i / 16]));
    const float ml = dmin * static_cast<float>(high(scales[i / 16]));
    out[i] = dl * static_cast<float>(two_bits(qs, i)) - ml;
  }
}

void block_q3_k(Bytes p, float* out) {
  const Bytes mask = p, qs = p + 32, scales = p + 96;
  const float d = half_at(p + 108);
  for (int i = 0; i < 256; ++i) {
    const int s = i / 16;
    const int low_bits = s < 8 ? low(scales[s]) : high(scales[s - 8]);
    const int high_bits = scales[8 + s % 4] >> (2 * (s / 4)) & 3;
    const float dl = d * static_cast<float>((low_bits | high_bits << 4) - 32);
    // The mask is an inverted borrow: where its bit is clear, 4 is subtracted.
    out[i] = dl * static_cast<float>(two_bits(qs, i) - (one_bit(mask, i) ^ 1) * 4);
  }
}

// The 6-bit scale and minimum of group j of 8, from the 12 bytes that Q4_K and Q5_K share.
void scale_and_min(Bytes s, int j, int& scale, int& minimum) {
  if (j < 4) {
    scale = s[j] & 63;
    minimum = s[4 + j] & 63;
  } else {
    scale = low(s[4 + j]) | (s[j - 4] >> 6) << 4;
    minimum = high(s[4 + j]) | (s[j] >> 6) << 4;
  }
}

void block_q4_k(Bytes p, float* out) {
  const float d = half_at(p);
  const float dmin = half_at(p + 2);
  for (int j = 0; j < 8; ++j) {
    int scale = 0, minimum = 0;
    scale_and_min(p + 4, j, scale, minimum);
    const float ds = d * static_cast<float>(scale);
    const float dm = dmin * static_cast<float>(minimum);
    for (int i = 32 * j; i < 32 * j + 32; ++i) out[i] = ds * static_cast<float>(nibble(p + 16, i, 32)) - dm;
  }
}

void block_q5_k(Bytes p, float* out) {
  const float d = half_at(p);
  const float dmin = half_at(p + 2);
  for (int j = 0; j < 8; ++j) {
    int scale = 0, minimum = 0;
    scale_and_min(p + 4, j, scale, minimum);
    const float ds = d * static_cast<float>(scale);
    const float dm = dmin * static_cast<float>(minimum);
    for (int i = 32 * j; i < 32 * j + 32; ++i)
      out[i] = ds * static_cast<float>(nibble(p + 48, i, 32) | one_bit(p + 16, i) << 4) - dm;
  }
}

void block_q6_k(Bytes p, float* out) {
  const Bytes ql = p, qh = p + 128, scales = p + 192;
  const float d = half_at(p + 208);
  for (int i = 0; i < 256; ++i) {
    const float ds = d * static_cast<float>(static_cast<int8_t>(scales[i / 16]));
    out[i] = ds * static_cast<float>((nibble(ql, i, 64) | two_bits(qh, i) << 4) - 32);
  }
}

void block_iq4_nl(Bytes p, float* out) {
  const float d = half_at(p);
  for (int i = 0; i < 32; ++i)
    out[i] = d * static_cast<float>(kIq4Levels[static_cast<size_t>(nibble(p + 2, i, 16))]);
}

void block_iq4_xs(Bytes p, float* out) {
  const float d = half_at(p);
  const int scales_high = p[2] | p[3] << 8;
  for (int j = 0; j < 8; ++j) {
    const int low_bits = j % 2 == 0 ? low(p[4 + j / 2]) : high(p[4 + j / 2]);
    const float dl = d * static_cast<float>((low_bits | (scales_high >> (2 * j) & 3) << 4) - 32);
    for (int i = 32 * j; i < 32 * j + 32; ++i)
      out[i] = dl * static_cast<float>(kIq4Levels[static_cast<size_t>(nibble(p + 8, i, 16))]);
  }
}

// A trit is read by multiplying the byte by a power of three (modulo 256) and taking the top of three times
// that.
float trit(uint8_t byte, int power) {
  const uint8_t shifted = static_cast<uint8_t>(byte * power);
  return static_cast<float>((shifted * 3 >> 8) - 1);
}

void block_tq1_0(Bytes p, float* out) {
  constexpr std::array<int, 5> kPowers{1, 3, 9, 27, 81};
  const float d = half_at(p + 52);
  for (int n = 0; n < 5; ++n) {
    const int power = kPowers[static_cast<size_t>(n)];
    for (int i = 0; i < 32; ++i) out[32 * n + i] = d * trit(p[i], power);
    for (int i = 0; i < 16; ++i) out[160 + 16 * n + i] = d * trit(p[32 + i], power);
    for (int i = 0; n < 4 && i < 4; ++i) out[240 + 4 * n + i] = d * trit(p[48 + i], power);
  }
}

void block_tq2_0(Bytes p, float* out) {
  const float d = half_at(p + 64);
  for (int i = 0; i < 256; ++i) out[i] = d * static_cast<float>(two_bits(p, i) - 1);
}

using BlockFunction = void (*)(Bytes, float*);

BlockFunction function_of(uint32_t number) {
  switch (static_cast<BlockType>(number)) {
    case BlockType::f32:
      return block_f32;
    case BlockType::f16:
      return block_f16;
    case BlockType::bf16:
      return block_bf16;
    case BlockType::q4_0:
      return block_q4_0;
    case BlockType::q4_1:
      return block_q4_1;
    case BlockType::q5_0:
      return block_q5_0;
    case BlockType::q5_1:
      return block_q5_1;
    case BlockType::q8_0:
      return block_q8_0;
    case BlockType::q2_k:
      return block_q2_k;
    case BlockType::q3_k:
      return block_q3_k;
    case BlockType::q4_k:
      return block_q4_k;
    case BlockType::q5_k:
      return block_q5_k;
    case BlockType::q6_k:
      return block_q6_k;
    case BlockType::iq4_nl:
      return block_iq4_nl;
    case BlockType::iq4_xs:
      return block_iq4_xs;
    case BlockType::tq1_0:
      return block_tq1_0;
    case BlockType::tq2_0:
      return block_tq2_0;
  }
  return nullptr;
}

}  // namespace

const BlockTraits* block_traits(uint32_t number) {
  const auto at =
      std::find_if(kTraits.begin(), kTraits.end(), [&](const BlockTraits& t) { return t.number == number; });
  return at == kTraits.end() ? nullptr : &*at;
}

bool can_dequantize(uint32_t number) {
  return function_of(number) != nullptr;
}

void dequantize(uint32_t number, std::span<const std::byte> blocks, std::span<float> out) {
  const BlockTraits* traits = block_traits(number);
  const BlockFunction function = function_of(number);
  if (traits == nullptr || function == nullptr || blocks.size() % traits->bytes != 0 ||
      blocks.size() / traits->bytes * traits->elements != out.size())
    throw Error(ErrorKind::runtime, "gguf-dequantize", "blocks and values do not match");
  const Bytes in = reinterpret_cast<Bytes>(blocks.data());
  for (size_t i = 0; i < blocks.size() / traits->bytes; ++i)
    function(in + i * traits->bytes, out.data() + i * traits->elements);
}

}  // namespace rhapsode::gguf
