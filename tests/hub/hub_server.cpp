#include "hub/hub_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <span>

#include "hub/digest.h"

namespace rhapsode::testing {
namespace {

std::string hash_of(const std::string& bytes, hub::Digest::Kind kind) {
  hub::Digest digest(kind, bytes.size());
  digest.add(std::as_bytes(std::span(bytes)));
  return digest.hex();
}

int listen_on_loopback(int& port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  const bool listening = ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                         ::listen(fd, 64) == 0 &&
                         ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  port = listening ? ntohs(address.sin_port) : 0;
  return fd;
}

bool send_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

HubServer::Request parse_request(const std::string& head, bool cdn) {
  HubServer::Request request;
  request.cdn = cdn;
  const size_t first = head.find(' '), second = head.find(' ', first + 1);
  request.method = head.substr(0, first);
  request.target = head.substr(first + 1, second - first - 1);
  for (size_t at = head.find("\r\n"); at + 2 < head.size();) {
    const size_t end = head.find("\r\n", at + 2);
    const std::string line = head.substr(at + 2, end - at - 2);
    const size_t colon = line.find(": ");
    std::string name = line.substr(0, colon);
    std::transform(name.begin(), name.end(), name.begin(), [](char c) { return std::tolower(c); });
    if (colon != std::string::npos) request.fields[name] = line.substr(colon + 2);
    at = end;
  }
  return request;
}

}  // namespace

std::string sha256_of(const std::string& bytes) {
  return hash_of(bytes, hub::Digest::Kind::sha256);
}
std::string git_blob_of(const std::string& bytes) {
  return hash_of(bytes, hub::Digest::Kind::git_blob);
}

HubServer::HubServer(std::map<std::string, File> files_) : files(std::move(files_)) {
  for (int i = 0; i < 2; ++i) {
    listeners_[i] = listen_on_loopback(ports_[i]);
    threads_.emplace_back([this, i] { serve(listeners_[i], i == 1); });
  }
}

HubServer::~HubServer() {
  stop_ = true;
  for (std::thread& thread : threads_) thread.join();
  for (const int listener : listeners_) ::close(listener);
}

std::string HubServer::endpoint() const {
  return fmt::format("http://127.0.0.1:{}", ports_[0]);
}
std::string HubServer::cdn() const {
  return fmt::format("http://127.0.0.1:{}", ports_[1]);
}
std::string HubServer::etag(const std::string& name) const {
  const File& file = files.at(name);
  return file.large ? sha256_of(file.bytes) : git_blob_of(file.bytes);
}
std::vector<HubServer::Request> HubServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void HubServer::serve(int listener, bool cdn) {
  std::vector<std::thread> talks;
  while (!stop_) {
    pollfd waiting{listener, POLLIN, 0};
    if (::poll(&waiting, 1, 20) <= 0) continue;
    const int socket = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket >= 0) talks.emplace_back([this, socket, cdn] { talk(socket, cdn); });
  }
  for (std::thread& thread : talks) thread.join();
}

void HubServer::talk(int socket, bool cdn) {
  std::string pending;
  for (bool open = true; open && !stop_;) {
    pollfd waiting{socket, POLLIN, 0};
    if (::poll(&waiting, 1, 20) <= 0) continue;
    char chunk[8192];
    const ssize_t n = ::recv(socket, chunk, sizeof chunk, 0);
    if (n <= 0) break;
    pending.append(chunk, static_cast<size_t>(n));
    const size_t end = pending.find("\r\n\r\n");
    if (end == std::string::npos) continue;
    const Request request = parse_request(pending.substr(0, end + 2), cdn);
    pending.erase(0, end + 4);
    open = answer(socket, request);
  }
  ::close(socket);
}

bool HubServer::answer(int socket, const Request& request) {
  {
    const std::lock_guard lock(mutex_);
    requests_.push_back(request);
  }
  std::optional<Reply> twisted = twist ? twist(request) : std::nullopt;
  const Reply reply = twisted ? std::move(*twisted) : good(request);
  std::string head = fmt::format("HTTP/1.1 {} X\r\n", reply.status);
  for (const std::string& field : reply.fields) head += field + "\r\n";
  const bool has_length = std::any_of(reply.fields.begin(), reply.fields.end(),
                                      [](const std::string& f) { return f.starts_with("Content-Length"); });
  if (!has_length)
    head += fmt::format("Content-Length: {}\r\n", reply.announced_bytes.value_or(reply.body.size()));
  bool alive = send_all(socket, head + "\r\n");
  if (request.is_get()) {
    const std::string_view body =
        std::string_view(reply.body).substr(0, reply.sent_bytes.value_or(reply.body.size()));
    // Before it is sent: who has received it may ask at once.
    if (request.cdn || request.target.find("/resolve/") != std::string::npos) body_bytes_ += body.size();
    alive = alive && send_all(socket, body);
  }
  for (int slept = 0; slept < reply.stall_ms && !stop_; slept += 20)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  if (reply.reset) {
    const linger abrupt{1, 0};
    ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &abrupt, sizeof abrupt);
  }
  return alive && !reply.reset && !reply.sent_bytes && reply.stall_ms == 0;
}

