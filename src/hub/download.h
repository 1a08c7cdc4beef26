// One blob of the cache: fetched into a partial file of our own, hashed as it comes, resumed by whatever
// process comes next, and given its final name only when size and hash are right.
#pragma once

#include <functional>
#include <string>

#include "hub/cache.h"
#include "hub/client.h"

namespace rhapsode::hub {

enum class Source : uint8_t { cache, hub, resumed };

struct Blob {
  std::string id, commit, path;
  TreeFile file;
};

struct Fetched {
  Source source = Source::cache;
  uint64_t received_bytes = 0;  // of bodies, wasted ones included
};

// `arrived` is told how many bytes of the blob are there so far; it may shrink where a start was in vain.
Fetched fetch_blob(Client& client, const RepoCache& cache, const Blob& blob,
                   const std::function<void(uint64_t bytes)>& arrived);

// Of a blob, not yet on this disk.
uint64_t missing_bytes(const RepoCache& cache, const Blob& blob);
// Throws runtime, "disk-full" where the disk has no room for so many bytes and a reserve.
void require_space(const std::string& directory, uint64_t needed);

// The names beside the final one. Nothing but fetch_blob and `cache prune` touches them.
std::string partial_file(const std::string& blob_file);
std::string partial_notes_file(const std::string& blob_file);

constexpr uint64_t kMarkBytes = 8 << 20;  // at most so much is fetched a second time after a kill

}  // namespace rhapsode::hub
