// The AVX-512 kernel set: the kernels of vec_*.h on vectors of 16 floats. Compiled with wide instruction
// flags, so it includes intrinsics and plain structs only, and nothing but the table leaves this file.
#include "kernels/isa/vec_avx512.h"
// clang-format off: each of these builds on the ones before it
#include "kernels/isa/vec_attention.h"
#include "kernels/isa/vec_math.h"
#include "kernels/isa/vec_matmul.h"
#include "kernels/isa/vec_rows.h"
#include "kernels/isa/vec_table.h"
// clang-format on

namespace rhapsode::kernels {

extern const Kernels kAvx512;
constinit const Kernels kAvx512 = table("avx512");

}  // namespace rhapsode::kernels
