#include "hub/digest.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/error.h"
#include "base/input_file.h"

namespace rhapsode::hub {
namespace {

EVP_MD_CTX* context(void* pointer) {
  return static_cast<EVP_MD_CTX*>(pointer);
}

// OpenSSL fails here only where it was built without the hash or memory is out.
void must(int ok) {
  if (ok != 1) throw Error(ErrorKind::runtime, "hash-failed", "the system's OpenSSL cannot compute a hash");
}

}  // namespace

void Digest::Free::operator()(void* pointer) const {
  EVP_MD_CTX_free(context(pointer));
}

Digest::Digest(Kind kind, uint64_t size_bytes) : context_(EVP_MD_CTX_new()) {
  must(EVP_DigestInit_ex(context(context_.get()), kind == Kind::sha256 ? EVP_sha256() : EVP_sha1(), nullptr));
  if (kind == Kind::sha256) return;
  const std::string header = fmt::format("blob {}", size_bytes);
  must(EVP_DigestUpdate(context(context_.get()), header.c_str(), header.size() + 1));  // with its NUL
}

Digest::Digest(const Digest& other) : context_(EVP_MD_CTX_new()) {
  must(EVP_MD_CTX_copy_ex(context(context_.get()), context(other.context_.get())));
}

Digest& Digest::operator=(const Digest& other) {
  if (this != &other) *this = Digest(other);
  return *this;
}

void Digest::add(std::span<const std::byte> bytes) {
  must(EVP_DigestUpdate(context(context_.get()), bytes.data(), bytes.size()));
}

std::string Digest::hex() const {
  const Digest copy(*this);
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned int size = 0;
  must(EVP_DigestFinal_ex(context(copy.context_.get()), bytes.data(), &size));
  std::string out;
  for (unsigned int i = 0; i < size; ++i) out += fmt::format("{:02x}", bytes[i]);
  return out;
}

Digest::Kind digest_kind(const std::string& etag) {
  return etag.size() == 64 ? Digest::Kind::sha256 : Digest::Kind::git_blob;
}

std::string file_digest(const std::string& path, Digest::Kind kind,
                        const std::function<void(uint64_t bytes)>& each) {
  constexpr uint64_t kStep = 1 << 20;
  const InputFile file(path);
  Digest digest(kind, file.size_bytes());
  std::vector<std::byte> chunk(std::min(kStep, file.size_bytes()));
  for (uint64_t at = 0; at < file.size_bytes();) {
    const std::span<std::byte> part = std::span(chunk).first(std::min(kStep, file.size_bytes() - at));
    file.read(at, part);
    digest.add(part);
    at += part.size();
    if (each) each(part.size());
  }
  return digest.hex();
}

}  // namespace rhapsode::hub
