// From a model id or a path to a local directory. Offline part: the standard Hugging Face cache. Reads no
// environment: the command line fills HubSettings (hub_settings).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace rhapsode::hub {

struct HubSettings {
  std::string cache_directory;  // HF_HUB_CACHE
  bool offline = false;         // HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE or --offline
};

// HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, HOME, HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE
// with `~` and
// `$VAR` expanded. `getenv_like` returns nullopt for an unset variable.
HubSettings hub_settings(const std::function<std::optional<std::string>(const std::string&)>& getenv_like);

// The directory that holds config.json: `model_id` itself where it is a directory, else the snapshot of
// `revision` (a branch, tag or commit; default "main") in the cache. An id that is in no place searched:
// ErrorKind::network, code "model-not-cached", naming every place. A path-like id (starts with '/', './',
// '../', '~') that is no directory: not_found. An id that is no valid repo id ("a/b/c", "..", control
// characters): config.
std::string resolve_model(const std::string& model_id, const std::string& revision,
                          const HubSettings& settings);

}  // namespace rhapsode::hub
