// The one table of kernels: plain functions on raw spans, no allocation, no exceptions, no model words.
//
// Order of summation. Every sum is written in one order that depends on the shape alone, and every kernel set
// follows it, so results are equal bit for bit across reference, AVX2 and AVX-512, across batch sizes and
// thread counts. Sets with matrix tiles differ in products of bf16, as matrix_tiles.h has it.
//   * matrix products: one chain of fp32 fused multiply-adds per output element, k ascending;
//   * attention scores: one fma chain over d ascending; values: one over tokens ascending;
//   * row reductions (norms, softmax sums): 16 partial sums, element i goes to partial i % 16 (by fma where a
//   product is summed), then partials are added pairwise: j with j+8, then j+4, j+2, j+1;
//   * quantized products: sums of codes are exact integers; float steps after them are named at each entry.
// exp, tanh, erf and the activations are the same polynomials (same fma sequence) in every set.
// Lengths are any; buffers need no alignment and no padding unless said.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/access.h"
#include "kernels/attend_block.h"
#include "kernels/dequantized.h"
#include "kernels/matrix_tiles.h"
#include "quant/formats.h"
#include "tensor/dtype.h"

namespace rhapsode::kernels {

using quant::Format;
using quant::kFormatCount;
using quant::kPanelRows;

enum class Activation : uint8_t { silu, gelu_tanh, gelu_new, gelu_erf, relu2, relu };
// The step of two int8 codes as bitsandbytes writes it for CPUs: 1.8e-5 above 1 / 127^2 (6.200012e-05). The
// constant is kept because codes downstream flip with the last bits: with the exact quotient a small model's
// logits differ by whole units from what transformers computes, with this one by 1e-5.
constexpr float kInt8Step = 6.200124e-05f;
// 1 / 127 as quant/codec.h multiplies a code and its scb by it.
constexpr float kInt8Inverse = 7.874015718698502e-3f;
constexpr uint32_t kTernaryTokens = 4;
// Products of a code and 2 at most, in pairs: 64 pairs of -128 * 2 add up to -2^15, the least word.
constexpr uint64_t kTritQuads = 64;
// Of activations in two int8 digits: value = kDigitBase * high + low, both from -127 to 127.
constexpr int32_t kDigitBase = 255;

struct Kernels {
  std::string_view name;  // "reference", "avx2", "avx512", …

  // y[r] = sum_k w[r][k] * x[k] for the 32 rows of one or two panels (panel_b and y_b may be null together:
  // two distant streams keep more memory requests in flight). cols is the padded (even) count; x has cols
  // values, padding zero. Null for int8 and 4-bit formats.
  void (*gemv[kFormatCount])(const void* panel_a, const void* panel_b, const float* x, uint64_t cols,
                             float* y_a, float* y_b);

  // Panel columns [k_begin, k_begin + k_count) of `cols` as float [k][32]; k_begin is even. Null for int8,
  // which is multiplied as integers only, and for 4-bit formats.
  using Expand = void (*)(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count, float* out);
  Expand expand[kFormatCount];
  Dequantized dequantized[kFormatCount];  // null for other formats

  // c[t][r] (+)= sum_k a[k][t] * b[k][r] for `tokens` <= gemm_tokens rows of a; b is [k_count][32] from
  // expand, a is [k_count][gemm_tokens] (columns beyond `tokens` may hold anything finite). first: start from
  // zero, else continue the chain that c holds. Each row of c that is used holds 32 values.
  void (*gemm_tile)(const float* b, const float* a, uint32_t tokens, uint64_t k_count, float* c,
                    uint64_t c_stride, bool first);

  // c[t][r] = sum_k a[k][t] * w[r][k], the chain of gemv, for `tokens` <= gemm_tokens tokens straight from a
  // dense panel; a is [cols][gemm_tokens].
  void (*few_dense[quant::kDenseFormats])(const void* panel, const float* a, uint32_t tokens, uint64_t cols,
                                          float* c, uint64_t c_stride);

