#include "hub/settings.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json.h"
#include "hub/url.h"

namespace rhapsode::hub {
namespace {

namespace fs = std::filesystem;
using Getenv = std::function<std::optional<std::string>(const std::string&)>;

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// An unset variable and an empty one mean the same: the default.
std::optional<std::string> value_of(const Getenv& getenv_like, const std::string& name) {
  std::optional<std::string> value = getenv_like(name);
  if (value && value->empty()) return std::nullopt;
  return value;
}

std::string home_directory(const Getenv& getenv_like) {
  if (const auto home = value_of(getenv_like, "HOME")) return *home;
  if (const passwd* entry = ::getpwuid(::getuid())) return entry->pw_dir;
  throw Error(ErrorKind::config, "no-home", "the home directory is unknown")
      .saw("no HOME and no entry in the user database")
      .want("HOME, HF_HOME or HF_HUB_CACHE")
      .hint("set HF_HUB_CACHE to the cache's directory");
}

// `~` at the start, then $NAME and ${NAME}; a variable that is not set stays as it is written.
std::string expanded(std::string path, const Getenv& getenv_like) {
  if (path == "~" || path.starts_with("~/")) path = home_directory(getenv_like) + path.substr(1);
  std::string out;
  for (size_t i = 0; i < path.size();) {
    if (path[i] != '$') {
      out += path[i++];
      continue;
    }
    const bool braced = i + 1 < path.size() && path[i + 1] == '{';
    const size_t begin = i + (braced ? 2 : 1);
    size_t end = begin;
    while (end < path.size() && (braced ? path[end] != '}' : is_word(path[end]))) ++end;
    const bool complete = end > begin && (!braced || end < path.size());
    const size_t next = complete && braced ? end + 1 : end;
    const auto value = complete ? getenv_like(path.substr(begin, end - begin)) : std::nullopt;
    out += value ? *value : path.substr(i, next - i);
    i = next;
  }
  return out;
}

bool is_true(const std::optional<std::string>& value) {
  if (!value) return false;
  std::string upper = *value;
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  return upper == "1" || upper == "ON" || upper == "YES" || upper == "TRUE";
}

std::string trimmed(std::string text) {
  const auto blank = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  while (!text.empty() && blank(text.back())) text.pop_back();
  while (!text.empty() && blank(text.front())) text.erase(0, 1);
  return text;
}

uint32_t seconds_of(const Getenv& getenv_like, const char* name, uint32_t otherwise) {
  const auto value = value_of(getenv_like, name);
  if (!value) return otherwise;
  uint32_t seconds = 0;
  const auto [end, code] = std::from_chars(value->data(), value->data() + value->size(), seconds);
  if (code == std::errc() && end == value->data() + value->size() && seconds >= 1 && seconds <= 3600)
    return seconds;
  throw Error(ErrorKind::config, "bad-environment", "an environment variable has no sensible value")
      .at(name)
      .saw(fmt::format("\"{}\"", excerpt(*value)))
      .want("a number of seconds from 1 to 3600");
}

std::string endpoint_of(const Getenv& getenv_like, const std::string& otherwise) {
  std::string endpoint = value_of(getenv_like, "HF_ENDPOINT").value_or(otherwise);
  while (endpoint.ends_with('/')) endpoint.pop_back();
  const bool scheme = endpoint.starts_with("https://") || endpoint.starts_with("http://");
  const bool odd = std::any_of(endpoint.begin(), endpoint.end(), [](char c) {
    return static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7f || c == '?' ||
           c == '#' || c == '@' || c == '\\';
  });
  if (scheme && !odd && is_url(endpoint)) return endpoint;
  throw Error(ErrorKind::config, "bad-environment", "HF_ENDPOINT is no address of a hub")
      .at("HF_ENDPOINT")
      .saw(fmt::format("\"{}\"", excerpt(endpoint)))
      .want("https://HOST, without user, query or fragment");
}

Token token_of(const Getenv& getenv_like, const std::string& file) {
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
    if (const std::string value = trimmed(getenv_like(name).value_or("")); !value.empty())
      return {value, name};
  std::error_code code;
  if (file.empty() || !fs::is_regular_file(file, code)) return {};
  constexpr uint64_t kMaxTokenFile = 65536;
  std::string value = trimmed(read_file(file, kMaxTokenFile));
  return value.empty() ? Token{} : Token{std::move(value), file};
}

void fill_paths(const Getenv& getenv_like, HubSettings& settings) {
  const auto path_of = [&](const char* name) -> std::optional<std::string> {
    const auto value = value_of(getenv_like, name);
    return value ? std::optional(expanded(*value, getenv_like)) : std::nullopt;
  };
  const auto home = [&]() -> fs::path {
    if (const auto given = path_of("HF_HOME")) return *given;
    if (const auto xdg = path_of("XDG_CACHE_HOME")) return fs::path(*xdg) / "huggingface";
    return expanded("~/.cache/huggingface", getenv_like);
  };
  if (const auto cache = path_of("HF_HUB_CACHE"))
    settings.cache_directory = *cache;
  else if (const auto legacy = path_of("HUGGINGFACE_HUB_CACHE"))
    settings.cache_directory = *legacy;
  else
    settings.cache_directory = (home() / "hub").string();
  const auto token_file = path_of("HF_TOKEN_PATH");
  settings.token_file = token_file ? *token_file : (home() / "token").string();
}

}  // namespace

HubSettings hub_settings(const Getenv& getenv_like) {
  HubSettings settings;
  fill_paths(getenv_like, settings);
  settings.offline = is_true(getenv_like("HF_HUB_OFFLINE")) || is_true(getenv_like("TRANSFORMERS_OFFLINE"));
  settings.endpoint = endpoint_of(getenv_like, settings.endpoint);
  settings.token = token_of(getenv_like, settings.token_file);
  settings.send_token = !is_true(getenv_like("HF_HUB_DISABLE_IMPLICIT_TOKEN"));
  settings.symlinks = !is_true(getenv_like("HF_HUB_DISABLE_SYMLINKS"));
  settings.answer_timeout_s = seconds_of(getenv_like, "HF_HUB_ETAG_TIMEOUT", settings.answer_timeout_s);
  settings.stall_timeout_s = seconds_of(getenv_like, "HF_HUB_DOWNLOAD_TIMEOUT", settings.stall_timeout_s);
  if (const auto origin = value_of(getenv_like, "HF_HUB_USER_AGENT_ORIGIN"))
    if (std::all_of(origin->begin(), origin->end(), [](char c) { return c > 0x20 && c < 0x7f; }))
      settings.user_agent += "; origin/" + *origin;
  const auto either = [&](const char* lower, const char* upper) {
    const auto value = value_of(getenv_like, lower);
    return value ? *value : value_of(getenv_like, upper).value_or("");
  };
  const std::string every = either("all_proxy", "ALL_PROXY");
  // HTTP_PROXY in capitals can be set by whoever sends a request to a CGI program: curl ignores it too.
  settings.http_proxy = value_of(getenv_like, "http_proxy").value_or(every);
  settings.https_proxy = either("https_proxy", "HTTPS_PROXY");
  if (settings.https_proxy.empty()) settings.https_proxy = every;
  settings.no_proxy = either("no_proxy", "NO_PROXY");
  settings.ca_file = value_of(getenv_like, "SSL_CERT_FILE").value_or("");
  return settings;
}

void check_token(const std::string& token, const std::string& origin) {
  constexpr size_t kMaxTokenBytes = 4096;
  const bool plain = std::all_of(token.begin(), token.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (!token.empty() && token.size() <= kMaxTokenBytes && plain) return;
  throw Error(ErrorKind::config, "bad-token-text", "the token holds characters that no token has")
      .at(origin)
      .want("one line of visible ASCII characters, such as hf_…")
      .hint("create a token on the hub's settings page, then run: rhapsode login");
}

void store_token(const std::string& token_file, const std::string& token) {
  check_token(token, token_file);
  const fs::path directory = fs::path(token_file).parent_path();
  std::error_code code;
  if (!directory.empty() && !fs::exists(directory, code)) {
    fs::create_directories(directory, code);
    if (!code) ::chmod(directory.c_str(), 0700);
  }
  const mode_t before = ::umask(0177);  // the temporary file is never readable by others either
  try {
    AtomicFile file(token_file);
    file.append(std::as_bytes(std::span(token)));
    file.commit();
  } catch (...) {
    ::umask(before);
    throw;
  }
  ::umask(before);
}

}  // namespace rhapsode::hub
