// The table of the reference set.
#include "kernels/reference.h"

namespace rhapsode::kernels {

constinit const Kernels kReference = {
    .name = "reference",
    .gemv = {reference::gemv<Format::f32>, reference::gemv<Format::f16>, reference::gemv<Format::bf16>},
    .expand = {reference::expand<Format::f32>, reference::expand<Format::f16>,
               reference::expand<Format::bf16>, nullptr, reference::expand_four_bit<Format::nf4>,
               reference::expand_four_bit<Format::nf4_nested>, reference::expand_four_bit<Format::fp4>,
               reference::expand_four_bit<Format::fp4_nested>},
    .gemm_tile = reference::gemm_tile,
    .quantize_int8 = reference::quantize_int8,
    .quantize_fixed = reference::quantize_fixed,
    .gemv_quantized = {nullptr, nullptr, nullptr, reference::gemv_int8, reference::gemv_fixed<Format::nf4>,
                       reference::gemv_fixed<Format::nf4_nested>, reference::gemv_fixed<Format::fp4>,
                       reference::gemv_fixed<Format::fp4_nested>},
    .expand_codes = {nullptr, nullptr, nullptr, reference::expand_int8_codes,
                     reference::expand_fixed_codes<Format::nf4>,
                     reference::expand_fixed_codes<Format::nf4_nested>,
                     reference::expand_fixed_codes<Format::fp4>,
                     reference::expand_fixed_codes<Format::fp4_nested>},
    .tile_int16 = reference::tile_int16,
    .tile_fixed = reference::tile_fixed,
    .finish_int8 = reference::finish_int8,
    .gemm_tokens = reference::kGemmTokens,
    .round_row = reference::round_row,
    .add = reference::add,
    .add_bias = reference::add_bias,
    .scale = reference::scale,
    .rms_norm_l = reference::rms_norm_l,
    .rms_norm_g = reference::rms_norm_g,
    .layer_norm = reference::layer_norm,
    .rope = reference::rope,
    .activate = reference::activate,
    .activate_mul = reference::activate_mul,
    .softcap = reference::softcap,
    .pack_tokens = reference::pack_tokens,
    .store = reference::store,
    .load = reference::load,
    .attend_block = reference::attend_block,
    .attend_merge = reference::attend_merge,
    .attend_finish = reference::attend_finish,
    .probe_read = reference::probe_read,
    .probe_fma = reference::probe_fma,
};

}  // namespace rhapsode::kernels
