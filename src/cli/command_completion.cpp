// `completion`: prints a shell's completion script.
#include "cli/completion.h"
#include "cli/invocation.h"
#include "cli/terminal.h"

namespace rhapsode::cli {
namespace {

int completion(const Invocation& invocation, const std::string& shell) {
  std::string script;
  if (shell == "bash")
    script = bash_completion(*invocation.app);
  else if (shell == "zsh")
    script = zsh_completion(*invocation.app);
  else if (shell == "fish")
    script = fish_completion(*invocation.app);
  else
    throw Error(ErrorKind::usage, "unknown-shell", "there is no completion for this shell")
        .at("SHELL")
        .saw(excerpt(shell))
        .want("bash, zsh or fish");
  if (invocation.globals.json)
    print_json({{"shell", shell}, {"script", script}});
  else
    print(script);
  return 0;
}

}  // namespace

void add_completion(Invocation& invocation) {
  Command command(invocation, "completion", kProgramGroup, "Completion script for bash, zsh or fish",
                  "  source <(rhapsode completion bash)\n  rhapsode completion fish | source");
  const auto shell = std::make_shared<std::string>();
  command.argument("SHELL", *shell, "bash, zsh or fish");
  command.action([&invocation, shell] { return completion(invocation, *shell); });
}

}  // namespace rhapsode::cli
