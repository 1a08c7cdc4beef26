// The program: parses the command line, runs one command, turns what it throws into text and an exit code.
// Knows nothing of what commands do.
#include <CLI/CLI.hpp>
#include <clocale>
#include <cstdlib>
#include <cstring>

#include "cli/invocation.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "cli/usage.h"

namespace rhapsode::cli {
namespace {

// Shows an error where the caller looks for it; the exit code is the error's.
int report(const Error& error, const Globals& globals) {
  if (globals.json)
    print_json(error_json(error));
  else
    say(error_text(error, stderr_style(globals)));
  return exit_code(error.kind);
}

int report_or_give_up(const Error& error, const Globals& globals) {
  if (interrupted()) return interrupted_exit_code();
  try {
    return report(error, globals);
  } catch (const Error& second) {  // stdout is gone
    say(second.to_text());
    return exit_code(second.kind);
  }
}

int run_action(const Invocation& invocation) {
  const Globals& globals = invocation.globals;
  try {
    return invocation.action();
  } catch (const Interrupted&) {
    return interrupted_exit_code();
  } catch (...) {
    return report_or_give_up(current_error(), globals);
  }
}

int main(int argc, char** argv) {
  if (std::setlocale(LC_CTYPE, "") == nullptr || MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
  install_signals();
  Invocation invocation;
  describe(invocation);
  if (argc < 2) {
    say(invocation.app->help());
    return exit_code(ErrorKind::usage);
  }
  try {
    invocation.app->parse(argc, argv);
  } catch (const CLI::Success& wanted) {  // --help, --version
    return invocation.app->exit(wanted);
  } catch (const CLI::ParseError& error) {
    for (int i = 1; i < argc; ++i)
      if (std::strcmp(argv[i], "--json") == 0) invocation.globals.json = true;
    return report_or_give_up(usage_error(*invocation.app, error), invocation.globals);
  }
  return run_action(invocation);
}

}  // namespace
}  // namespace rhapsode::cli

int main(int argc, char** argv) {
  return rhapsode::cli::main(argc, argv);
}
