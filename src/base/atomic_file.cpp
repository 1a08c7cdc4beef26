#include "base/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/error.h"

namespace rhapsode {
namespace {

namespace fs = std::filesystem;

// Temporary names of one process never collide. One that a killed process of the same id left (in a container
// ids repeat) is passed over.
std::atomic<uint64_t> next_number{0};

std::string temporary_name(const std::string& path) {
  return fmt::format("{}.{}-{}{}", path, ::getpid(), next_number.fetch_add(1), AtomicFile::kExtension);
}

// Locks what was just created; false where somebody took it for abandoned and removed it before.
bool lock_new(int fd) {
  ::flock(fd, LOCK_EX | LOCK_NB);  // best effort: some file systems have no locks
  struct stat info {};
  return ::fstat(fd, &info) != 0 || info.st_nlink > 0;
}

bool sync_directory(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool synced = ::fsync(fd) == 0 || errno == EINVAL;  // EINVAL: a file system without directory sync
  ::close(fd);
  return synced;
}

std::string directory_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace

void AtomicFile::create() {
  do {
    temporary_ = temporary_name(path_);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (fd_ < 0 && errno == EEXIST);
}

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  create();
  while (fd_ >= 0 && !lock_new(fd_)) {
    ::close(fd_);
    create();
  }
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
      .hint(code == EISDIR ? "the name belongs to a directory: name a file"
                           : "the final name was left as it was; free space or fix the disk, then run again");
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
  if (!sync_directory(directory_of(path_))) fail("sync the directory of");
}

bool is_abandoned(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  if (fd < 0) return false;
  const bool granted = ::flock(fd, LOCK_EX | LOCK_NB) == 0;
  ::close(fd);
  return granted;
}

void remove_abandoned(const std::string& path) {
  const std::string stem = fs::path(path).filename().string() + ".";
  std::error_code code;
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory_of(path), code)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(stem) && name.ends_with(AtomicFile::kExtension) && is_abandoned(entry.path()))
      found.push_back(entry.path());
  }
  for (const fs::path& entry : found) fs::remove_all(entry, code);
}

AtomicDirectory::AtomicDirectory(const std::string& path) : path_(path) {
  for (;;) {
    temporary_ = temporary_name(path_);
    const bool made = ::mkdir(temporary_.c_str(), 0777) == 0;
    if (made) fd_ = ::open(temporary_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd_ >= 0 && lock_new(fd_)) return;
    const bool again = fd_ >= 0 || errno == EEXIST || (made && errno == ENOENT);
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
    if (!again)
      throw Error(ErrorKind::runtime, "cannot-create",
                  fmt::format("cannot create the directory: {}", std::strerror(errno)))
          .in(temporary_)
          .hint("choose a directory whose parent can be written");
  }
}

AtomicDirectory::~AtomicDirectory() {
  std::error_code code;
  if (!temporary_.empty()) fs::remove_all(temporary_, code);
  if (fd_ >= 0) ::close(fd_);
}

bool AtomicDirectory::commit() {
  ::fsync(fd_);  // best effort, as that of the parent below
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR) return false;
    throw Error(ErrorKind::runtime, "write-failed",
                fmt::format("cannot rename the finished directory: {}", std::strerror(errno)))
        .in(path_);
  }
  temporary_.clear();
  sync_directory(directory_of(path_));
  return true;
}

}  // namespace rhapsode
