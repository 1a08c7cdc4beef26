// The AVX2 kernel set: the kernels of vec_*.h on vectors of 8 floats. Compiled with wide instruction flags,
// so it includes intrinsics and plain structs only, and nothing but the table leaves this file.
#include "kernels/isa/vec_avx2.h"
// clang-format off: each of these builds on the ones before it
#include "kernels/isa/vec_attention.h"
#include "kernels/isa/vec_math.h"
#include "kernels/isa/vec_matmul.h"
#include "kernels/isa/vec_rows.h"
#include "kernels/isa/vec_table.h"
// clang-format on

namespace rhapsode::kernels {

extern const Kernels kAvx2;
constinit const Kernels kAvx2 = table("avx2");

}  // namespace rhapsode::kernels
