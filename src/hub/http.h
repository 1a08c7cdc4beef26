// One HTTP exchange over libcurl: no redirects, no retries, no decompression. Bodies are limited, stalls end,
// a cancel flag is obeyed. Knows nothing of the hub.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "hub/settings.h"
#include "hub/url.h"

namespace rhapsode::hub {

struct HttpHead {
  long status = 0;
  std::vector<std::pair<std::string, std::string>> fields;  // names in lower case
  const std::string* find(std::string_view name) const;     // the last of that name; nullptr: none
  std::string value(std::string_view name) const;           // empty: none
};

struct HttpRequest {
  bool head = false;  // HEAD, else GET
  Url url;
  std::vector<std::string> fields;  // "Name: value"
  uint64_t max_body_bytes = 0;      // of an answer that no sink takes
  uint32_t total_timeout_s = 0;     // 0: as long as bytes come
};

struct HttpAnswer {
  HttpHead head;
  std::string body;  // what no sink took
};

// Takes a body as it comes. Exceptions end the exchange and come out of send().
class BodySink {
 public:
  virtual ~BodySink() = default;
  virtual bool accept(const HttpHead& head) = 0;            // false: the body goes into HttpAnswer::body
  virtual bool take(std::span<const std::byte> bytes) = 0;  // false: that is enough, end without an error
};

// The exchange failed in a way that may go away: worth another try.
struct Transient {
  Error error;
  std::optional<uint32_t> wait_s = std::nullopt;  // the hub said how long
  bool unreachable = false;                       // no connection came about
};
// The work was told to stop.
struct Cancelled {};

// One connection that is kept between exchanges; one thread at a time.
class HttpClient {
 public:
  HttpClient(const HubSettings& settings, const std::atomic<bool>& cancel);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Throws Transient, Cancelled, or Error (no proxy, no trust in the certificate, what the sink throws).
  HttpAnswer send(const HttpRequest& request, BodySink* sink = nullptr);

 private:
  struct Exchange;
  void prepare(const HttpRequest& request, Exchange& exchange);
  void listen(Exchange& exchange);
  [[noreturn]] void fail(const HttpRequest& request, int code, const Exchange& exchange) const;

  const HubSettings& settings_;
  const std::atomic<bool>& cancel_;
  struct Free {
    void operator()(void* handle) const;
  };
  std::unique_ptr<void, Free> handle_;
};

}  // namespace rhapsode::hub
