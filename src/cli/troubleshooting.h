// The issues of the guide's troubleshooting chapter, each answered for this machine and, where there is one,
// for this config. Reads nothing by itself.
#pragma once

#include <optional>
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

// What the plan of the config says, where the model is on this machine.
struct PlanFacts {
  bool fits = false;
  uint64_t needed_bytes = 0, short_bytes = 0, bytes_per_token = 0;
  std::string change;   // the first that makes it fit: arguments for --set; empty: none is known
  std::string refusal;  // why there is no plan
};

struct Answer {
  std::string issue;                  // the guide's title
  std::vector<std::string> facts;     // what holds here
  std::vector<std::string> commands;  // what to run
};

// About one config; without it the answers are those of the machine alone.
struct ConfigFacts {
  std::string file;
  const config::ModelEntry* entry = nullptr;
  std::optional<PlanFacts> plan;  // none where the model's files are not on this machine
};

std::vector<Answer> troubleshooting(const MachineFacts& machine, const hub::HubSettings& hub,
                                    const ConfigFacts& config);

}  // namespace rhapsode::cli
