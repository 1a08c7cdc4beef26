#include "hub/http.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <exception>

#include "base/json.h"

namespace rhapsode::hub {
namespace {

constexpr uint64_t kMaxHeadBytes = 65536;
constexpr long kLeastBytesPerSecond = 1024;  // slower than this for the whole stall time is a stall
constexpr long kReceiveBytes = 262144;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

const std::string& proxy_of(const Url& url, const HubSettings& settings) {
  return url.scheme == "https" ? settings.https_proxy : settings.http_proxy;
}

void start_curl() {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK) throw Error(ErrorKind::runtime, "curl-failed", curl_easy_strerror(started));
}

}  // namespace

const std::string* HttpHead::find(std::string_view name) const {
  for (size_t i = fields.size(); i-- > 0;)
    if (fields[i].first == name) return &fields[i].second;
  return nullptr;
}

std::string HttpHead::value(std::string_view name) const {
  const std::string* found = find(name);
  return found == nullptr ? std::string() : *found;
}

// What the callbacks share. No exception may pass through curl: the first is kept and thrown afterwards.
struct HttpClient::Exchange {
  const HttpRequest& request;
  BodySink* sink;
  const std::atomic<bool>& cancel;
  HttpAnswer answer;
  uint64_t head_bytes = 0;
  bool body_started = false;
  bool sink_takes = false;
  bool enough = false;
  std::exception_ptr thrown;
  curl_slist* fields = nullptr;
  std::array<char, CURL_ERROR_SIZE> message{};

  Exchange(const HttpRequest& request_, BodySink* sink_, const std::atomic<bool>& cancel_)
      : request(request_), sink(sink_), cancel(cancel_) {}
  ~Exchange() { curl_slist_free_all(fields); }
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  void on_line(std::string_view line) {
    head_bytes += line.size();
    if (head_bytes > kMaxHeadBytes)
      throw Error(ErrorKind::network, "bad-hub-answer", "the head of an answer is too large")
          .in(request.url.shown())
          .saw(fmt::format("more than {} bytes", kMaxHeadBytes))
          .want("the answer of a hub");
    if (line.starts_with("HTTP/")) {  // after 100 Continue comes another head
      answer.head = {};
      const size_t space = line.find(' ');
      if (space != std::string_view::npos)
        std::from_chars(line.data() + space + 1, line.data() + line.size(), answer.head.status);
      return;
    }
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return;
    answer.head.fields.emplace_back(lower(line.substr(0, colon)), trimmed(line.substr(colon + 1)));
  }

  bool on_body(std::span<const std::byte> bytes) {
    if (!body_started) {
      body_started = true;
      sink_takes = sink != nullptr && sink->accept(answer.head);
    }
    if (sink_takes) {
      enough = !sink->take(bytes);
      return !enough;
    }
    if (answer.body.size() + bytes.size() > request.max_body_bytes)
      throw Error(ErrorKind::network, "bad-hub-answer", "an answer is longer than any hub's")
          .in(request.url.shown())
          .saw(fmt::format("more than {} bytes", request.max_body_bytes))
          .want("the answer of a hub");
    answer.body.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return true;
  }
};

namespace {

template <typename Exchange, typename Run>
bool guarded(Exchange& exchange, Run run) {
  try {
    return run();
  } catch (...) {
    exchange.thrown = std::current_exception();
    return false;
  }
}

}  // namespace

void HttpClient::Free::operator()(void* handle) const {
  curl_easy_cleanup(handle);
}

HttpClient::HttpClient(const HubSettings& settings, const std::atomic<bool>& cancel)
    : settings_(settings), cancel_(cancel) {
  start_curl();
  handle_.reset(curl_easy_init());
  if (!handle_) throw Error(ErrorKind::runtime, "curl-failed", "libcurl cannot start");
}

HttpClient::~HttpClient() = default;

void HttpClient::prepare(const HttpRequest& request, Exchange& exchange) {
  CURL* curl = handle_.get();
  curl_easy_reset(curl);  // keeps the connection
  const auto set = [&](CURLoption option, auto value) { curl_easy_setopt(curl, option, value); };
  for (const std::string& field : request.fields)
    exchange.fields = curl_slist_append(exchange.fields, field.c_str());
  set(CURLOPT_URL, request.url.text.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_NOBODY, request.head ? 1L : 0L);
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_HTTPHEADER, exchange.fields);
  set(CURLOPT_USERAGENT, settings_.user_agent.c_str());
  set(CURLOPT_BUFFERSIZE, kReceiveBytes);
  set(CURLOPT_CONNECTTIMEOUT, static_cast<long>(settings_.answer_timeout_s));
  set(CURLOPT_TIMEOUT, static_cast<long>(request.total_timeout_s));
  set(CURLOPT_LOW_SPEED_LIMIT, kLeastBytesPerSecond);
  set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(settings_.stall_timeout_s));
  // Set even where empty: curl would read the environment otherwise.
  set(CURLOPT_PROXY, proxy_of(request.url, settings_).c_str());
  set(CURLOPT_NOPROXY, settings_.no_proxy.c_str());
  set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  if (!settings_.ca_file.empty()) set(CURLOPT_CAINFO, settings_.ca_file.c_str());
  set(CURLOPT_ERRORBUFFER, exchange.message.data());
  listen(exchange);
}

