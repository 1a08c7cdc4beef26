#include "hub/partial.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/input_file.h"
#include "base/json.h"
#include "hub/cache.h"
#include "hub/download.h"

namespace rhapsode::hub {
namespace {

constexpr size_t kBufferBytes = 1 << 20;
constexpr uint64_t kMaxNotesBytes = 16 << 20;

std::atomic<uint64_t> next_number{0};

}  // namespace

std::string partial_file(const std::string& blob_file) {
  return blob_file + ".rhapsode-partial";
}
std::string partial_notes_file(const std::string& blob_file) {
  return blob_file + ".rhapsode-notes";
}

Partial::Partial(std::string blob_file, const std::string& etag, uint64_t size_bytes, bool resumable)
    : blob_file_(std::move(blob_file)),
      file_(partial_file(blob_file_)),
      notes_file_(partial_notes_file(blob_file_)),
      resumable_(resumable),
      digest_(digest_kind(etag), size_bytes) {
  notes_.etag = etag;
  notes_.size_bytes = size_bytes;
  if (!resumable_) file_ = fmt::format("{}.{}-{}.rhapsode-partial", blob_file_, ::getpid(), next_number++);
  fd_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd_ < 0) fail("create");
  try {
    if (resumable_) take_up();
    if (bytes_ == 0 && ::ftruncate(fd_, 0) != 0) fail("cut");
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

Partial::~Partial() {
  if (fd_ >= 0) ::close(fd_);
  if (notes_fd_ >= 0) ::close(notes_fd_);
  if (fd_ >= 0 && !resumable_) ::unlink(file_.c_str());
}

void Partial::fail(const char* what) const {
  const int code = errno;
  throw Error(ErrorKind::runtime, code == ENOSPC ? "disk-full" : "write-failed",
              fmt::format("cannot {} a file of the cache: {}", what, std::strerror(code)))
      .in(file_)
      .hint("nothing wrong was kept; free space or fix the disk, then run again");
}

void Partial::take_up() {
  if (!is_file(notes_file_)) return;
  std::optional<PartialNotes> kept;
  if (size_of_file(notes_file_).value_or(0) <= kMaxNotesBytes)
    kept = parse_partial_notes(read_file(notes_file_, kMaxNotesBytes));
  if (!kept || kept->etag != notes_.etag || kept->size_bytes != notes_.size_bytes) return;
  const InputFile written(file_);
  Digest running = digest_;
  std::vector<std::byte> chunk(kBufferBytes);
  uint64_t at = 0, notes_end = kept->head_end;
  size_t good = 0;
  for (; good < kept->marks.size() && kept->marks[good].bytes <= written.size_bytes(); ++good) {
    const PartialNotes::Mark& mark = kept->marks[good];
    while (at < mark.bytes) {
      const std::span<std::byte> part =
          std::span(chunk).first(std::min<uint64_t>(chunk.size(), mark.bytes - at));
      written.read(at, part);
      running.add(part);
      at += part.size();
    }
    if (running.hex() != mark.hash) break;
    digest_ = running;
    bytes_ = mark.bytes;
    notes_end = mark.notes_end;
  }
  if (bytes_ == 0) return;
  kept->marks.resize(good);
  notes_ = std::move(*kept);
  if (::ftruncate(fd_, static_cast<off_t>(bytes_)) != 0) fail("cut");
  notes_fd_ = ::open(notes_file_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
  if (notes_fd_ < 0 || ::ftruncate(notes_fd_, static_cast<off_t>(notes_end)) != 0) fail("open the notes of");
}

void Partial::restart(const std::string& body_etag) {
  digest_ = Digest(digest_kind(notes_.etag), notes_.size_bytes);
  bytes_ = 0;
  buffer_.clear();
  notes_.marks.clear();
  notes_.body_etag = body_etag;
  if (::ftruncate(fd_, 0) != 0) fail("cut");
  if (!resumable_) return;
  if (notes_fd_ >= 0) ::close(notes_fd_);
  notes_fd_ = -1;
  write_file_atomically(notes_file_, partial_notes_head(notes_));
  notes_fd_ = ::open(notes_file_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
  if (notes_fd_ < 0) fail("open the notes of");
}

void Partial::flush() {
  uint64_t at = bytes_ - buffer_.size();
  for (size_t done = 0; done < buffer_.size();) {
    const ssize_t n = ::pwrite(fd_, buffer_.data() + done, buffer_.size() - done, static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write");
    done += static_cast<size_t>(n);
    at += static_cast<uint64_t>(n);
  }
  buffer_.clear();
}

void Partial::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const uint64_t to_mark = kMarkBytes - bytes_ % kMarkBytes;
    const size_t room = std::min<uint64_t>(to_mark, kBufferBytes - buffer_.size());
    const std::span<const std::byte> part = bytes.first(std::min(bytes.size(), room));
    buffer_.insert(buffer_.end(), part.begin(), part.end());
    digest_.add(part);
    bytes_ += part.size();
    bytes = bytes.subspan(part.size());
    if (buffer_.size() == kBufferBytes || part.size() == to_mark) flush();
    if (part.size() == to_mark) mark();
  }
}

void Partial::mark() {
  if (!resumable_) return;
  if (::fdatasync(fd_) != 0) fail("sync");
  const std::string line = partial_notes_mark({bytes_, digest_.hex(), 0});
  if (::write(notes_fd_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) fail("note down");
}

void Partial::publish() {
  flush();
  if (::fsync(fd_) != 0) fail("sync");
  if (::rename(file_.c_str(), blob_file_.c_str()) != 0) fail("rename");
  ::close(fd_);
  fd_ = -1;
  sync_directory(std::filesystem::path(blob_file_).parent_path());
  if (resumable_) ::unlink(notes_file_.c_str());
}

void Partial::discard() {
  ::unlink(notes_file_.c_str());
  restart("");
}

}  // namespace rhapsode::hub
