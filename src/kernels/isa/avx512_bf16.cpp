// The AVX-512 kernel set for CPUs with VNNI and BF16: the kernels of avx512_vnni.cpp, but for bf16 weights
// times many tokens, which have an instruction of their own; and the set for CPUs that have AMX as well,
// which adds products by tiles. Compiled with wide instruction flags, so it includes intrinsics and plain
// structs only, and nothing but the tables and the checks of the CPU leaves this file.
#include "kernels/isa/vec_avx512.h"

// The kernels are written in terms of the vector above, so they come after it, in a block of their own.
#include "kernels/isa/vec_table.h"

// What replaces kernels of the table.
#include "kernels/isa/vec_vnni.h"

// What is added to it.
#include "kernels/isa/vec_bf16.h"

#include "kernels/isa/vec_amx.h"

namespace rhapsode::kernels {

extern const Kernels kAvx512Bf16;
constinit const Kernels kAvx512Bf16 = bf16_table("avx512-bf16");
extern const Kernels kAvx512Amx;
constinit const Kernels kAvx512Amx = amx_table();

bool avx512_bf16_sums_are_chains();  // as kernels/reference.h declares it
bool avx512_bf16_sums_are_chains() {
  return bf16_sums_are_chains();
}
bool avx512_amx_sums_are_blocks();
bool avx512_amx_sums_are_blocks() {
  return amx_sums_are_blocks();
}

}  // namespace rhapsode::kernels
