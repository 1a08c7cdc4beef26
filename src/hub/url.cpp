#include "hub/url.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <memory>

#include "base/error.h"
#include "base/json.h"

namespace rhapsode::hub {
namespace {

struct FreeUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using Handle = std::unique_ptr<CURLU, FreeUrl>;

std::string part(const Handle& handle, CURLUPart which, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(handle.get(), which, &text, flags) != CURLUE_OK) return "";
  std::string out = text;
  curl_free(text);
  return out;
}

std::string without_query(std::string text) {
  return excerpt(text.substr(0, text.find_first_of("?#")));
}

Url read(const Handle& handle, const std::string& text) {
  constexpr size_t kMaxUrlBytes = 16384;
  const bool whole = text.size() <= kMaxUrlBytes && curl_url_set(handle.get(), CURLUPART_URL, text.c_str(),
                                                                 CURLU_DISALLOW_USER) == CURLUE_OK;
  Url url;
  if (whole) {
    url.scheme = part(handle, CURLUPART_SCHEME);
    url.host = part(handle, CURLUPART_HOST);
    for (char& c : url.host) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    url.port = part(handle, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    curl_url_set(handle.get(), CURLUPART_FRAGMENT, nullptr, 0);
    url.text = part(handle, CURLUPART_URL);
  }
  if ((url.scheme == "http" || url.scheme == "https") && !url.host.empty()) return url;
  throw Error(ErrorKind::network, "bad-address", "the hub named an address that we do not go to")
      .saw(fmt::format("\"{}\"", without_query(text)))
      .want("an http or https address without user and password");
}

}  // namespace

std::string Url::shown() const {
  return without_query(text);
}

Url parse_url(const std::string& text) {
  return read(Handle(curl_url()), text);
}

bool is_url(const std::string& text) {
  try {
    parse_url(text);
    return true;
  } catch (const Error&) {
    return false;
  }
}

Url parse_url(const Url& base, const std::string& reference) {
  Handle handle(curl_url());
  if (curl_url_set(handle.get(), CURLUPART_URL, base.text.c_str(), 0) != CURLUE_OK)
    return parse_url(base.text);
  return read(handle, reference);
}

Url redirect_target(const Url& endpoint, const Url& from, const std::string& location) {
  Url target = parse_url(from, location);
  if (target.scheme == "https" || endpoint.scheme == "http") return target;
  throw Error(ErrorKind::network, "bad-redirect", "the hub sends us to an address without encryption")
      .in(from.shown())
      .saw(target.shown())
      .want("an https address")
      .hint("nothing was fetched from there and no token was sent");
}

}  // namespace rhapsode::hub
