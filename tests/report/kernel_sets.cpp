// Says which kernel sets the tests of this machine executed, and which they could only emulate: a green run
// on one CPU proves less about the others.
#include <cstdio>

#include "kernels/kernels.h"

int main() {
  for (const auto& set : rhapsode::kernels::kernel_sets()) {
    const std::string_view name = set.kernels->name;
    std::printf("kernel set %.*s: ", static_cast<int>(name.size()), name.data());
    if (set.supported) {
      std::puts("executed");
    } else {
      std::printf("NOT executed (its values are emulated by the label emulated): this CPU lacks %.*s\n",
                  static_cast<int>(set.needs.size()), set.needs.data());
    }
  }
}
