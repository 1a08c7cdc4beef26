#include "cli/usage.h"

#include <fmt/format.h>

#include "base/json.h"
#include "config/nearest.h"

namespace rhapsode::cli {
namespace {

const CLI::App* named_command(const CLI::App& app) {
  const std::vector<CLI::App*> commands = app.get_subcommands();
  return commands.empty() ? nullptr : commands.front();
}

void add_option_names(const CLI::App& app, std::vector<std::string>& names) {
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
}

std::string help_command(const CLI::App* command) {
  return command == nullptr ? "rhapsode --help" : "rhapsode " + command->get_name() + " --help";
}

Error unknown_command(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  const std::string near = config::nearest(word, names);
  return Error(ErrorKind::usage, "unknown-command", fmt::format("there is no command '{}'", excerpt(word)))
      .saw(excerpt(word))
      .want(fmt::format("{}", fmt::join(names, ", ")))
      .hint(near.empty() ? "rhapsode --help" : "did you mean '" + near + "'?");
}

Error unexpected(const CLI::App& app, const std::string& word) {
  const CLI::App* command = named_command(app);
  if (!word.starts_with('-')) {
    if (command == nullptr) return unknown_command(app, word);
    return Error(ErrorKind::usage, "unexpected-argument",
                 fmt::format("{} does not take the argument '{}'", command->get_name(), excerpt(word)))
        .saw(excerpt(word))
        .hint(help_command(command));
  }
  const std::string name = word.substr(0, word.find('='));
  std::vector<std::string> names;
  if (command != nullptr) add_option_names(*command, names);
  add_option_names(app, names);
  const std::string near = config::nearest(name, names);
  const std::string where = command == nullptr ? "rhapsode" : command->get_name();
  return Error(ErrorKind::usage, "unknown-option", fmt::format("{} has no option '{}'", where, excerpt(name)))
      .at(excerpt(name))
      .saw(excerpt(word))
      .hint(near.empty() ? help_command(command) : "did you mean '" + near + "'?");
}

}  // namespace

Error usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> rest = app.remaining(true);
  if (!rest.empty()) return unexpected(app, rest.front());
  const CLI::App* command = named_command(app);
  if (command == nullptr && dynamic_cast<const CLI::RequiredError*>(&error) != nullptr)
    return Error(ErrorKind::usage, "no-command", "no command is given")
        .want("a command")
        .hint("rhapsode --help");
  std::string what = error.what();
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    const std::string name = what.substr(0, what.find(':'));
    what = name + (what.find("At Most") == std::string::npos ? " needs a value" : " is given more than once");
  }
  return Error(ErrorKind::usage, "bad-command-line", what).hint(help_command(command));
}

}  // namespace rhapsode::cli