  // Weights and tokens of bf16: the chains of gemm_tile by an instruction for two columns, the earlier one in
  // the upper half; null in sets without it. expand_pairs: of a panel as out[k / 2][32], 4-bit weights
  // dequantized and rounded to bf16; null for other formats. pack_pairs: a[k / 2][gemm_tokens], k_begin and
  // k_count even. few_pairs: a bf16 panel as it is stored, from its first column on, read ahead.
  using ExpandPairs = void (*)(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count,
                               uint32_t* out);
  ExpandPairs expand_pairs[kFormatCount];
  void (*pack_pairs)(const float* x, uint64_t x_stride, uint32_t tokens, uint64_t k_begin, uint64_t k_count,
                     uint32_t* a);
  void (*tile_pairs)(const uint32_t* b, const uint32_t* a, uint32_t tokens, uint64_t pairs, float* c,
                     uint64_t c_stride, bool first);
  void (*few_pairs)(const void* panel, const uint32_t* a, uint32_t tokens, uint64_t pairs, float* c,
                    uint64_t c_stride);

  // One token's activations for int8 weights, or (without a threshold) a row of such weights as
  // quant::int8_row has it: x rounded to f16; elements with |x| >= threshold (NaN: none) get code 0 and do
  // not count. scale = max |x|; code = round(x * (round(1 / scale) * 127)), all 0 where scale is 0 or not
  // finite. codes: n of them, padded to a multiple of 4 with 0.
  void (*quantize_int8)(const float* x, uint64_t n, float threshold, int8_t* codes, float* scale);
  // Activations for 4-bit weights: per 64 columns, with m = max |x|, c = the format's code table: code =
  // round(x * (c.act_max / m)), scale = m / (c.act_max * c.fixed_max); m < 1e-30: all 0; m not finite: codes
  // 0, scale NaN. n is a multiple of 64; scales [n / 64].
  void (*quantize_fixed)(Format format, const float* x, uint64_t n, int16_t* codes, float* scales);

  // The coarser way of 4-bit weights, by int8 activations: scale = m / (127 * c.byte_max), code = round(x *
  // (127 / m)), with the special cases of quantize_fixed; offset = -kByteZero times the sum of the block's
  // codes.
  struct ByteBlock {
    float scale;
    int32_t offset;
  };
  void (*quantize_bytes)(Format format, const float* x, uint64_t n, int8_t* codes, ByteBlock* blocks);

  // gemv for quantized formats, null for others. cols is the padded count. With S the exact sum of products:
  //   int8: codes int8, one scale: y = (float(S) * (scale * scb)) * kInt8Step, each step rounded to fp32
  //   4-bit: codes int16, a scale a block: y = fma(float(S_block), absmax * scale_block, y), blocks ascending
  //   ternary: codes int8; scales[0] is their sum, of up to 2^17 columns exact: y = float(S)
  using GemvQuantized = void (*)(const void* panel_a, const void* panel_b, const void* codes,
                                 const float* scales, uint64_t cols, float* y_a, float* y_b);
  GemvQuantized gemv_quantized[kFormatCount];
  // Of 4-bit formats by int8 activations: with S the exact sum of c.bytes * codes, plus offset, y =
  // fma(float(S_block), absmax * scale_block, y), blocks ascending. Null for other formats.
  using GemvBytes = void (*)(const void* panel_a, const void* panel_b, const int8_t* codes,
                             const ByteBlock* blocks, uint64_t cols, float* y_a, float* y_b);
  GemvBytes gemv_bytes[kFormatCount];

  // Rows of an int8 panel times activations of two digits, without scales: y[r] = float(S(high)) * kDigitBase
  // + float(S(low)), rounded after each step. cols is padded; at most 2^17.
  void (*dot_digits)(const void* panel, const int8_t* high, const int8_t* low, uint64_t cols, float* y);

