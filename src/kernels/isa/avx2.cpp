// The AVX2 kernel set: the kernels of vec_*.h on vectors of 8 floats. Compiled with wide instruction flags,
// so it includes intrinsics and plain structs only, and nothing but the table leaves this file.
#include "kernels/isa/vec_avx2.h"

// The kernels are written in terms of the vector above, so they come after it, in a block of their own.
#include "kernels/isa/vec_table.h"

namespace rhapsode::kernels {

extern const Kernels kAvx2;
constinit const Kernels kAvx2 = table("avx2");

}  // namespace rhapsode::kernels
