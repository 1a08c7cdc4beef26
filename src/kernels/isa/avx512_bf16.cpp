// The AVX-512 kernel set for CPUs with VNNI and BF16: the kernels of avx512_vnni.cpp, but for bf16 weights
// times many tokens, which have an instruction of their own. Compiled with wide instruction flags, so it
// includes intrinsics and plain structs only, and nothing but the table and the check of the CPU leaves this
// file.
#include "kernels/isa/vec_avx512.h"

// The kernels are written in terms of the vector above, so they come after it, in a block of their own.
#include "kernels/isa/vec_table.h"

// What replaces kernels of the table.
#include "kernels/isa/vec_vnni.h"

// What is added to it.
#include "kernels/isa/vec_bf16.h"

namespace rhapsode::kernels {

extern const Kernels kAvx512Bf16;
constinit const Kernels kAvx512Bf16 = bf16_table();

bool avx512_bf16_sums_are_chains();  // as kernels/reference.h declares it
bool avx512_bf16_sums_are_chains() {
  return bf16_sums_are_chains();
}

}  // namespace rhapsode::kernels