  // int8 weights by many tokens' codes of quantize_int8: the exact sums of gemv_quantized, as bits of int32.
  // tile_int8: straight from a panel's columns [k_begin, k_begin + k_count), multiples of 4; a
  // [k_count / 4][gemm_tokens][4] codes + 128, whose excess is gone from c when a whole row is summed.
  void (*tile_int8)(const void* panel, uint64_t k_begin, const uint8_t* a, uint32_t tokens, uint64_t k_count,
                    float* c, uint64_t c_stride);
  // The next three, faster where bytes are multiplied to words, null elsewhere: a word holds the products of
  // two weights + 128 and codes that add up to -128 to 128. take_heavy: of other pairs of columns the later
  // code becomes 0 and is listed as column * 256 + its byte; n is even. Returns how many (n / 2 at most);
  // *sum: of the codes that stay.
  uint32_t (*take_heavy)(int8_t* codes, uint64_t n, uint32_t* heavy, int32_t* sum);
  // c[t][r] (+)= sum over quads of b (expand_bytes of int8) times a, [quads][gemm_tokens][4] such codes.
  void (*tile_quads)(const uint8_t* b, const int8_t* a, uint32_t tokens, uint64_t quads, float* c,
                     uint64_t c_stride, bool first);
  // Of one token: c[r] += sum over `count` listed codes of w[r][column] * code, - 128 * sum.
  void (*add_heavy)(const void* panel, const uint32_t* heavy, uint32_t count, int32_t sum, float* c);
  // 4-bit weights by many tokens. Panel columns [k_begin, k_begin + k_count), multiples of 64, as integers,
  // out[k / 2][32][2], and absmax[k_count / 64][32].
  using ExpandCodes = void (*)(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count,
                               int16_t* out, float* absmax);
  ExpandCodes expand_codes[kFormatCount];
  // c[t][r] continues by fma over blocks of 64; absmax [blocks][32], scales [blocks][gemm_tokens].
  struct FixedTile {
    const int16_t* b;
    const float* absmax;
    const int16_t* a;
    const float* scales;
    uint32_t tokens;
    uint64_t blocks;
  };
  void (*tile_fixed)(const FixedTile& tile, float* c, uint64_t c_stride, bool first);
  // gemv_bytes for many tokens: c.bytes of columns [k_begin, k_begin + k_count) as out[k / 4][32][4], and
  // absmax[k_count / 64][32]; of int8, codes + 128. a [quads][gemm_tokens][4], of_tokens [blocks][…].
  using ExpandBytes = void (*)(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count,
                               uint8_t* out, float* absmax);
  ExpandBytes expand_bytes[kFormatCount];
  struct ByteTile {
    const uint8_t* b;
    const float* absmax;
    const int8_t* a;
    const ByteBlock* of_tokens;
    uint32_t tokens;
    uint64_t blocks;
  };
  void (*tile_bytes)(const ByteTile& tile, float* c, uint64_t c_stride, bool first);
  // gemv_quantized of 4-bit formats for `tokens` <= few_tokens tokens; codes [tokens][stride], scales
  // [tokens][scales_stride]. Null for other formats.
  struct FewCodes {
    const int16_t* codes;
    uint64_t stride;
    const float* scales;
    uint64_t scales_stride;
    uint32_t tokens;
  };
  using FewFixed = void (*)(const void* panel, const FewCodes& tokens, uint64_t cols, float* y,
                            uint64_t y_stride);
  FewFixed few_fixed[kFormatCount];
  // The same of gemv_bytes; codes [tokens][stride], blocks [tokens][blocks_stride].
  struct FewBytes {
    const int8_t* codes;
    uint64_t stride;
    const ByteBlock* blocks;
    uint64_t blocks_stride;
    uint32_t tokens;
  };
  using FewOfBytes = void (*)(const void* panel, const FewBytes& tokens, uint64_t cols, float* y,
                              uint64_t y_stride);
  FewOfBytes few_bytes[kFormatCount];
  // Outlier columns of int8. marks: bit k % 32 of word k / 32 is |x[k]| >= threshold with x rounded to f16,
  // (n + 31) / 32 words, the last one's other bits 0.
  void (*mark_outliers)(const float* x, uint64_t n, float threshold, uint32_t* marks);
  // Of each listed column of a panel its 32 dequantized values R((code * scb) * (1 / 127)): out[count][32].
  void (*expand_int8_columns)(Dtype D, const void* panel, const uint32_t* columns, uint64_t count,
                              float* out);
  // c[t][r] (+)= sum over i of x[t * x_stride + columns[i]] * b[i][r], one fma chain; tokens <= gemm_tokens.
  struct ColumnTile {
    const float* b;
    const float* x;
    uint64_t x_stride;
    const uint32_t* columns;
    uint64_t count;
    uint32_t tokens;
  };
  void (*tile_columns)(const ColumnTile& tile, float* c, uint64_t c_stride, bool first);
  // Turns 32 int32 sums of one token into the y of gemv_quantized[int8]; scb [32].
  void (*finish_int8)(const float* scb, float scale, float* c);

