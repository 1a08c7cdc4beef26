// The AVX-512 kernel set for CPUs with VNNI: the kernels of avx512.cpp, but for the integer products, whose
// sums of bytes and of words are one instruction. Compiled with wide instruction flags, so it includes
// intrinsics and plain structs only, and nothing but the table leaves this file.
#include "kernels/isa/vec_avx512.h"

// The kernels are written in terms of the vector above, so they come after it, in a block of their own.
#include "kernels/isa/vec_table.h"

// What replaces kernels of the table.
#include "kernels/isa/vec_vnni.h"

namespace rhapsode::kernels {

extern const Kernels kAvx512Vnni;
constinit const Kernels kAvx512Vnni = vnni_table("avx512-vnni");

}  // namespace rhapsode::kernels
