// A hub on loopback for tests: one repository, small files by itself, large ones from a second address
// (another port, so another origin). Each answer can be twisted into what no good server does.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace rhapsode::testing {

class HubServer {
 public:
  struct Request {
    bool cdn = false;  // came to the second address
    std::string method, target;
    std::map<std::string, std::string> fields;  // names in lower case
    bool is_get() const { return method == "GET"; }
  };
  struct Reply {
    int status = 200;
    std::vector<std::string> fields;
    std::string body;
    std::optional<uint64_t> announced_bytes;  // Content-Length where it lies
    std::optional<uint64_t> sent_bytes;       // the body ends here, and the connection with it
    bool reset = false;                       // with a RST
    int stall_ms = 0;                         // before the end
  };
  struct File {
    std::string bytes;
    bool large = false;  // named by sha256, served from the second address
  };

  explicit HubServer(std::map<std::string, File> files);
  ~HubServer();
  HubServer(const HubServer&) = delete;
  HubServer& operator=(const HubServer&) = delete;

  std::string endpoint() const;
  std::string cdn() const;
  static std::string commit() { return std::string(39, 'c') + "1"; }
  std::string etag(const std::string& name) const;

  // Sees every request first; nullopt: as a good hub.
  std::function<std::optional<Reply>(const Request&)> twist;
  Reply good(const Request& request) const;  // what a good hub says
  std::map<std::string, File> files;
  size_t page = 1000;  // files a page of the listing

  std::vector<Request> requests() const;
  uint64_t body_bytes() const { return body_bytes_; }  // of GETs on files

 private:
  Reply good_file(const Request& request, const std::string& name) const;
  Reply tree_page(const Request& request) const;
  void serve(int listener, bool cdn);
  void talk(int socket, bool cdn);
  bool answer(int socket, const Request& request);

  int listeners_[2] = {-1, -1};
  int ports_[2] = {0, 0};
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> body_bytes_{0};
  mutable std::mutex mutex_;
  std::vector<Request> requests_;
  std::vector<std::thread> threads_;
};

std::string sha256_of(const std::string& bytes);
std::string git_blob_of(const std::string& bytes);

}  // namespace rhapsode::testing
