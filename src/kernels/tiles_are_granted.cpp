// AMX's tiles are a state that the kernel keeps for a process once it has asked. Tests that emulate the
// instructions replace this file.
#include "kernels/reference.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace rhapsode::kernels {

#if defined(__x86_64__) && defined(__linux__)
namespace {

constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA

bool cpu_has_tiles() {
  constexpr unsigned kBf16 = 1u << 22, kTiles = 1u << 24, kInt8 = 1u << 25;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kBf16) != 0 && (edx & kTiles) != 0 &&
         (edx & kInt8) != 0;
}

}  // namespace

bool tiles_are_granted() {
  return cpu_has_tiles() && ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#else
bool tiles_are_granted() {
  return false;
}
#endif

}  // namespace rhapsode::kernels
