// The issues of the guide's troubleshooting chapter, each answered for this machine and, where there is one,
// for this config. Reads nothing by itself.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"
#include "devices/inventory.h"
#include "hub/settings.h"

namespace rhapsode::cli {

struct MachineFacts {
  devices::Inventory inventory;
  std::string isa;         // the kernel set in use
  double read_gb_s = 0;    // measured
  std::string huge_pages;  // always, madvise, never; empty: unknown
};

struct Answer {
  std::string issue;                  // the guide's title
  std::vector<std::string> facts;     // what holds here
  std::vector<std::string> commands;  // what to run
};

// `entry` may be null: then the answers are those of the machine alone. `on_this_machine` says whether the
// entry's files are.
std::vector<Answer> troubleshooting(const MachineFacts& machine, const hub::HubSettings& hub,
                                    const config::ModelEntry* entry, bool on_this_machine);

}  // namespace rhapsode::cli
