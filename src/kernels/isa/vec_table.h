// The table of a vector set, made of the kernels of the vec_*.h files. Needs a vec_<isa>.h before it.
#pragma once

#include "kernels/isa/vec_attention.h"
#include "kernels/isa/vec_bytes.h"
#include "kernels/isa/vec_dequantized.h"
#include "kernels/isa/vec_few.h"
#include "kernels/isa/vec_four_bit.h"
#include "kernels/isa/vec_int8_tiles.h"
#include "kernels/isa/vec_math.h"
#include "kernels/isa/vec_matmul.h"
#include "kernels/isa/vec_probes.h"
#include "kernels/isa/vec_quantize.h"
#include "kernels/isa/vec_quantized_tiles.h"
#include "kernels/isa/vec_rows.h"
#include "kernels/isa/vec_ternary_floats.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

constexpr Dequantized kNone{nullptr, nullptr};  // of formats that are not 4-bit

constexpr Kernels table(std::string_view name) {
  using enum Format;
  return {
      .name = name,
      .gemv = {gemv<f32>, gemv<f16>, gemv<bf16>, nullptr, nullptr, nullptr, nullptr, nullptr, gemv_trits},
      .expand = {expand<f32>, expand<f16>, expand<bf16>, nullptr, nullptr, nullptr, nullptr, nullptr,
                 expand_ternary},
      .dequantized = {kNone, kNone, kNone, kNone, dequantized<nf4>, dequantized<nf4_nested>, dequantized<fp4>,
                      dequantized<fp4_nested>},
      .gemm_tile = gemm_tile,
      .few_dense = {few_dense<f32>, few_dense<f16>, few_dense<bf16>},
      .expand_pairs = {},
      .pack_pairs = nullptr,
      .tile_pairs = nullptr,
      .few_pairs = nullptr,
      .quantize_int8 = quantize_int8,
      .quantize_fixed = quantize_fixed,
      .quantize_bytes = quantize_bytes,
      .gemv_quantized = {nullptr, nullptr, nullptr, gemv_int8, gemv_fixed<nf4>, gemv_fixed<nf4_nested>,
                         gemv_fixed<fp4>, gemv_fixed<fp4_nested>, gemv_ternary},
      .gemv_bytes = {nullptr, nullptr, nullptr, nullptr, gemv_bytes<nf4>, gemv_bytes<nf4_nested>,
                     gemv_bytes<fp4>, gemv_bytes<fp4_nested>},
      .dot_digits = dot_digits,
      .tile_int8 = tile_int8,
      .take_heavy = take_heavy,
      .tile_quads = tile_quads,
      .add_heavy = add_heavy,
      .expand_codes = {nullptr, nullptr, nullptr, nullptr, expand_fixed_codes<nf4>,
                       expand_fixed_codes<nf4_nested>, expand_fixed_codes<fp4>,
                       expand_fixed_codes<fp4_nested>},
      .tile_fixed = tile_fixed,
      .expand_bytes = {nullptr, nullptr, nullptr, expand_int8_bytes, expand_bytes<nf4>,
                       expand_bytes<nf4_nested>, expand_bytes<fp4>, expand_bytes<fp4_nested>},
      .tile_bytes = tile_bytes,
      .few_fixed = {nullptr, nullptr, nullptr, nullptr, few_fixed<nf4>, few_fixed<nf4_nested>, few_fixed<fp4>,
                    few_fixed<fp4_nested>},
      .few_bytes = {nullptr, nullptr, nullptr, nullptr, few_bytes<nf4>, few_bytes<nf4_nested>, few_bytes<fp4>,
                    few_bytes<fp4_nested>},
      .mark_outliers = mark_outliers,
      .expand_int8_columns = expand_int8_columns,
      .tile_columns = tile_columns,
      .finish_int8 = finish_int8,
      .largest_magnitude = largest_magnitude_of_row,
      .round_codes = round_codes,
      .narrow_codes = narrow_codes,
      .dot_ternary = dot_ternary,
      .expand_trits = expand_trits,
      .tile_trits = tile_trits,
      .finish_trits = finish_trits,
      .matrix = nullptr,
      .gemm_tokens = kGemmTokens,
      .few_tokens = kFewTokens,
      .usual_access = kUsualAccess,
      .round_row = round_row,
      .round_sums = round_sums,
      .add = add,
      .add_bias = add_bias,
      .scale = scale,
      .rms_norm_l = rms_norm_l,
      .rms_norm_g = rms_norm_g,
      .layer_norm = layer_norm,
      .rope = rope,
      .activate = activate,
      .activate_mul = activate_mul,
      .softcap = softcap,
      .pack_tokens = pack_tokens,
      .store = store_row,
      .load = load_row,
      .attend_block = attend_block,
      .attend_merge = attend_merge,
      .attend_finish = attend_finish,
      .probe_read = probe_read,
      .probe_fma = probe_fma,
      .probe_bf16 = nullptr,
      .probe_int16 = probe_int16,
      .probe_int8 = probe_int8,
      .probe_int8_words = probe_int8_words,
      .quantize_blocks = quantize_blocks,
  };
}

}  // namespace
}  // namespace rhapsode::kernels
