// What the hub's client is told from outside: where the cache is, which hub, which token, how patient to be.
// Reads no environment by itself: the command line hands in a function that does.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace rhapsode::hub {

// Made of nothing else than what it says: never printed, never part of an error.
struct Token {
  std::string value;   // empty: none
  std::string origin;  // the variable or the file that it comes from
};

struct HubSettings {
  std::string cache_directory;                          // HF_HUB_CACHE
  bool offline = false;                                 // HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE or --offline
  std::string endpoint = "https://huggingface.co";      // HF_ENDPOINT, without a slash at the end
  Token token{};                                        // HF_TOKEN, HUGGING_FACE_HUB_TOKEN, else the file
  std::string token_file{};                             // HF_TOKEN_PATH
  bool send_token = true;                               // false: HF_HUB_DISABLE_IMPLICIT_TOKEN
  bool symlinks = true;                                 // false: HF_HUB_DISABLE_SYMLINKS
  uint32_t answer_timeout_s = 10;                       // HF_HUB_ETAG_TIMEOUT: to connect and to be answered
  uint32_t stall_timeout_s = 10;                        // HF_HUB_DOWNLOAD_TIMEOUT: a body that brings nothing
  std::string user_agent = "rhapsode";                  // with HF_HUB_USER_AGENT_ORIGIN behind it
  std::string http_proxy{}, https_proxy{}, no_proxy{};  // as curl takes them; empty: none
  std::string ca_file{};                                // SSL_CERT_FILE; empty: the system's
  uint32_t parallel_files = 4;                          // files fetched at a time
  uint32_t attempts = 5;  // in a row without progress, before a failure is final
};

// The HF_* variables, HTTP(S)_PROXY, NO_PROXY and SSL_CERT_FILE; `~` and `$VAR` are expanded in paths.
// `getenv_like` returns nullopt for an unset variable. Reads the token's file. A variable that holds no
// sensible value is a config error that names it.
HubSettings hub_settings(const std::function<std::optional<std::string>(const std::string&)>& getenv_like);

// Writes the token for every program of this user: mode 0600 in a directory of mode 0700, whole or not at
// all. `token_file` may not exist yet.
void store_token(const std::string& token_file, const std::string& token);

// Throws config, without showing it, where `token` cannot stand in a header.
void check_token(const std::string& token, const std::string& origin);

}  // namespace rhapsode::hub
