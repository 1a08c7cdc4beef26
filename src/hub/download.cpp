#include "hub/download.h"

#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>

#include "hub/partial.h"

namespace rhapsode::hub {
namespace {

constexpr uint64_t kReserveBytes = 64 << 20;
constexpr uint64_t kProgressBytes = 65536;  // less than this between two failures is no progress

class PartialSink : public BodySink {
 public:
  PartialSink(Partial& partial, const Blob& blob, const std::function<void(uint64_t)>& arrived)
      : partial_(partial), blob_(blob), arrived_(arrived) {}

  bool accept(const HttpHead& head) override {
    if (head.status != 200 && head.status != 206 && head.status != 416) return false;
    const std::string encoding = head.value("content-encoding");
    if (!encoding.empty() && encoding != "identity")
      throw Error(ErrorKind::network, "bad-hub-answer",
                  "the host sends the file in another form than asked for")
          .in(blob_.path)
          .saw("Content-Encoding: " + encoding.substr(0, 40))
          .want("Content-Encoding: identity");
    if (head.status == 200) {  // the whole file, wherever we were
      const std::string etag = head.value("etag");
      partial_.restart(etag.starts_with('"') && etag.size() < 256 ? etag : "");
      return true;
    }
    const auto range = parse_content_range(head.value("content-range"));
    if (head.status == 206 && range && range->first == partial_.bytes() &&
        range->total.value_or(partial_.size_bytes()) == partial_.size_bytes())
      return true;
    partial_.discard();
    throw Transient{Error(ErrorKind::network, "range-refused", "the host does not go on where we are")
                        .in(blob_.path)
                        .saw(fmt::format("HTTP {}", head.status))
                        .want("the rest of the file")};
  }

  bool take(std::span<const std::byte> bytes) override {
    received += bytes.size();
    if (bytes.size() > partial_.size_bytes() - partial_.bytes())
      throw Error(ErrorKind::integrity, "wrong-size", "a file is longer than the hub says")
          .in(blob_.path)
          .saw(fmt::format("more than {} bytes", partial_.size_bytes()))
          .want(fmt::format("{} bytes", partial_.size_bytes()))
          .hint("nothing of it was kept");
    partial_.append(bytes);
    arrived_(partial_.bytes());
    return true;
  }
  uint64_t received = 0;

 private:
  Partial& partial_;
  const Blob& blob_;
  const std::function<void(uint64_t)>& arrived_;
};

// One exchange: from where the partial file ends.
void attempt(Client& client, const Blob& blob, Partial& partial, PartialSink& sink) {
  const RemoteFile remote = client.head(blob.id, blob.commit, blob.path, blob.file);
  std::vector<std::string> fields;
  if (partial.bytes() > 0) {
    fields.push_back(fmt::format("Range: bytes={}-", partial.bytes()));
    // The validator of these very bytes; X-Linked-Etag is another one.
    if (!partial.body_etag().empty()) fields.push_back("If-Range: " + partial.body_etag());
  }
  client.get(blob.id, blob.path, remote, fields, sink);
  if (partial.complete()) return;
  throw Transient{Error(ErrorKind::network, "truncated", "a file ended early")
                      .in(blob.path)
                      .saw(fmt::format("{} bytes", partial.bytes()))
                      .want(fmt::format("{} bytes", partial.size_bytes()))
                      .hint("run it again: what has come is kept")};
}

void transfer(Client& client, const Blob& blob, Partial& partial, PartialSink& sink) {
  uint64_t before = partial.bytes();
  for (Backoff backoff(client.settings(), client.control()); !partial.complete();) {
    try {
      attempt(client, blob, partial, sink);
    } catch (const Transient& failure) {
      partial.flush();
      if (partial.bytes() >= before + kProgressBytes) backoff.progressed();
      before = partial.bytes();
      backoff.failed(failure);
    } catch (const Error& error) {
      if (error.kind == ErrorKind::integrity) partial.discard();
      throw;
    }
  }
}

Error wrong_hash(const Blob& blob, const std::string& hash) {
  return Error(ErrorKind::integrity, "hash-mismatch", "a file's hash is not the one that the hub names")
      .in(blob.path)
      .saw(hash)
      .want(blob.file.etag())
      .hint("nothing of it was kept; a proxy or mirror may change files: try another HF_ENDPOINT");
}

// True where the blob is there, whole by its size; where links cannot be it has moved into its snapshot.
bool is_there(const RepoCache& cache, const Blob& blob) {
  return size_of_file(cache.blob(blob.file.etag())) == blob.file.size_bytes ||
         size_of_file(cache.snapshot(blob.commit) / blob.path) == blob.file.size_bytes;
}

}  // namespace

void require_space(const std::string& directory, uint64_t needed) {
  struct statvfs info {};
  if (::statvfs(directory.c_str(), &info) != 0) return;  // unknown: writing will tell
  const uint64_t free_bytes = uint64_t{info.f_bavail} * info.f_frsize;
  if (free_bytes >= needed + kReserveBytes) return;
  throw Error(ErrorKind::runtime, "disk-full", "the disk of the cache has too little room")
      .in(directory)
      .saw(fmt::format("{} bytes free", free_bytes))
      .want(fmt::format("{} bytes, and {} more in reserve", needed, kReserveBytes))
      .hint("free some: rhapsode cache ls, rhapsode cache rm ID; or set HF_HUB_CACHE to another disk");
}

uint64_t missing_bytes(const RepoCache& cache, const Blob& blob) {
  if (is_there(cache, blob)) return 0;
  const uint64_t begun = size_of_file(partial_file(cache.blob(blob.file.etag()).string())).value_or(0);
  return blob.file.size_bytes - std::min(begun, blob.file.size_bytes);
}

Fetched fetch_blob(Client& client, const RepoCache& cache, const Blob& blob,
                   const std::function<void(uint64_t bytes)>& arrived) {
  const std::string etag = blob.file.etag();
  const std::string final_name = cache.blob(etag).string();
  Fetched fetched;
  if (!is_there(cache, blob)) {
    bool told = false;
    const FileLock lock(cache.lock_file(etag), [&] {
      if (client.control().cancel) throw Cancelled{};
      if (!told) client.control().note(fmt::format("waiting for another download of {}", blob.path));
      told = true;
    });
    if (!is_there(cache, blob)) {
      Partial partial(final_name, etag, blob.file.size_bytes, lock.held());
      PartialSink sink(partial, blob, arrived);
      require_space(cache.root().string(), blob.file.size_bytes - partial.bytes());
      fetched.source = partial.bytes() > 0 ? Source::resumed : Source::hub;
      arrived(partial.bytes());
      transfer(client, blob, partial, sink);
      if (partial.hash() != etag) {  // once more from nothing: memory, disk or a proxy may have slipped
        client.control().note(fmt::format("{} arrived damaged; fetching it again", blob.path));
        partial.discard();
        transfer(client, blob, partial, sink);
      }
      fetched.received_bytes = sink.received;
      if (const std::string hash = partial.hash(); hash != etag) {
        partial.discard();
        throw wrong_hash(blob, hash);
      }
      partial.publish();
    }
  }
  arrived(blob.file.size_bytes);
  return fetched;
}

}  // namespace rhapsode::hub
