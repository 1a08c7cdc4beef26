// Models of the hub that are not on this machine: fetched with progress, whole or only their headers.
#pragma once

#include <filesystem>
#include <string>

#include "cli/invocation.h"
#include "config/config.h"
#include "hub/pull.h"

namespace rhapsode::cli {

std::string revision_of(const config::ModelEntry& entry);
// A directory with a config, or whole in the cache.
bool model_files_are_here(const config::ModelEntry& entry, const hub::HubSettings& settings);
// The same, or a path, or offline, where nothing can be fetched anyway.
bool is_on_this_machine(const config::ModelEntry& entry, const hub::HubSettings& settings);

// The directory of an entry's model; fetches it where it is not on this machine.
std::string fetched_model(const config::ModelEntry& entry, const hub::HubSettings& settings,
                          const Globals& globals);

// The same for its tokenizer and template alone.
std::string fetched_text(const config::ModelEntry& entry, const hub::HubSettings& settings,
                         const Globals& globals);

hub::Pulled pull_model(const hub::PullRequest& request, const hub::HubSettings& settings,
                       const Globals& globals);

// A temporary directory with a model's headers; removed at the end.
class HeaderDirectory {
 public:
  HeaderDirectory();
  ~HeaderDirectory();
  HeaderDirectory(const HeaderDirectory&) = delete;
  HeaderDirectory& operator=(const HeaderDirectory&) = delete;
  std::string fill(const config::ModelEntry& entry, const hub::HubSettings& settings, const Globals& globals);

 private:
  std::filesystem::path path_;
};

}  // namespace rhapsode::cli
