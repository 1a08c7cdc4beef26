// `login`: a token for the hub, asked of the user, tried, then kept. It never stands in arguments or output.
#include <fmt/format.h>
#include <termios.h>
#include <unistd.h>

#include <iostream>

#include "cli/environment.h"
#include "cli/invocation.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "hub/client.h"

namespace rhapsode::cli {
namespace {

// The terminal without echo while it lives.
class Silence {
 public:
  Silence() {
    silent_ = ::isatty(STDIN_FILENO) != 0 && ::tcgetattr(STDIN_FILENO, &before_) == 0;
    if (!silent_) return;
    termios quiet = before_;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
  }
  ~Silence() {
    if (!silent_) return;
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
    say("\n");
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;
  bool interactive() const { return silent_; }

 private:
  termios before_{};
  bool silent_ = false;
};

std::string read_token(const std::string& endpoint) {
  const CancelScope scope;  // the echo comes back after ^C
  const Silence silence;
  if (silence.interactive()) say(fmt::format("token of {}/settings/tokens: ", endpoint));
  std::string line;
  std::getline(std::cin, line);
  if (interrupted()) throw Interrupted{};
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
  while (!line.empty() && line.front() == ' ') line.erase(0, 1);
  if (line.empty())
    throw Error(ErrorKind::usage, "no-token", "no token was given")
        .saw("an empty line")
        .want("a token on stdin")
        .hint("rhapsode login < FILE, or type it where you are asked");
  return line;
}

int login(const Globals& globals) {
  hub::HubSettings settings = hub_settings(globals);
  const std::string before = settings.token.origin;
  if (settings.offline)
    throw Error(ErrorKind::network, "offline", "a token can only be tried online")
        .want("a connection to the hub")
        .hint("leave --offline, HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE out");
  settings.token = {read_token(settings.endpoint), "stdin"};
  settings.send_token = true;
  const hub::Control control{cancel_flag()};
  const CancelScope scope;
  std::string name;
  try {
    name = hub::Client(settings, control).whoami();
  } catch (const hub::Cancelled&) {
    throw Interrupted{};
  }
  hub::store_token(settings.token_file, settings.token.value);
  if (globals.json)
    print_json({{"name", name}, {"endpoint", settings.endpoint}, {"path", settings.token_file}});
  else
    print(fmt::format("logged in to {} as {}; the token is in {}\n", settings.endpoint, name,
                      settings.token_file));
  if (before == "HF_TOKEN" || before == "HUGGING_FACE_HUB_TOKEN")
    say(fmt::format("note: {} is set and stands before the stored token\n", before));
  return 0;
}

}  // namespace

void add_login(Invocation& invocation) {
  Command command(invocation, "login", kHubGroup, "Try a token of the hub and keep it",
                  "  rhapsode login                           asks for the token, without echo\n"
                  "  rhapsode login < token.txt");
  command.action([&invocation] { return login(invocation.globals); });
}

}  // namespace rhapsode::cli
