// The issues of the guide's troubleshooting chapter, each answered for this machine and, where there is one,
// for this config. Reads nothing by itself.
#pragma once

#include <map>
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
  uint32_t threads = 0;    // in use
  double read_gb_s = 0;    // measured
  std::string huge_pages;  // always, madvise, never; empty: unknown
};

// What the plan of the config says, where the model is on this machine.
struct PlanFacts {
  bool fits = false;
  uint64_t needed_bytes = 0, short_bytes = 0;
  uint64_t bytes_per_token = 0;  // of weights
  uint64_t moved_bytes = 0;      // of these: brought from another device at each pass
  uint64_t quantized_anew = 0;   // blocks that are quantized at each pass
  std::string quantization;      // 8bit, 4bit, of the checkpoint or asked for; empty: none
  bool is_float32 = false, has_chat_template = false;
  std::vector<std::pair<std::string, std::string>> changes;  // that make it fit: what, arguments for --set
};

struct Answer {
  std::string issue;                  // the guide's title
  std::vector<std::string> facts;     // what holds here
  std::vector<std::string> commands;  // what to run
};

// About one config; without it the answers are those of the machine alone.
struct ConfigFacts {
  std::string arguments;  // that name the config as the user did, for a shell
  const config::ModelEntry* entry = nullptr;
  std::map<std::string, config::Explanation> values;  // of generation keys, with what the checkpoint says
  std::optional<PlanFacts> plan;                      // none where the model's files are not on this machine
  std::optional<Error> refusal;                       // why there is no plan
};

// In quotes where a shell would take it apart.
std::string shell_word(const std::string& text);

std::vector<Answer> troubleshooting(const MachineFacts& machine, const hub::HubSettings& hub,
                                    const ConfigFacts& config);

}  // namespace rhapsode::cli
