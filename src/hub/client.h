// The hub's HTTP contract: which requests there are, what their failures mean, how often each is tried. Knows
// no cache.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "hub/answers.h"
#include "hub/http.h"

namespace rhapsode::hub {

// What everyone who waits for the hub shares. May be called from several threads.
struct Control {
  const std::atomic<bool>& cancel;
  std::function<void(const std::string&)> note = [](const std::string&) {};
  std::function<void(std::chrono::milliseconds)> sleep{};  // empty: really, until cancelled
};

// Counts failures in a row and waits between them: 1, 2, 4, 8 s, or as long as the hub says.
class Backoff {
 public:
  Backoff(const HubSettings& settings, const Control& control) : settings_(settings), control_(control) {}
  void failed(const Transient& failure);  // waits, or throws the error
  void progressed() { failures_ = 0; }

 private:
  const HubSettings& settings_;
  const Control& control_;
  uint32_t failures_ = 0;
};

struct RemoteFile {
  std::string etag;
  std::optional<uint64_t> size_bytes;
  Url location;
  bool send_token = false;
};

class Client {
 public:
  Client(const HubSettings& settings, const Control& control);

  std::string commit_of(const std::string& id, const std::string& revision);
  Tree tree(const std::string& id, const std::string& commit);
  std::string whoami();  // the name behind the token
  // What HEAD says of a file, compared with `commit` and what the listing says; differences are integrity
  // errors.
  RemoteFile head(const std::string& id, const std::string& commit, const std::string& path,
                  const TreeFile& listed);
  // One GET, redirects followed, `fields` added. A body of 200 or 206 goes to the sink, which is also asked
  // about 416. Throws Transient for what is worth another try.
  void get(const std::string& id, const std::string& path, const RemoteFile& file,
           const std::vector<std::string>& fields, BodySink& sink);
  // Bytes [first, last] of a file; a server that ignores the range is read up to `last`.
  std::string range(const std::string& id, const std::string& path, const RemoteFile& file, uint64_t first,
                    uint64_t last);

  const HubSettings& settings() const { return settings_; }
  const Control& control() const { return control_; }

 private:
  struct Subject {
    std::string id, revision, path;
  };
  HttpAnswer ask(HttpRequest request, const Subject& subject);  // retried; answers of 2xx and 3xx
  HttpRequest request(const Url& url, bool with_token) const;
  void refuse(const HttpHead& head, const std::string& body, const Url& url, const Subject& subject,
              bool with_token) const;

  const HubSettings& settings_;
  const Control& control_;
  Url endpoint_;
  HttpClient http_;
};

}  // namespace rhapsode::hub
