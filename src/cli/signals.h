// ^C and its like. Outside of a CancelScope they end the program at once; inside, the first asks the work to
// stop and the second ends the program.
#pragma once

#include <atomic>

namespace rhapsode::cli {

void install_signals();

// Thrown where work stopped because a signal asked for it.
struct Interrupted {};

class CancelScope {
 public:
  CancelScope();
  ~CancelScope();
  CancelScope(const CancelScope&) = delete;
  CancelScope& operator=(const CancelScope&) = delete;
};

const std::atomic<bool>& cancel_flag();
bool interrupted();
bool terminated();            // by SIGTERM
void forget_interrupt();      // the answer was stopped, the program goes on
int interrupted_exit_code();  // 130 or 143

}  // namespace rhapsode::cli
