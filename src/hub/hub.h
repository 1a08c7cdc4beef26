// From a model id or a path to a local directory. Offline part: the standard Hugging Face cache. Opens no
// socket; pull.h fetches what is not there.
#pragma once

#include <string>

#include "hub/settings.h"

namespace rhapsode::hub {

// A directory, or a text that can only mean one ('/', './', '../' or '~' at its start): nothing to fetch.
bool is_local(const std::string& model_id);

// Throws Error(config) where `model_id` is neither local nor a name that a hub can know, or `revision` (of
// one that is not local) no branch, tag or commit.
void check_model_name(const std::string& model_id, const std::string& revision);

// The directory that holds config.json: `model_id` itself where it is a directory, else the snapshot of
// `revision` (a branch, tag or commit; default "main") in the cache. An id that is in no place searched:
// ErrorKind::network, code "model-not-cached", naming every place. A path-like id (starts with '/', './',
// '../', '~') that is no directory: not_found. An id that is no valid repo id ("a/b/c", "..", control
// characters): config.
std::string resolve_model(const std::string& model_id, const std::string& revision,
                          const HubSettings& settings);

}  // namespace rhapsode::hub
