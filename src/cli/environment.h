// The one place that reads environment variables, and what the libraries get made of them and of the command
// line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/invocation.h"
#include "config/config.h"
#include "config/machine.h"
#include "hub/hub.h"

namespace rhapsode::cli {

std::optional<std::string> environment(const std::string& name);
bool progress_bars_disabled();  // HF_HUB_DISABLE_PROGRESS_BARS
std::string
history_file();  // $XDG_STATE_HOME/rhapsode/history, its directory is made; empty where there is no home

hub::HubSettings hub_settings(const Globals& globals);
// Usage error where there is no -c. `command` names it in the help.
config::LoadRequest load_request(const Globals& globals, const std::string& command);
std::optional<config::Machine> machine_of(const Globals& globals);  // --machine
uint32_t threads_of(const Globals& globals);                        // 0 = all usable cores

// --packed-cache, else the entry's packed_cache, else RHAPSODE_PACKED_CACHE: the directory, or empty for off.
std::string packed_cache_of(const Globals& globals, const config::ModelEntry* entry);
// Where it is when it is on: $XDG_CACHE_HOME/rhapsode/packed.
std::string default_packed_cache();

// What was measured of this machine: $XDG_CACHE_HOME/rhapsode/access.json; empty where there is no home.
std::string access_file();

// Where the active model's files are.
std::string model_directory(const config::ModelEntry& entry, const Globals& globals);

}  // namespace rhapsode::cli