  // Activations of ternary weights. largest_magnitude: of a row, by its bits: NaN is larger than infinity,
  // and that than all else. round_codes: x = round half even(x * factor) cut to -128 … 127, NaN to -128.
  // narrow_codes: such whole numbers as bytes; returns their sum.
  float (*largest_magnitude)(const float* x, uint64_t n);
  void (*round_codes)(float* x, uint64_t n, float factor);
  int32_t (*narrow_codes)(const float* x, uint64_t n, int8_t* codes);

  // y[t][r] = the exact sum over k of value[r][k] * codes[t][k] for the 32 rows of a ternary panel, as float:
  // below 2^24 for up to 2^17 columns. tokens <= kTernaryTokens, codes are padded with 0 to `cols`, a
  // multiple of 16, and code_sums[t] is the sum of a token's; each row of y holds 32 values.
  void (*dot_ternary)(const void* panel, const int8_t* codes, uint64_t codes_stride, const int32_t* code_sums,
                      uint32_t tokens, uint64_t cols, float* y, uint64_t y_stride);

  // For many tokens: columns [k_begin, k_begin + k_count), multiples of 16, as value + 1: out[k / 4][32][4].
  void (*expand_trits)(const void* panel, uint64_t k_begin, uint64_t k_count, uint8_t* out);
  // c[t][r] (+)= sum over `quads` <= kTritQuads of b from expand_trits times a, codes
  // [quads][gemm_tokens][4]. c holds bits of int32; each value of b is one too large, so finish_trits takes
  // off the sum of a token's codes and turns its 32 sums into float.
  void (*tile_trits)(const uint8_t* b, const int8_t* a, uint32_t tokens, uint64_t quads, float* c,
                     uint64_t c_stride, bool first);
  void (*finish_trits)(int32_t code_sum, float* c);
  const MatrixTiles* matrix;  // null in sets without
  uint32_t gemm_tokens;       // rows of the register tile (6 for AVX2, 12 for AVX-512)
  uint32_t few_tokens;        // of few_fixed and few_bytes
  Access usual_access;        // where nothing was measured

