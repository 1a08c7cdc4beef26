// See packed_cache.h.
//
// A file: one page of Header, the key's text up to the next page, then the weights.
#include "model/packed_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>

#include "base/atomic_file.h"
#include "base/checked.h"
#include "base/error.h"
#include "quant/formats.h"

namespace rhapsode::model {
namespace {

namespace fs = std::filesystem;

constexpr char kMagic[8] = {'R', 'H', 'P', 'A', 'C', 'K', 'E', 'D'};
constexpr uint64_t kPage = 4096;
constexpr uint64_t kMaxText = 64 << 20;
constexpr uint64_t kPiece = 8 << 20;  // bytes hashed as one
constexpr const char* kExtension = ".packed";

struct Header {
  char magic[8];
  uint64_t version;
  uint64_t text_bytes;
  uint64_t weight_bytes;
  uint64_t text_hash;
  uint64_t weight_hash;
  uint64_t header_hash;  // of the fields above
};
static_assert(sizeof(Header) == 56);

// Four lanes, so that memory is the limit. Detects damage; it is no defence against forgery.
uint64_t hash_bytes(std::span<const std::byte> bytes, uint64_t seed = 0) {
  constexpr uint64_t kFactor = 0x9e3779b97f4a7c15ull;
  uint64_t lane[4] = {seed ^ 1, seed ^ 2, seed ^ 3, seed ^ 4};
  size_t at = 0;
  for (; at + 32 <= bytes.size(); at += 32)
    for (size_t i = 0; i < 4; ++i) {
      uint64_t word;
      std::memcpy(&word, bytes.data() + at + 8 * i, 8);
      lane[i] = (lane[i] ^ word) * kFactor;
      lane[i] ^= lane[i] >> 29;
    }
  for (; at < bytes.size(); ++at) lane[0] = (lane[0] ^ std::to_integer<uint64_t>(bytes[at])) * kFactor;
  uint64_t hash = bytes.size();
  for (const uint64_t value : lane) {
    hash = (hash ^ value) * kFactor;
    hash ^= hash >> 32;
  }
  return hash;
}

// Pieces are hashed by all threads, then their hashes in order.
uint64_t hash_weights(std::span<const std::byte> bytes, ThreadPool& pool) {
  std::vector<uint64_t> pieces((bytes.size() + kPiece - 1) / kPiece);
  pool.run([&](uint32_t member) {
    const Range range = share(pieces.size(), member, pool.threads());
    for (uint64_t i = range.begin; i < range.end; ++i)
      pieces[i] =
          hash_bytes(bytes.subspan(i * kPiece, std::min<uint64_t>(kPiece, bytes.size() - i * kPiece)), i);
  });
  return hash_bytes(std::as_bytes(std::span(pieces)));
}

uint64_t hash_text(const std::string& text, uint64_t seed = 0) {
  return hash_bytes(std::as_bytes(std::span(text)), seed);
}

uint64_t hash_header(const Header& header) {
  return hash_bytes(std::as_bytes(std::span(&header, 1)).first(offsetof(Header, header_hash)));
}

uint64_t text_pages(uint64_t text_bytes) {
  return round_up(text_bytes, kPage);
}

uint64_t weights_offset(const Header& header) {
  return kPage + text_pages(header.text_bytes);
}

// A file as it is now: name, size and times tell whether it is still the same.
std::string identity(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return "gone";
  std::error_code code;
  return fmt::format("{} {} bytes, {}.{:09}", fs::canonical(path, code).string(), info.st_size,
                     info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
}

// False where the file ends before, or cannot be read.
bool read_at(int fd, uint64_t offset, std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t count = ::pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    offset += static_cast<uint64_t>(count);
    out = out.subspan(static_cast<size_t>(count));
  }
  return true;
}

// An open file, closed at the end.
class Descriptor {
 public:
  explicit Descriptor(const fs::path& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int fd() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  uint64_t size_bytes() const {
    struct stat info {};
    return ::fstat(fd_, &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
  }
  bool read(uint64_t offset, void* out, size_t bytes) const {
    return read_at(fd_, offset, {static_cast<std::byte*>(out), bytes});
  }

 private:
  int fd_;
};

struct Opened {
  Header header;
  std::string text;
};

// The header and the text, if they are whole.
std::optional<Opened> open_packed(const Descriptor& file) {
  Opened opened;
  Header& header = opened.header;
  if (file.fd() < 0 || !file.read(0, &header, sizeof header)) return std::nullopt;
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.header_hash != hash_header(header) ||
      header.version != quant::kLayoutVersion || header.text_bytes > kMaxText)
    return std::nullopt;
  opened.text.resize(header.text_bytes);
  if (!file.read(kPage, opened.text.data(), opened.text.size())) return std::nullopt;
  if (hash_text(opened.text) != header.text_hash) return std::nullopt;
  if (file.size_bytes() != weights_offset(header) + header.weight_bytes) return std::nullopt;
  return opened;
}

// Of the file of this key; one that is not whole or holds something else is removed.
std::optional<Header> header_of(const fs::path& path, const Descriptor& file, const PackedKey& key) {
  if (file.fd() < 0) return std::nullopt;
  const std::optional<Opened> opened = open_packed(file);
  if (opened && opened->text == key.text && opened->header.weight_bytes == key.bytes) return opened->header;
  std::error_code code;
  fs::remove(path, code);
  return std::nullopt;
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

// Whether the files that the text names are as they were.
bool is_current(const std::string& text) {
  constexpr std::string_view kFile = "file ";
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    if (!line.starts_with(kFile)) continue;
    const std::string said = line.substr(kFile.size());
    const size_t bytes_at = said.rfind(" bytes, ");
    const size_t path_end = bytes_at == std::string::npos ? std::string::npos : said.rfind(' ', bytes_at - 1);
    if (path_end == std::string::npos || identity(said.substr(0, path_end)) != said) return false;
  }
  return true;
}

}  // namespace

PackedKey packed_key(const Checkpoint& checkpoint, const std::string& description, uint64_t bytes) {
  PackedKey key;
  std::error_code code;
  key.source = fs::canonical(checkpoint.directory(), code).string();
  key.bytes = bytes;
  key.text = key.source + "\n" + fmt::format("layout {}\n", quant::kLayoutVersion);
  for (const InputFile& shard : checkpoint.shards()) key.text += "file " + identity(shard.path()) + "\n";
  for (const auto& [name, tensor] : checkpoint.tensors())
    key.text += fmt::format("tensor {} {} in {} @{}\n", name, dtype_name(tensor.dtype), tensor.shard,
                            tensor.offset_bytes);
  key.text += description;
  key.file_name = fmt::format("{:016x}{:016x}{}", hash_text(key.text, 1), hash_text(key.text, 2), kExtension);
  return key;
}

std::optional<devices::Buffer> map_packed(const std::string& directory, const PackedKey& key,
                                          devices::Device& device, ThreadPool& pool) {
  const fs::path path = fs::path(directory) / key.file_name;
  const Descriptor file(path);
  const std::optional<Header> header = header_of(path, file, key);
  if (!header) return std::nullopt;
  devices::Buffer mapped = device.map_file(file.fd(), weights_offset(*header), key.bytes, "the weights");
  if (hash_weights(mapped.bytes(), pool) == header->weight_hash) return mapped;
  std::error_code code;
  fs::remove(path, code);
  return std::nullopt;
}

std::unique_ptr<PackedReader> PackedReader::open(const std::string& directory, const PackedKey& key) {
  const fs::path path = fs::path(directory) / key.file_name;
  Descriptor file(path);
  const std::optional<Header> header = header_of(path, file, key);
  if (!header) return nullptr;
  return std::unique_ptr<PackedReader>(
      new PackedReader(path.string(), file.release(), weights_offset(*header), header->weight_hash));
}

PackedReader::~PackedReader() {
  ::close(fd_);
}

bool PackedReader::read(std::span<std::byte> out, ThreadPool& pool) {
  const Stamp before = stamp();
  if (read_unverified(out, pool)) {
    if (before == verified_ && before == stamp()) return true;
    if (hash_weights(out, pool) == hash_) {
      verified_ = before;
      return true;
    }
  }
  std::error_code code;
  fs::remove(path_, code);
  return false;
}

PackedReader::Stamp PackedReader::stamp() const {
  struct stat info {};
  if (::fstat(fd_, &info) != 0) return {};
  return {info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
}

bool PackedReader::read_unverified(std::span<std::byte> out, ThreadPool& pool) const {
  std::atomic<bool> whole{true};
  pool.run([&](uint32_t member) {
    const Range range = share((out.size() + kPiece - 1) / kPiece, member, pool.threads());
    for (uint64_t i = range.begin; i < range.end; ++i) {
      const std::span<std::byte> piece =
          out.subspan(i * kPiece, std::min<uint64_t>(kPiece, out.size() - i * kPiece));
      if (!read_at(fd_, offset_bytes_ + i * kPiece, piece)) whole = false;
    }
  });
  return whole;
}

void require_disk(const std::string& directory, const PackedKey& key) {
  std::error_code code;
  fs::create_directories(directory, code);
  remove_abandoned((fs::path(directory) / key.file_name).string());
  struct statvfs info {};
  const bool is_directory = fs::is_directory(directory);
  if (!is_directory || ::statvfs(directory.c_str(), &info) != 0)
    throw Error(ErrorKind::runtime, "cannot-create", "the directory of packed caches cannot be made")
        .in(directory)
        .saw(code ? code.message() : (is_directory ? std::strerror(errno) : "something else of this name"))
        .hint("name another with --packed-cache, or leave it off");
  const uint64_t wanted = kPage + text_pages(key.text.size()) + key.bytes;
  const uint64_t available = uint64_t{info.f_bavail} * info.f_frsize;
  if (wanted <= available) return;
  throw Error(ErrorKind::runtime, "disk-full", "the disk has no room for the packed cache")
      .in(directory)
      .saw(fmt::format("{} bytes free", available))
      .want(fmt::format("{} bytes", wanted))
      .hint("`rhapsode cache prune` frees what nothing needs; without --packed-cache none is written");
}

void keep_packed(const std::string& directory, const PackedKey& key, std::span<const std::byte> bytes,
                 ThreadPool& pool) {
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = quant::kLayoutVersion;
  header.text_bytes = key.text.size();
  header.weight_bytes = bytes.size();
  header.text_hash = hash_text(key.text);
  header.weight_hash = hash_weights(bytes, pool);
  header.header_hash = hash_header(header);
  AtomicFile file((fs::path(directory) / key.file_name).string());
  file.write_at(0, std::as_bytes(std::span(&header, 1)));
  file.write_at(kPage, std::as_bytes(std::span(key.text)));
  file.write_at(kPage + text_pages(key.text.size()), bytes);
  file.commit();
}

std::vector<PackedFile> packed_files(const std::string& directory) {
  std::vector<PackedFile> files;
  std::error_code code;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, code)) {
    const fs::path& path = entry.path();
    const bool partial =
        path.extension() == AtomicFile::kExtension && path.string().find(kExtension) != std::string::npos;
    if (path.extension() != kExtension && !partial) continue;
    PackedFile found{path.string(), "", entry.file_size(code), false,
                     partial && !is_abandoned(path.string())};
    if (const std::optional<Opened> opened = partial ? std::nullopt : open_packed(Descriptor(path))) {
      found.source = first_line(opened->text);
      found.current = is_current(opened->text);
    }
    files.push_back(std::move(found));
  }
  std::sort(files.begin(), files.end(),
            [](const PackedFile& a, const PackedFile& b) { return a.path < b.path; });
  return files;
}

}  // namespace rhapsode::model
