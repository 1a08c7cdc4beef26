// What access tuners settled on, kept in a file of the user's cache, a line a CPU, kernel set, threads and
// kind of weights.
#pragma once

#include <optional>
#include <string>

#include "model/access_tuner.h"

namespace rhapsode::runtime {

struct AccessKey {
  std::string cpu;      // its name and signature
  std::string kernels;  // the set
  uint32_t threads = 1;
  std::string weights;  // "streamed" or "unpacked", as kernels::Access names them
  bool operator==(const AccessKey&) const = default;
};

// Null where the file is absent, is no record of ours, or holds no such key: it is then measured anew.
std::optional<model::AccessTuner::Choice> recorded_access(const std::string& file, const AccessKey& key);

// Replaces the key's line. Throws Error(io) where the file cannot be written.
void record_access(const std::string& file, const AccessKey& key, const model::AccessTuner::Choice& choice);

}  // namespace rhapsode::runtime