  // Rows of length n; D is f32, f16 or bf16: results are rounded to D (kept as float).
  void (*round_row)(Dtype D, float* x, uint64_t n);
  // y[t][r] = R(sums[t][r]), sums [tokens][32]
  void (*round_sums)(Dtype D, const float* sums, uint32_t tokens, float* y, uint64_t y_stride);
  void (*add)(Dtype D, float* x, const float* y, uint64_t n);  // x = R(x + y)
  void (*add_bias)(float* x, const float* bias, uint64_t n);   // x = x + bias, not rounded
  void (*scale)(Dtype D, float* x, float factor, uint64_t n);  // x = R(x * factor)
  // y = R(w * R(x * rsqrt(mean(x^2) + eps))); 1/sqrt in fp32 by division. out may be x.
  void (*rms_norm_l)(Dtype D, const float* x, const float* w, uint64_t n, float eps, float* out);
  // y = R(x * rsqrt(mean(x^2) + eps) * (1 + w))
  void (*rms_norm_g)(Dtype D, const float* x, const float* w, uint64_t n, float eps, float* out);
  // y = R((x - mean) * (1 / sqrt(var + eps)) * w + b), biased variance; b may be null. out may be x.
  void (*layer_norm)(Dtype D, const float* x, const float* w, const float* b, uint64_t n, float eps,
                     float* out);
  // Half-split rotation of the first `rotary` values of one head in place: pairs (i, i + rotary/2); x1' =
  // R(R(x1*cos_i) + R(-x2*sin_i)), x2' = R(R(x2*cos_i) + R(x1*sin_i)). cos, sin: [rotary/2], rounded to D.
  void (*rope)(Dtype D, float* x, const float* cos, const float* sin, uint32_t rotary);
  // x = R(act(x)); gelu_new rounds each of its steps to D, as transformers' unfused Python does.
  void (*activate)(Activation act, Dtype D, float* x, uint64_t n);
  // gate = R(R(act(gate)) * up)
  void (*activate_mul)(Activation act, Dtype D, float* gate, const float* up, uint64_t n);
  // x = R(R(tanh(R(x / cap))) * cap)
  void (*softcap)(Dtype D, float* x, float cap, uint64_t n);
  // Packs `tokens` <= gemm_tokens rows of x [tokens][x_stride], columns [k_begin, k_begin+k_count), to
  // a[k][gemm_tokens].
  void (*pack_tokens)(const float* x, uint64_t x_stride, uint32_t tokens, uint64_t k_begin, uint64_t k_count,
                      float* a);
  // Conversions that are exact where x already holds D values.
  void (*store)(Dtype D, const float* x, uint64_t n, void* out);
  void (*load)(Dtype D, const void* in, uint64_t n, float* out);

  void (*attend_block)(const AttendBlock& block);
  // Merges (m2, l2, o2) of a later chunk into (m, l, o) [head_dim]; where one is empty (-inf): the other.
  void (*attend_merge)(uint32_t head_dim, float* m, float* l, float* o, float m2, float l2, const float* o2);
  // out = R(o / l)
  void (*attend_finish)(Dtype D, uint32_t head_dim, float l, const float* o, float* out);

  // Probes of what the machine can do with this set's instructions; no kernel is judged by itself.
  // Reads `bytes` (a multiple of 512) from each of one or two far streams (b may be null) and does nothing
  // else with them; the result depends on every byte.
  uint32_t (*probe_read)(const void* a, const void* b, uint64_t bytes);
  // `rounds` of independent multiply-adds in registers; each returns the operations done. probe_fma: fused
  // fp32; probe_bf16: pairs of bf16 summed to fp32, null without tile_pairs; probe_int16: int16 pairs summed
  // to 32 bits; probe_int8: bytes summed to 32 bits; probe_int8_words: bytes summed to 16 bits.
  uint64_t (*probe_fma)(uint64_t rounds);
  uint64_t (*probe_bf16)(uint64_t rounds);
  uint64_t (*probe_int16)(uint64_t rounds);
  uint64_t (*probe_int8)(uint64_t rounds);
  uint64_t (*probe_int8_words)(uint64_t rounds);

  // Weights to 4-bit codes: blocks of 64 as quant::four_bit_block has whole ones, codes one a byte. A block
  // whose absmax is not finite has codes 0.
  void (*quantize_blocks)(Format format, const float* x, uint64_t blocks, uint8_t* codes, float* absmax);
};

// Sets that this build has, best first; `supported` tells whether this CPU can run it.
struct KernelSet {
  const Kernels* kernels;
  bool supported;
  std::string_view needs;  // e.g. "AVX2, FMA, F16C"
};
std::span<const KernelSet> kernel_sets();

// The best supported set, or the named one; kernels follow its usual access from now on. Throws Error(usage,
// "unknown-isa") for a name not built, Error(unsupported, "isa-not-available") for one that cannot run.
const Kernels& select_kernels(std::string_view name = {});

}  // namespace rhapsode::kernels
