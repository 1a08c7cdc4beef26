// The cache as a whole: what is in it, whether it is right, and how it gets smaller. Opens no socket.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "hub/settings.h"

namespace rhapsode::hub {

struct KeptRevision {
  std::string commit;
  std::vector<std::string> refs;  // branches and tags that name it
  uint64_t files = 0;
  uint64_t bytes = 0;  // of its files; shared ones count in each revision
  bool whole = false;  // can be run as it is
};
struct KeptModel {
  std::string id;
  std::string directory;
  uint64_t bytes = 0;          // on disk, shared files once
  uint64_t partial_bytes = 0;  // of downloads that have not ended
  std::vector<KeptRevision> revisions;
};
std::vector<KeptModel> kept_models(const HubSettings& settings);

enum class FileState : uint8_t { right, damaged, gone, unknown };  // unknown: nothing says what it should be
struct CheckedFile {
  std::string id, commit, name;
  uint64_t bytes = 0;
  FileState state = FileState::unknown;
  std::string expected, found;  // hashes
};
// Hashes every file of one model, or of all where `id` is empty. `progress` may throw to stop.
std::vector<CheckedFile> verify_cache(const HubSettings& settings, const std::string& id,
                                      const std::function<void(uint64_t done, uint64_t total)>& progress);

struct Removed {
  std::vector<std::string> paths;
  uint64_t bytes = 0;
};
// A model, or one revision of it (a branch, a tag, a commit). not_found where it is not there; runtime where
// it is being fetched.
Removed remove_model(const HubSettings& settings, const std::string& id, const std::string& revision);
// Revisions that no branch or tag names, files that no revision has, downloads that nobody goes on with.
Removed prune_cache(const HubSettings& settings, bool dry_run);

}  // namespace rhapsode::hub
