#include "model/file_stamps.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "base/error.h"

namespace rhapsode::model {

FileStamps::Stamp FileStamps::stamp_of(const std::string& path) {
  struct stat info {};
  Stamp stamp;
  stamp.path = path;
  stamp.known = ::stat(path.c_str(), &info) == 0;
  stamp.device = info.st_dev;
  stamp.inode = info.st_ino;
  stamp.size_bytes = static_cast<uint64_t>(info.st_size);
  stamp.seconds = info.st_mtim.tv_sec;
  stamp.nanoseconds = info.st_mtim.tv_nsec;
  return stamp;
}

FileStamps::FileStamps(const Checkpoint& checkpoint) {
  for (const InputFile& shard : checkpoint.shards()) stamps_.push_back(stamp_of(shard.path()));
}

void FileStamps::require_unchanged() const {
  for (const Stamp& before : stamps_) {
    const Stamp now = stamp_of(before.path);
    if (!before.known || !now.known || now.device != before.device || now.inode != before.inode) continue;
    if (now.size_bytes == before.size_bytes && now.seconds == before.seconds &&
        now.nanoseconds == before.nanoseconds)
      continue;
    throw Error(ErrorKind::integrity, "checkpoint-changed",
                "a file of the checkpoint was written to while it is used")
        .in(before.path)
        .saw(fmt::format("{} bytes, changed at {}.{:09}", now.size_bytes, now.seconds, now.nanoseconds))
        .want(fmt::format("{} bytes, changed at {}.{:09}", before.size_bytes, before.seconds,
                          before.nanoseconds))
        .hint("load the model again when the file is whole");
  }
}

}  // namespace rhapsode::model
