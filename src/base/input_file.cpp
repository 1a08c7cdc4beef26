#include "base/input_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace rhapsode {

InputFile::InputFile(const std::string& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) {
    const bool missing = errno == ENOENT || errno == ENOTDIR, denied = errno == EACCES;
    throw Error(missing ? ErrorKind::not_found : ErrorKind::runtime,
                missing ? "file-not-found" : "cannot-open",
                fmt::format("cannot open the file: {}", std::strerror(errno)))
        .in(path)
        .hint(denied ? "check who may read it: ls -l"
                     : "check the path; a relative one starts at the working directory");
  }
  struct stat info {};
  if (::fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) {
    const bool directory = S_ISDIR(info.st_mode);
    ::close(fd_);
    throw Error(ErrorKind::runtime, "not-a-file", "not a regular file")
        .in(path)
        .saw(directory ? "a directory" : "a pipe or a device")
        .want("a regular file")
        .hint(directory ? "name the file within it" : "write it to a file first, and name that");
  }
  size_bytes_ = static_cast<uint64_t>(info.st_size);
}

InputFile::~InputFile() {
  if (fd_ >= 0) ::close(fd_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(other.fd_), size_bytes_(other.size_bytes_) {
  other.fd_ = -1;
}

void InputFile::read(uint64_t offset_bytes, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n =
        ::pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset_bytes + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      throw Error(ErrorKind::runtime, "read-failed", fmt::format("cannot read: {}", std::strerror(errno)))
          .in(path_);
    if (n == 0)
      throw Error(ErrorKind::integrity, "file-truncated", "the file ends before its data")
          .in(path_)
          .saw(fmt::format("end of file at byte {}", offset_bytes + done))
          .want(fmt::format("{} bytes from byte {}", out.size(), offset_bytes))
          .hint("the file changed while it was read, or its download is incomplete: fetch it again");
    done += static_cast<size_t>(n);
  }
}

void InputFile::read_ahead(uint64_t offset_bytes, uint64_t length_bytes) const {
  ::posix_fadvise(fd_, static_cast<off_t>(offset_bytes), static_cast<off_t>(length_bytes),
                  POSIX_FADV_WILLNEED);
}

}  // namespace rhapsode
