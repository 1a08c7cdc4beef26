// Read before kernels/dispatch.cpp where the AVX-512 sets are emulated: it then finds the CPU to have them,
// and AVX2, which they are made of, where it does.
#pragma once

#include <string_view>

// The inner name is the compiler's: a macro does not expand itself.
#define __builtin_cpu_supports(feature) \
  (std::string_view(feature).starts_with("avx512") || __builtin_cpu_supports(feature))