void HttpClient::listen(Exchange& exchange) {
  const auto set = [&](CURLoption option, auto value) { curl_easy_setopt(handle_.get(), option, value); };
  curl_write_callback on_head = [](char* data, size_t, size_t size, void* to) -> size_t {
    Exchange& exchange = *static_cast<Exchange*>(to);
    return guarded(exchange, [&] { return exchange.on_line({data, size}), true; }) ? size : 0;
  };
  set(CURLOPT_HEADERFUNCTION, on_head);
  set(CURLOPT_HEADERDATA, &exchange);
  curl_write_callback on_body = [](char* data, size_t, size_t size, void* to) -> size_t {
    Exchange& exchange = *static_cast<Exchange*>(to);
    return guarded(exchange, [&] { return exchange.on_body(std::as_bytes(std::span(data, size))); }) ? size
                                                                                                     : 0;
  };
  set(CURLOPT_WRITEFUNCTION, on_body);
  set(CURLOPT_WRITEDATA, &exchange);
  curl_xferinfo_callback on_progress = [](void* to, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    return static_cast<Exchange*>(to)->cancel ? 1 : 0;
  };
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, on_progress);
  set(CURLOPT_XFERINFODATA, &exchange);
}

void HttpClient::fail(const HttpRequest& request, int code, const Exchange& exchange) const {
  const CURLcode result = static_cast<CURLcode>(code);
  const auto error = [&](const char* name, const char* message) {
    const char* detail = exchange.message[0] != '\0' ? exchange.message.data() : curl_easy_strerror(result);
    return Error(ErrorKind::network, name, message).in(request.url.shown()).saw(excerpt(detail));
  };
  switch (result) {
    case CURLE_COULDNT_RESOLVE_PROXY:
      throw error("proxy-failed", "the proxy cannot be found")
          .want("a proxy in HTTPS_PROXY that answers")
          .hint("correct or unset HTTPS_PROXY, https_proxy, http_proxy and ALL_PROXY");
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
      throw error("bad-certificate", "the host's certificate cannot be trusted")
          .want("a certificate that the system's list or SSL_CERT_FILE vouches for")
          .hint("behind a company's proxy: set SSL_CERT_FILE to its certificate authority");
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
      throw Transient{
          error("cannot-connect", "the host cannot be reached")
              .want("a connection")
              .hint(proxy_of(request.url, settings_).empty()
                        ? "check the network and HF_ENDPOINT; --offline uses the cache alone"
                        : "check the proxy in https_proxy, http_proxy and all_proxy (no_proxy lists hosts to "
                          "reach without it), the network and HF_ENDPOINT"),
          std::nullopt, true};
    case CURLE_OPERATION_TIMEDOUT:
      throw Transient{error("stalled", "the host stopped answering")
                          .want(fmt::format("at least {} bytes a second over {} s", kLeastBytesPerSecond,
                                            settings_.stall_timeout_s))
                          .hint("run it again: what has come is kept; HF_HUB_DOWNLOAD_TIMEOUT waits longer")};
    default:
      throw Transient{error("connection-broken", "the connection broke")
                          .want("a whole answer")
                          .hint("run it again: what has come is kept")};
  }
}

HttpAnswer HttpClient::send(const HttpRequest& request, BodySink* sink) {
  if (cancel_) throw Cancelled{};
  Exchange exchange(request, sink, cancel_);
  prepare(request, exchange);
  const CURLcode code = curl_easy_perform(handle_.get());
  if (exchange.thrown) std::rethrow_exception(exchange.thrown);
  if (cancel_) throw Cancelled{};
  if (code != CURLE_OK && !exchange.enough) fail(request, code, exchange);
  // An answer without a body still has to be judged by who waits for one.
  if (!exchange.body_started && sink != nullptr) sink->accept(exchange.answer.head);
  return std::move(exchange.answer);
}

}  // namespace rhapsode::hub
