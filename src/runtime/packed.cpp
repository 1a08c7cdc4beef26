#include "runtime/packed.h"

#include <filesystem>

#include "base/error.h"
#include "model/packed_cache.h"

namespace rhapsode::runtime {

std::vector<PackedEntry> packed_entries(const std::string& directory) {
  std::vector<PackedEntry> entries;
  for (const model::PackedFile& file : model::packed_files(directory))
    entries.push_back({file.path, file.source, file.bytes, file.current, file.in_use});
  return entries;
}

PackedRemoved remove_packed(const std::string& directory, bool stale_only, bool dry_run) {
  PackedRemoved removed;
  for (const PackedEntry& entry : packed_entries(directory)) {
    if (entry.in_use || (stale_only && entry.current)) continue;
    std::error_code code;
    if (!dry_run) std::filesystem::remove(entry.path, code);
    if (code)
      throw Error(ErrorKind::runtime, "cannot-remove", "a packed cache cannot be removed")
          .in(entry.path)
          .saw(code.message());
    removed.paths.push_back(entry.path);
    removed.bytes += entry.bytes;
  }
  return removed;
}

}  // namespace rhapsode::runtime
