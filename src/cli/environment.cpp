#include "cli/environment.h"

#include <cstdlib>
#include <filesystem>

#include "cli/numbers.h"

namespace rhapsode::cli {

std::optional<std::string> environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

bool progress_bars_disabled() {
  std::string value = environment("HF_HUB_DISABLE_PROGRESS_BARS").value_or("");
  for (char& c : value) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

std::string history_file() {
  std::string state = environment("XDG_STATE_HOME").value_or("");
  if (state.empty()) {
    const std::string home = environment("HOME").value_or("");
    if (home.empty()) return "";
    state = home + "/.local/state";
  }
  const std::filesystem::path directory = std::filesystem::path(state) / "rhapsode";
  std::error_code code;
  std::filesystem::create_directories(directory, code);
  return code ? "" : (directory / "history").string();
}

hub::HubSettings hub_settings(const Globals& globals) {
  hub::HubSettings settings = hub::hub_settings(environment);
  settings.offline = settings.offline || globals.offline;
  return settings;
}

config::LoadRequest load_request(const Globals& globals, const std::string& command) {
  if (globals.config.empty())
    throw Error(ErrorKind::usage, "missing-option", command + " needs a config")
        .at("--config")
        .want("-c FILE")
        .hint("rhapsode " + command + " -c FILE");
  return {globals.config, globals.model, globals.sets};
}

std::optional<config::Machine> machine_of(const Globals& globals) {
  if (globals.machine.empty()) return std::nullopt;
  std::string problem;
  auto machine = config::parse_machine(globals.machine, problem);
  if (machine) return machine;
  throw Error(ErrorKind::usage, "bad-machine", "--machine names no devices: " + problem)
      .at("--machine")
      .saw(excerpt(globals.machine))
      .want(config::kMachineForm)
      .hint("leave --machine out for this machine itself");
}

uint32_t threads_of(const Globals& globals) {
  constexpr uint64_t kMost = 4096;
  return globals.threads.empty()
             ? 0
             : static_cast<uint32_t>(read_integer("--threads", globals.threads, 1, kMost));
}

namespace {

// $XDG_CACHE_HOME/rhapsode, or null where no variable says where caches are.
std::optional<std::filesystem::path> own_cache() {
  if (const auto cache = environment("XDG_CACHE_HOME"); cache && !cache->empty())
    return std::filesystem::path(*cache) / "rhapsode";
  if (const auto home = environment("HOME"); home && !home->empty())
    return std::filesystem::path(*home) / ".cache" / "rhapsode";
  return std::nullopt;
}

}  // namespace

std::string default_packed_cache() {
  const auto cache = own_cache();
  if (!cache)
    throw Error(ErrorKind::config, "no-home", "no variable says where caches are")
        .want("HOME or XDG_CACHE_HOME")
        .hint("name a directory: --packed-cache DIR");
  return (*cache / "packed").string();
}

std::string access_file() {
  const auto cache = own_cache();
  return cache ? (*cache / "access.json").string() : std::string();
}

std::string packed_cache_of(const Globals& globals, const config::ModelEntry* entry) {
  std::string where = globals.packed_cache;
  if (where.empty() && entry != nullptr && entry->packed_cache) where = entry->packed_cache->value;
  if (where.empty()) where = environment("RHAPSODE_PACKED_CACHE").value_or("");
  if (where.empty() || where == "off") return "";
  return where == "on" ? default_packed_cache() : where;
}

std::string model_directory(const config::ModelEntry& entry, const Globals& globals) {
  return hub::resolve_model(entry.model_id.value, entry.revision ? entry.revision->value : "main",
                            hub_settings(globals));
}

}  // namespace rhapsode::cli
