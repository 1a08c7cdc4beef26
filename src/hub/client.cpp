#include "hub/client.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "base/json.h"
#include "hub/names.h"

namespace rhapsode::hub {
namespace {

constexpr uint64_t kMaxAnswerBytes = 64'000'000;
constexpr uint32_t kAnswerTotal_s = 120;
constexpr uint32_t kMaxRedirects = 5;
constexpr uint32_t kMaxPages = 1000;
constexpr uint32_t kLongestWait_s = 330;  // the hub's windows are 300 s

bool is_transient(long status) {
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}
bool is_redirect(long status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// Status, the hub's own words and the request's id, as one line.
std::string told(const HttpHead& head, const std::string& body) {
  std::string out = fmt::format("HTTP {}", head.status);
  if (const auto code = head.value("x-error-code"); !code.empty()) out += ", " + excerpt(code);
  std::string message = head.value("x-error-message");
  if (message.empty() && body.size() < 4096 && body.starts_with("{")) message = body;
  if (!message.empty()) out += ", " + excerpt(message);
  std::string id = head.value("x-request-id");
  if (id.empty()) id = head.value("x-amzn-trace-id");
  return id.empty() ? out : out + ", request " + excerpt(id);
}

}  // namespace

void Backoff::failed(const Transient& failure) {
  ++failures_;
  const uint32_t attempts = failure.unreachable ? std::min(settings_.attempts, 2u) : settings_.attempts;
  const bool too_long = failure.wait_s.value_or(0) > kLongestWait_s;
  if (failures_ >= attempts || too_long) throw failure.error;
  const uint32_t wait_s = failure.wait_s ? *failure.wait_s + 1 : 1u << std::min(failures_ - 1, 3u);
  control_.note(
      fmt::format("{} ({}); trying again in {} s", failure.error.message, failure.error.found, wait_s));
  const auto until = std::chrono::milliseconds(wait_s * 1000);
  if (control_.sleep) return control_.sleep(until);
  for (auto slept = std::chrono::milliseconds(0); slept < until; slept += std::chrono::milliseconds(50)) {
    if (control_.cancel) throw Cancelled{};
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

Client::Client(const HubSettings& settings, const Control& control)
    : settings_(settings),
      control_(control),
      endpoint_(parse_url(settings.endpoint)),
      http_(settings, control.cancel) {
  if (settings.offline)
    throw Error(ErrorKind::network, "offline", "we are offline")
        .in(settings.endpoint)
        .want("a connection to the hub")
        .hint("leave --offline, HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE out");
  if (!settings.token.value.empty()) check_token(settings.token.value, settings.token.origin);
}

HttpRequest Client::request(const Url& url, bool with_token) const {
  HttpRequest request;
  request.url = url;
  request.fields.emplace_back("Accept-Encoding: identity");
  if (with_token && settings_.send_token && !settings_.token.value.empty() && url.same_origin(endpoint_))
    request.fields.push_back("Authorization: Bearer " + settings_.token.value);
  request.max_body_bytes = kMaxAnswerBytes;
  return request;
}

void Client::refuse(const HttpHead& head, const std::string& body, const Url& url, const Subject& subject,
                    bool with_token) const {
  const long status = head.status;
  if (status >= 200 && status < 400) return;
  const bool token_sent = with_token && settings_.send_token && !settings_.token.value.empty();
  const std::string page = settings_.endpoint + "/" + subject.id;
  const auto error = [&](ErrorKind kind, const char* code, std::string message) {
    return Error(kind, code, std::move(message)).in(url.shown()).saw(told(head, body));
  };
  if (is_transient(status)) {
    const bool limited = status == 429;
    throw Transient{error(ErrorKind::network, limited ? "rate-limited" : "hub-unavailable",
                          limited ? "the hub asks for fewer requests" : "the hub has a failure of its own")
                        .want("an answer")
                        .hint(limited && !token_sent ? "wait, or log in for a higher limit: rhapsode login"
                                                     : "wait and run it again: what has come is kept"),
                    seconds_to_wait(head.value("retry-after"), head.value("ratelimit"))};
  }
  const std::string code = head.value("x-error-code"), message = head.value("x-error-message");
  if (code == "GatedRepo")
    throw error(ErrorKind::auth, token_sent && status == 403 ? "gated-not-granted" : "gated-not-logged-in",
                fmt::format("access to {} must be granted first", subject.id))
        .want(status == 403 ? "a token whose owner was granted access" : "a token")
        .hint(fmt::format("accept the conditions on {}{}", page,
                          token_sent ? "; the token in use is from " + settings_.token.origin
                                     : ", then run: rhapsode login"));
  if (message == "Invalid credentials in Authorization header" ||
      (status == 401 && token_sent && code.empty()))
    throw error(ErrorKind::auth, "bad-token", "the hub does not know this token")
        .at(settings_.token.origin)
        .want("a valid token")
        .hint("it may have been revoked; make another one and run: rhapsode login");
  if (message == "Access to this resource is disabled.")
    throw error(ErrorKind::auth, "repo-disabled", fmt::format("the hub has disabled {}", subject.id))
        .want("an accessible repository");
  if (code == "RevisionNotFound")
    throw error(ErrorKind::not_found, "revision-not-found",
                fmt::format("{} has no revision {}", subject.id, excerpt(subject.revision)))
        .at("revision")
        .want("a branch, a tag or a commit of the repository");
  if (code == "EntryNotFound")
    throw error(ErrorKind::not_found, "file-not-on-hub",
                fmt::format("{} has no file {}", subject.id, excerpt(subject.path)))
        .want("a file of this revision");
  if (code == "RepoNotFound" || status == 401 || status == 404)
    throw error(ErrorKind::not_found, "repo-not-found",
                fmt::format("the hub has no repository {} that we may see", subject.id))
        .at("model_id")
        .want("the id of a model, such as organization/name")
        .hint(token_sent ? "check the spelling; a private one needs a token of its owner, this one is from " +
                               settings_.token.origin
                         : "check the spelling; a private or gated one needs: rhapsode login");
  if (status == 403)
    throw error(ErrorKind::auth, "forbidden", "the token does not allow this")
        .want("a token with the permission to read")
        .hint("make another token and run: rhapsode login");
  throw error(ErrorKind::network, "bad-hub-answer", "the hub refuses the request").want("HTTP 200");
}

HttpAnswer Client::ask(HttpRequest wanted, const Subject& subject) {
  wanted.total_timeout_s = kAnswerTotal_s;
  for (Backoff backoff(settings_, control_);;) {
    try {
      HttpAnswer answer = http_.send(wanted);
      refuse(answer.head, answer.body, wanted.url, subject, true);
      return answer;
    } catch (const Transient& failure) {
      backoff.failed(failure);
    }
  }
}

std::string Client::commit_of(const std::string& id, const std::string& revision) {
  const Url url = parse_url(
      fmt::format("{}/api/models/{}/revision/{}", settings_.endpoint, id, percent_encoded(revision, false)));
  return parse_model_commit(ask(request(url, true), {id, revision, ""}).body, url.shown());
}

Tree Client::tree(const std::string& id, const std::string& commit) {
  Tree tree;
  Url url = parse_url(fmt::format("{}/api/models/{}/tree/{}?recursive=true", settings_.endpoint, id, commit));
  for (uint32_t page = 0; page < kMaxPages; ++page) {
    const HttpAnswer answer = ask(request(url, true), {id, commit, ""});
    parse_tree_page(answer.body, url.shown(), tree);
    const std::string next = next_page(answer.head.value("link"));
    if (next.empty()) return tree;
    Url following = parse_url(url, next);
    if (!following.same_origin(endpoint_) || following.text == url.text)
      throw Error(ErrorKind::network, "bad-hub-answer", "the listing goes on at an odd place")
          .in(url.shown())
          .saw(following.shown())
          .want("the next page on the same host");
    url = std::move(following);
  }
  throw Error(ErrorKind::network, "bad-hub-answer", "the listing does not end")
      .in(url.shown())
      .saw(fmt::format("{} pages", kMaxPages))
      .want("a model's repository");
}

std::string Client::whoami() {
  const Url url = parse_url(settings_.endpoint + "/api/whoami-v2");
  return parse_whoami(ask(request(url, true), {}).body, url.shown());
}

RemoteFile Client::head(const std::string& id, const std::string& commit, const std::string& path,
                        const TreeFile& listed) {
  Url url = parse_url(
      fmt::format("{}/{}/resolve/{}/{}", settings_.endpoint, id, commit, percent_encoded(path, true)));
  HttpAnswer answer;
  for (uint32_t hop = 0;; ++hop) {
    HttpRequest wanted = request(url, true);
    wanted.head = true;
    answer = ask(wanted, {id, commit, path});
    const std::string location = answer.head.value("location");
    // Renamed repositories: a path on the same hub. Anything else is where the bytes are.
    const bool relative =
        is_redirect(answer.head.status) && location.starts_with('/') && !location.starts_with("//");
    if (!relative || hop == kMaxRedirects) break;
    url = parse_url(url, location);
  }
  RemoteFile file;
  const HttpHead& head = answer.head;
  const std::string* linked = head.find("x-linked-etag");
  file.etag = plain_etag(linked != nullptr ? *linked : head.value("etag"));
  file.size_bytes = decimal(head.value("x-linked-size"));
  if (!file.size_bytes && !is_redirect(head.status)) file.size_bytes = decimal(head.value("content-length"));
  file.location = url;
  if (is_redirect(head.status)) file.location = redirect_target(endpoint_, url, head.value("location"));
  file.send_token = file.location.same_origin(endpoint_);
  const std::string at = head.value("x-repo-commit");
  if (at.empty() || file.etag.empty())
    throw Error(ErrorKind::network, "not-a-hub", "the host does not answer as a hub")
        .in(url.shown())
        .saw(at.empty() ? "no X-Repo-Commit" : "no ETag")
        .want("X-Repo-Commit, ETag and the size")
        .hint("check HF_ENDPOINT, proxies and firewalls");
  if (at != commit || file.etag != listed.etag() ||
      (file.size_bytes && *file.size_bytes != listed.size_bytes))
    throw Error(ErrorKind::integrity, "hub-disagrees", "the hub says of a file what its listing does not")
        .in(url.shown())
        .saw(fmt::format("commit {}, hash {}, {} bytes", excerpt(at), excerpt(file.etag),
                         file.size_bytes.value_or(listed.size_bytes)))
        .want(fmt::format("commit {}, hash {}, {} bytes", commit, listed.etag(), listed.size_bytes))
        .hint("nothing of it was kept; try again, or another HF_ENDPOINT");
  return file;
}

void Client::get(const std::string& id, const std::string& path, const RemoteFile& file,
                 const std::vector<std::string>& fields, BodySink& sink) {
  Url url = file.location;
  bool with_token = file.send_token;
  for (uint32_t hop = 0; hop <= kMaxRedirects; ++hop) {
    HttpRequest wanted = request(url, with_token);
    wanted.fields.insert(wanted.fields.end(), fields.begin(), fields.end());
    const HttpAnswer answer = http_.send(wanted, &sink);
    const long status = answer.head.status;
    if (is_redirect(status)) {
      url = redirect_target(endpoint_, url, answer.head.value("location"));
      with_token = with_token && url.same_origin(endpoint_);
      continue;
    }
    if (status == 200 || status == 206 || status == 416) return;
    // A signed address that has run out: ask the hub for another one.
    if (status == 403 && !url.same_origin(endpoint_))
      throw Transient{
          Error(ErrorKind::network, "address-expired", "the address of the bytes is no longer valid")
              .in(url.shown())
              .saw(told(answer.head, ""))
              .want("the file")};
    refuse(answer.head, answer.body, url, {id, "", path}, with_token);
    throw Error(ErrorKind::network, "bad-hub-answer", "the host answers a download oddly")
        .in(url.shown())
        .saw(told(answer.head, ""))
        .want("HTTP 200 or 206");
  }
  throw Error(ErrorKind::network, "bad-redirect", "the redirects do not end")
      .in(url.shown())
      .saw(fmt::format("more than {}", kMaxRedirects))
      .want("the file");
}

namespace {

class RangeSink : public BodySink {
 public:
  RangeSink(uint64_t first, uint64_t last) : first_(first), last_(last) {}
  bool accept(const HttpHead& head) override {
    bytes.clear();
    skip_ = 0;
    if (head.status == 200) skip_ = first_;
    if (head.status != 206) return head.status == 200;
    const auto range = parse_content_range(head.value("content-range"));
    return range && range->first == first_;
  }
  bool take(std::span<const std::byte> chunk) override {
    const uint64_t skipped = std::min<uint64_t>(skip_, chunk.size());
    skip_ -= skipped;
    chunk = chunk.subspan(skipped);
    chunk = chunk.first(std::min<uint64_t>(chunk.size(), last_ + 1 - first_ - bytes.size()));
    bytes.append(reinterpret_cast<const char*>(chunk.data()), chunk.size());
    return !complete();
  }
  bool complete() const { return bytes.size() == last_ + 1 - first_; }
  std::string bytes;

 private:
  uint64_t first_, last_, skip_ = 0;
};

}  // namespace

std::string Client::range(const std::string& id, const std::string& path, const RemoteFile& file,
                          uint64_t first, uint64_t last) {
  for (Backoff backoff(settings_, control_);;) {
    RangeSink sink(first, last);
    try {
      get(id, path, file, {fmt::format("Range: bytes={}-{}", first, last)}, sink);
      if (sink.complete()) return std::move(sink.bytes);
      throw Transient{Error(ErrorKind::network, "truncated", "an answer is shorter than what was asked for")
                          .in(file.location.shown())
                          .saw(fmt::format("{} bytes", sink.bytes.size()))
                          .want(fmt::format("bytes {} to {}", first, last))};
    } catch (const Transient& failure) {
      backoff.failed(failure);
    }
  }
}

}  // namespace rhapsode::hub