HubServer::Reply HubServer::good(const Request& request) const {
  const std::string model = "/api/models/org/name";
  if (request.cdn) {
    for (const auto& [name, file] : files)
      if (request.target == "/blobs/" + sha256_of(file.bytes) + "?signature=secret")
        return good_file(request, name);
    return {404, {}, "", {}, {}, false, 0};
  }
  if (request.target == "/api/whoami-v2")
    return request.fields.contains("authorization")
               ? Reply{200, {}, R"({"name":"someone"})", {}, {}, false, 0}
               : Reply{401, {}, "", {}, {}, false, 0};
  if (request.target == model || request.target.starts_with(model + "/revision/"))
    return {200,
            {},
            R"({"id":"org/name","sha":")" + commit() +
                R"(","siblings":[],"gated":false,"private":false,"downloads":0,"likes":0,"tags":[]})",
            {},
            {},
            false,
            0};
  if (request.target.starts_with(model + "/tree/")) return tree_page(request);
  for (const std::string& revision : {commit(), std::string("main")}) {
    const std::string prefix = "/org/name/resolve/" + revision + "/";
    if (!request.target.starts_with(prefix)) continue;
    const std::string name = request.target.substr(prefix.size());
    if (!files.contains(name))
      return {404, {"X-Error-Code: EntryNotFound", "X-Repo-Commit: " + commit()}, "", {}, {}, false, 0};
    const File& file = files.at(name);
    if (!file.large) return good_file(request, name);
    return {302,
            {"X-Repo-Commit: " + commit(), "X-Linked-Etag: \"" + etag(name) + "\"",
             fmt::format("X-Linked-Size: {}", file.bytes.size()),
             "Location: " + cdn() + "/blobs/" + sha256_of(file.bytes) + "?signature=secret"},
            "",
            {},
            {},
            false,
            0};
  }
  return {404, {"X-Error-Code: RepoNotFound"}, "", {}, {}, false, 0};
}

HubServer::Reply HubServer::tree_page(const Request& request) const {
  const size_t at = request.target.find("cursor=");
  const size_t first =
      at == std::string::npos ? 0 : std::strtoul(request.target.c_str() + at + 7, nullptr, 10);
  Reply reply;
  size_t i = 0;
  for (const auto& [name, file] : files) {
    if (i >= first && i < first + page) {
      reply.body +=
          fmt::format(R"({}{{"type":"file","path":"{}","size":{},"oid":"{}")", reply.body.empty() ? "" : ",",
                      name, file.bytes.size(), git_blob_of(file.bytes));
      if (file.large)
        reply.body += fmt::format(R"(,"lfs":{{"oid":"{}","size":{},"pointerSize":134}})",
                                  sha256_of(file.bytes), file.bytes.size());
      reply.body += "}";
    }
    ++i;
  }
  reply.body = "[" + reply.body + "]";
  if (first + page < files.size())
    reply.fields.push_back(
        fmt::format("Link: <{}/api/models/org/name/tree/{}?recursive=true&cursor={}>; rel=\"next\"",
                    endpoint(), commit(), first + page));
  return reply;
}

HubServer::Reply HubServer::good_file(const Request& request, const std::string& name) const {
  const File& file = files.at(name);
  // A content address has a validator of its own.
  const std::string validator =
      request.cdn ? "\"body-" + etag(name).substr(0, 8) + "\"" : "\"" + etag(name) + "\"";
  Reply reply;
  reply.fields = {"ETag: " + validator, "X-Repo-Commit: " + commit()};
  reply.body = file.bytes;
  const auto range = request.fields.find("range");
  const auto condition = request.fields.find("if-range");
  if (range == request.fields.end() || (condition != request.fields.end() && condition->second != validator))
    return reply;
  const size_t dash = range->second.find('-');
  const uint64_t first = std::strtoull(range->second.c_str() + 6, nullptr, 10);
  const uint64_t last = dash + 1 < range->second.size()
                            ? std::strtoull(range->second.c_str() + dash + 1, nullptr, 10)
                            : file.bytes.size() - 1;
  if (first >= file.bytes.size()) return {416, {}, "", {}, {}, false, 0};
  reply.status = 206;
  reply.fields.push_back(fmt::format("Content-Range: bytes {}-{}/{}", first,
                                     std::min<uint64_t>(last, file.bytes.size() - 1), file.bytes.size()));
  reply.body = file.bytes.substr(first, last + 1 - first);
  return reply;
}

}  // namespace rhapsode::testing
