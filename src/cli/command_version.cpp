// `version`: what this binary is and what it can use on this machine.
#include <fmt/format.h>

#include "cli/invocation.h"
#include "cli/terminal.h"
#include "devices/inventory.h"
#include "runtime/kernel_sets.h"

namespace rhapsode::cli {
namespace {

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#else
constexpr const char* kCompiler = "g++ " __VERSION__;
#endif

std::string chosen_set() {
  for (const runtime::KernelSetInfo& set : runtime::kernel_sets())
    if (set.supported) return set.name;
  return "";
}

OrderedJson version_json(const devices::Inventory& inventory) {
  OrderedJson sets = OrderedJson::array();
  for (const runtime::KernelSetInfo& set : runtime::kernel_sets())
    sets.push_back({{"name", set.name}, {"supported", set.supported}, {"needs", set.needs}});
  OrderedJson out;
  out["version"] = RHAPSODE_VERSION;
  out["isa"] = chosen_set();
  out["isa_sets"] = sets;
  out["cpu"] = inventory.cpu_name;
  out["cores"] = inventory.cores;
  out["compiler"] = kCompiler;
  out["build_type"] = RHAPSODE_BUILD_TYPE;
  return out;
}

int version(const Globals& globals) {
  const devices::Inventory inventory = devices::read_inventory();
  if (globals.json) {
    print_json(version_json(inventory));
    return 0;
  }
  std::string sets;
  for (const runtime::KernelSetInfo& set : runtime::kernel_sets()) {
    sets += fmt::format("{}{}", sets.empty() ? "" : ", ", set.name);
    if (!set.supported) sets += fmt::format(" (not here: needs {})", set.needs);
  }
  print(
      fmt::format("rhapsode {}\n  cpu       {}, {} usable cores\n  kernels   {} of {}\n  compiler  {}, {}\n",
                  RHAPSODE_VERSION, inventory.cpu_name, inventory.cores, chosen_set(), sets, kCompiler,
                  RHAPSODE_BUILD_TYPE));
  return 0;
}

}  // namespace

void add_version(Invocation& invocation) {
  Command(invocation, "version", kProgramGroup, "Version, kernel sets, CPU and compiler",
          "  rhapsode version --json")
      .action([&invocation] { return version(invocation.globals); });
}

}  // namespace rhapsode::cli
