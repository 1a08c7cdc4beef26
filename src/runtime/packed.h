// The directory of packed caches: what it holds and how it gets smaller.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rhapsode::runtime {

struct PackedEntry {
  std::string path;
  std::string source;  // the checkpoint's directory; empty where the file is not whole
  uint64_t bytes = 0;
  bool current = false;  // can be used: of this layout, and its checkpoint is as it was
  bool in_use = false;   // being written now
};
std::vector<PackedEntry> packed_entries(const std::string& directory);

struct PackedRemoved {
  std::vector<std::string> paths;
  uint64_t bytes = 0;
};
// All of them, or those alone that nothing can use any more; never one that is being written.
PackedRemoved remove_packed(const std::string& directory, bool stale_only, bool dry_run);

}  // namespace rhapsode::runtime
