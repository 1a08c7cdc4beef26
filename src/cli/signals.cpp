#include "cli/signals.h"

#include <unistd.h>

#include <csignal>

namespace rhapsode::cli {
namespace {

std::atomic<bool> cancelled{false};
std::atomic<int> last_signal{0};
std::atomic<int> scopes{0};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

extern "C" void on_signal(int number) {
  last_signal = number;
  if (scopes == 0 || cancelled.exchange(true)) ::_exit(128 + number);
}

}  // namespace

void install_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;  // no SA_RESTART: a blocked read of the terminal returns
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::signal(SIGXFSZ, SIG_IGN);  // a file beyond the allowed size is an error of its write, not our end
  ::signal(SIGPIPE, SIG_DFL);  // a parent may have it ignored; a closed pipe ends us without a word
}

CancelScope::CancelScope() {
  ++scopes;
}
CancelScope::~CancelScope() {
  --scopes;
}

const std::atomic<bool>& cancel_flag() {
  return cancelled;
}
bool interrupted() {
  return cancelled;
}
bool terminated() {
  return cancelled && last_signal == SIGTERM;
}
void forget_interrupt() {
  cancelled = false;
}
int interrupted_exit_code() {
  return 128 + last_signal;
}

}  // namespace rhapsode::cli
