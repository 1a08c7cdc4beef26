// The table of the reference set.
#include "kernels/reference.h"

namespace rhapsode::kernels {

constinit const Kernels kReference = {
    .name = "reference",
    .gemv = {reference::gemv<Format::f32>, reference::gemv<Format::f16>, reference::gemv<Format::bf16>},
    .expand = {reference::expand<Format::f32>, reference::expand<Format::f16>,
               reference::expand<Format::bf16>},
    .gemm_tile = reference::gemm_tile,
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
