#include "base/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/error.h"

namespace rhapsode {
namespace {

// Temporary names of one process never collide; O_EXCL refuses what another process left.
std::atomic<uint64_t> next_number{0};

std::string directory_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  temporary_ = fmt::format("{}.{}-{}.partial", path, ::getpid(), next_number.fetch_add(1));
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) {
    const bool missing = errno == ENOENT || errno == ENOTDIR;
    throw Error(missing ? ErrorKind::not_found : ErrorKind::runtime, "cannot-create",
                fmt::format("cannot create the file: {}", std::strerror(errno)))
        .in(path_)
        .hint("the directory must exist and be writable");
  }
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* what) const {
  const int code = errno;
  throw Error(ErrorKind::runtime, code == ENOSPC ? "disk-full" : "write-failed",
              fmt::format("cannot {} the file: {}", what, std::strerror(code)))
      .in(path_)
      .hint("the final name was left as it was; free space or fix the disk, then run again");
}

void AtomicFile::append(std::span<const std::byte> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::write(fd_, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write");
    done += static_cast<size_t>(n);
  }
}

void AtomicFile::write_at(uint64_t offset_bytes, std::span<const std::byte> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n =
        ::pwrite(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset_bytes + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write");
    done += static_cast<size_t>(n);
  }
}

void AtomicFile::commit() {
  if (::fsync(fd_) != 0) fail("sync");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename");
  const int fd = fd_;
  fd_ = -1;  // from here on there is no temporary file to remove
  if (::close(fd) != 0) fail("close");
  const int directory = ::open(directory_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) fail("open the directory of");
  const bool synced =
      ::fsync(directory) == 0 || errno == EINVAL;  // EINVAL: a file system without directory sync
  ::close(directory);
  if (!synced) fail("sync the directory of");
}

}  // namespace rhapsode
