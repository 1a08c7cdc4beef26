// A whole model into the cache, or what is needed of it to plan.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "hub/download.h"
#include "hub/settings.h"

namespace rhapsode::hub {

// All are called on the thread that called us, about ten times a second; each may throw to stop the work.
struct PullHooks {
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress;
  std::function<void(const std::string& text)> note;
  // When everything but the weights is there: may throw to refuse the model before they are fetched.
  std::function<void(const std::string& directory)> before_weights;
  std::function<void(std::chrono::milliseconds)> sleep;  // for tests: instead of waiting
};

struct PulledFile {
  std::string name;
  uint64_t bytes = 0;
  std::string sha256;
  Source source = Source::cache;
};

struct Pulled {
  std::string commit;
  std::string directory;  // the snapshot
  std::vector<PulledFile> files;
  uint64_t bytes_downloaded = 0;
};

struct PullRequest {
  std::string id;
  std::string revision = "main";
  bool verify = false;  // files of the cache are hashed again
};

// Fetches what is missing; afterwards the snapshot is whole and the ref names it. Offline, or for a commit
// that is whole already, no socket is opened.
Pulled pull(const PullRequest& request, const HubSettings& settings, const PullHooks& hooks);

// Everything but the weights: what tokenizing and templates need. Such a snapshot is not whole.
Pulled pull_text(const PullRequest& request, const HubSettings& settings, const PullHooks& hooks);

// True where the snapshot of `revision` in the cache has a tokenizer and all that its repository has beside
// it.
bool has_text(const std::string& id, const std::string& revision, const HubSettings& settings);

// True where the snapshot of `revision` in the cache has its config and all its weights, or weights of a kind
// that we do not fetch.
bool is_whole(const std::string& id, const std::string& revision, const HubSettings& settings);

// A directory that looks like the snapshot: config and index as they are, safetensors files of the right size
// with nothing but their headers in them. Fetches no more than that. `directory` exists and is empty; returns
// the bytes fetched.
uint64_t fetch_headers(const PullRequest& request, const HubSettings& settings, const PullHooks& hooks,
                       const std::string& directory);

}  // namespace rhapsode::hub
