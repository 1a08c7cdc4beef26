// Which kernel sets this build has and which of them this CPU can run.
#include <algorithm>
#include <chrono>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "kernels/kernels.h"
#include "kernels/reference.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace rhapsode::kernels {

Access access;

namespace {

#if defined(__x86_64__)
// __builtin_cpu_supports knows no "f16c" in every compiler that builds this; it follows the AVX state
// otherwise.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

bool has_avx512_vnni() {
  return has_avx512() && __builtin_cpu_supports("avx512vnni");
}

// The set equals the others only where the instruction rounds as it is specified to.
bool has_avx512_bf16() {
  return has_avx512_vnni() && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16") &&
         avx512_bf16_sums_are_chains();
}

// Whether a multiply-add of pairs takes less than two of floats: on some CPUs it takes longer, and the set
// without them, which gives the same bits, is the better one.
bool pairs_pay() {
  const auto time = [](uint64_t (*probe)(uint64_t)) {
    constexpr uint64_t kRounds = 256;
    double least = std::numeric_limits<double>::max();
    for (int turn = 0; turn < 5; ++turn) {
      const auto start = std::chrono::steady_clock::now();
      const auto operations = static_cast<double>(probe(kRounds));
      least =
          std::min(least, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
                              operations);
    }
    return least;
  };
  return time(kAvx512Bf16.probe_bf16) < time(kAvx512Bf16.probe_fma);
}

bool has_avx512_amx() {
  return has_avx512_bf16() && tiles_are_granted() && avx512_amx_sums_are_blocks();
}
#endif

std::vector<KernelSet> detect() {
  std::vector<KernelSet> sets;
#if defined(__x86_64__)
  sets.push_back(
      {&kAvx512Amx, has_avx512_amx(), "AVX-512 F, BW, VL, DQ, VBMI, VNNI, BF16, AMX TILE, INT8, BF16"});
  sets.push_back({&kAvx512Bf16, has_avx512_bf16(), "AVX-512 F, BW, VL, DQ, VBMI, VNNI, BF16"});
  sets.push_back({&kAvx512Vnni, has_avx512_vnni(), "AVX-512 F, BW, VL, DQ, VNNI"});
  if (has_avx512_bf16() && !pairs_pay()) std::swap(sets[sets.size() - 1], sets[sets.size() - 2]);
  sets.push_back({&kAvx512, has_avx512(), "AVX-512 F, BW, VL, DQ"});
  sets.push_back({&kAvx2, has_avx2(), "AVX2, FMA, F16C"});
#endif
  sets.push_back({&kReference, true, "nothing"});
  sets.push_back({&reference_with_tiles(), true, "nothing"});
  return sets;
}

std::string names(bool supported_only) {
  std::string list;
  for (const KernelSet& set : kernel_sets()) {
    if (supported_only && !set.supported) continue;
    if (!list.empty()) list += ", ";
    list += set.kernels->name;
  }
  return list;
}

}  // namespace

std::span<const KernelSet> kernel_sets() {
  static const std::vector<KernelSet> sets = detect();
  return sets;
}

const Kernels& select_kernels(std::string_view name) {
  for (const KernelSet& set : kernel_sets()) {
    if (name.empty() ? !set.supported : set.kernels->name != name) continue;
    if (set.supported) {
      access = set.kernels->usual_access;
      return *set.kernels;
    }
    throw Error(ErrorKind::unsupported, "isa-not-available", "this CPU cannot run the kernel set asked for")
        .saw(std::string(name) + ", which needs " + std::string(set.needs))
        .want(names(true))
        .hint("leave the choice to the program, or name one of the sets that this CPU can run");
  }
  throw Error(ErrorKind::usage, "unknown-isa", "this build has no kernel set of this name")
      .saw(std::string(name))
      .want(names(false));
}

}  // namespace rhapsode::kernels
