// Addresses, read by the one parser that also opens the connection, and the rule of where a request may be
// sent on to.
#pragma once

#include <string>

namespace rhapsode::hub {

struct Url {
  std::string scheme, host, port;  // lower case; the port also where it is the scheme's own
  std::string text;                // as it is requested

  bool same_origin(const Url& other) const {
    return scheme == other.scheme && host == other.host && port == other.port;
  }
  std::string shown() const;  // without query: signatures stay out of messages
};

bool is_url(const std::string& text);  // what parse_url takes
// http and https only, no user or password. Throws network, "bad-address".
Url parse_url(const std::string& text);
Url parse_url(const Url& base, const std::string& reference);  // relative to `base`

// Where an answer from `from` may send us: to https always, to http only where the hub itself is reached by
// http. Throws network, "bad-redirect".
Url redirect_target(const Url& endpoint, const Url& from, const std::string& location);

}  // namespace rhapsode::hub
