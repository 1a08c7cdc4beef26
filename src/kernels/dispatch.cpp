// Which kernel sets this build has and which of them this CPU can run.
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/kernels.h"
#include "kernels/reference.h"

namespace rhapsode::kernels {
namespace {

std::vector<KernelSet> detect() {
  std::vector<KernelSet> sets;
  sets.push_back({&kReference, true, "nothing"});
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
    if (set.supported) return *set.kernels;
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
