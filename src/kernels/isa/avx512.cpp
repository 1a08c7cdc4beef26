// The AVX-512 kernel set: the kernels of vec_*.h on vectors of 16 floats. Compiled with wide instruction
// flags, so it includes intrinsics and plain structs only, and nothing but the table leaves this file.
#include "kernels/isa/vec_avx512.h"

// The kernels are written in terms of the vector above, so they come after it, in a block of their own.
#include "kernels/isa/vec_table.h"

namespace rhapsode::kernels {

extern const Kernels kAvx512;
constinit const Kernels kAvx512 = table("avx512");

}  // namespace rhapsode::kernels
