// Whether the files of a checkpoint are still those that were opened: weights that lie on disk are read again
// and again. A file that ends early is noticed by reading it; this notices one that was written over in
// place.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace rhapsode::model {

class FileStamps {
 public:
  explicit FileStamps(const Checkpoint& checkpoint);

  // Throws Error(integrity, "checkpoint-changed"). A file that was replaced or removed is no change: the one
  // that was opened is still read.
  void require_unchanged() const;

 private:
  struct Stamp {
    std::string path;
    uint64_t device = 0, inode = 0, size_bytes = 0;
    int64_t seconds = 0, nanoseconds = 0;  // of the last change
    bool known = false;
  };
  static Stamp stamp_of(const std::string& path);
  std::vector<Stamp> stamps_;
};

}  // namespace rhapsode::model
