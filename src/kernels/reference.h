// The reference kernels: the meaning of each entry of the table in portable scalar code, slow and readable.
// Internal to src/kernels; the other folders go through kernels.h.
#pragma once

#include <cmath>

#include "kernels/kernels.h"

namespace rhapsode::kernels::reference {

constexpr uint32_t kGemmTokens = 4;

// sum + the products of 32 columns, or fewer, in the order of matrix tiles of pairs.
constexpr uint64_t kPairColumns = 2 * kMatrixDwords;
template <class Weight, class Value>
float add_pair_columns(float sum, uint64_t count, Weight weight, Value value) {
  float halves[2] = {0.0f, 0.0f};
  for (uint64_t i = 0; i < count; ++i) halves[i % 2] = std::fma(value(i), weight(i), halves[i % 2]);
  return sum + (halves[0] + halves[1]);
}

template <Format F>
void gemv(const void* panel_a, const void* panel_b, const float* x, uint64_t cols, float* y_a, float* y_b);
template <Format F>
void expand(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count, float* out);
void gemm_tile(const float* b, const float* a, uint32_t tokens, uint64_t k_count, float* c, uint64_t c_stride,
               bool first);
template <Format F>
void few_dense(const void* panel, const float* a, uint32_t tokens, uint64_t cols, float* c,
               uint64_t c_stride);
void pack_tokens(const float* x, uint64_t x_stride, uint32_t tokens, uint64_t k_begin, uint64_t k_count,
                 float* a);

void quantize_int8(const float* x, uint64_t n, float threshold, int8_t* codes, float* scale);
void quantize_blocks(Format format, const float* x, uint64_t blocks, uint8_t* codes, float* absmax);
void quantize_fixed(Format format, const float* x, uint64_t n, int16_t* codes, float* scales);
void quantize_bytes(Format format, const float* x, uint64_t n, int8_t* codes, Kernels::ByteBlock* blocks);
void dot_digits(const void* panel, const int8_t* high, const int8_t* low, uint64_t cols, float* y);
void gemv_int8(const void* panel_a, const void* panel_b, const void* codes, const float* scales,
               uint64_t cols, float* y_a, float* y_b);
template <Format F>
void gemv_dequantized(Dtype D, const void* panel_a, const void* panel_b, const float* x, uint64_t cols,
                      float* y_a, float* y_b);
template <Format F>
void expand_dequantized(Dtype D, const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count,
                        float* out);
template <Format F>
constexpr Dequantized dequantized = {gemv_dequantized<F>, expand_dequantized<F>};
template <Format F>
void gemv_fixed(const void* panel_a, const void* panel_b, const void* codes, const float* scales,
                uint64_t cols, float* y_a, float* y_b);
template <Format F>
void gemv_bytes(const void* panel_a, const void* panel_b, const int8_t* codes,
                const Kernels::ByteBlock* blocks, uint64_t cols, float* y_a, float* y_b);
template <Format F>
void expand_bytes(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count, uint8_t* out,
                  float* absmax);
template <Format F>
void few_bytes(const void* panel, const Kernels::FewBytes& tokens, uint64_t cols, float* y,
               uint64_t y_stride);
void tile_bytes(const Kernels::ByteTile& tile, float* c, uint64_t c_stride, bool first);
void expand_int8_bytes(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count, uint8_t* out,
                       float* absmax);
// Of a 4-bit panel: the code of a column of a row, and the absmax of a row's block.
uint8_t four_bit_index(Format format, const void* panel, uint64_t cols, uint32_t row, uint64_t k);
float scale_of(Format format, const void* panel, uint64_t cols, uint32_t row, uint64_t block);
void tile_int8(const void* panel, uint64_t k_begin, const uint8_t* a, uint32_t tokens, uint64_t k_count,
               float* c, uint64_t c_stride);
uint32_t take_heavy(int8_t* codes, uint64_t n, uint32_t* heavy, int32_t* sum);
void tile_quads(const uint8_t* b, const int8_t* a, uint32_t tokens, uint64_t quads, float* c,
                uint64_t c_stride, bool first);
void add_heavy(const void* panel, const uint32_t* heavy, uint32_t count, int32_t sum, float* c);
template <Format F>
void expand_fixed_codes(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count, int16_t* out,
                        float* absmax);
void tile_fixed(const Kernels::FixedTile& tile, float* c, uint64_t c_stride, bool first);
template <Format F>
void few_fixed(const void* panel, const Kernels::FewCodes& tokens, uint64_t cols, float* y,
               uint64_t y_stride);
void mark_outliers(const float* x, uint64_t n, float threshold, uint32_t* marks);
void expand_int8_columns(Dtype D, const void* panel, const uint32_t* columns, uint64_t count, float* out);
void tile_columns(const Kernels::ColumnTile& tile, float* c, uint64_t c_stride, bool first);
void finish_int8(const float* scb, float scale, float* c);
void expand_ternary(const void* panel, uint64_t cols, uint64_t k_begin, uint64_t k_count, float* out);
void gemv_trits(const void* panel_a, const void* panel_b, const float* x, uint64_t cols, float* y_a,
                float* y_b);
float largest_magnitude(const float* x, uint64_t n);
void round_codes(float* x, uint64_t n, float factor);
int32_t narrow_codes(const float* x, uint64_t n, int8_t* codes);
void gemv_ternary(const void* panel_a, const void* panel_b, const void* codes, const float* scales,
                  uint64_t cols, float* y_a, float* y_b);
void dot_ternary(const void* panel, const int8_t* codes, uint64_t codes_stride, const int32_t* code_sums,
                 uint32_t tokens, uint64_t cols, float* y, uint64_t y_stride);
void expand_trits(const void* panel, uint64_t k_begin, uint64_t k_count, uint8_t* out);
void tile_trits(const uint8_t* b, const int8_t* a, uint32_t tokens, uint64_t quads, float* c,
                uint64_t c_stride, bool first);
void finish_trits(int32_t code_sum, float* c);

void round_row(Dtype D, float* x, uint64_t n);
void round_sums(Dtype D, const float* sums, uint32_t tokens, float* y, uint64_t y_stride);
void add(Dtype D, float* x, const float* y, uint64_t n);
void add_bias(float* x, const float* bias, uint64_t n);
void scale(Dtype D, float* x, float factor, uint64_t n);
void rms_norm_l(Dtype D, const float* x, const float* w, uint64_t n, float eps, float* out);
void rms_norm_g(Dtype D, const float* x, const float* w, uint64_t n, float eps, float* out);
void layer_norm(Dtype D, const float* x, const float* w, const float* b, uint64_t n, float eps, float* out);
void rope(Dtype D, float* x, const float* cos, const float* sin, uint32_t rotary);
void activate(Activation act, Dtype D, float* x, uint64_t n);
void activate_mul(Activation act, Dtype D, float* gate, const float* up, uint64_t n);
void softcap(Dtype D, float* x, float cap, uint64_t n);
void store(Dtype D, const float* x, uint64_t n, void* out);
void load(Dtype D, const void* in, uint64_t n, float* out);

void attend_block(const AttendBlock& block);
void attend_block_tiles(const AttendBlock& block);  // of sets with matrix tiles
void attend_merge(uint32_t head_dim, float* m, float* l, float* o, float m2, float l2, const float* o2);
void attend_finish(Dtype D, uint32_t head_dim, float l, const float* o, float* out);

uint32_t probe_read(const void* a, const void* b, uint64_t bytes);
uint64_t probe_fma(uint64_t rounds);
uint64_t probe_int16(uint64_t rounds);
uint64_t probe_int8(uint64_t rounds);
uint64_t probe_int8_words(uint64_t rounds);

}  // namespace rhapsode::kernels::reference

namespace rhapsode::kernels {

// The tables, each defined in its own file.
extern const Kernels kReference;
extern const Kernels kAvx2;
extern const Kernels kAvx512;
extern const Kernels kAvx512Vnni;
extern const Kernels kAvx512Bf16;
extern const Kernels kAvx512Amx;
// The reference set with matrix tiles, for sets that have them.
const Kernels& reference_with_tiles();

// Whether this CPU's bf16 products are the chains that kAvx512Bf16 needs; it must have the instruction.
bool avx512_bf16_sums_are_chains();
// Whether its tiles sum in the order of matrix_tiles.h; the process must be allowed to use them.
bool avx512_amx_sums_are_blocks();
// Whether the CPU has AMX's tiles of bytes and bf16 and the kernel grants them to this process.
bool tiles_are_granted();

}  // namespace rhapsode::kernels
