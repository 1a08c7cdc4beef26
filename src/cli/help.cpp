#include "cli/help.h"

namespace rhapsode::cli {

HelpText::HelpText() {
  column_width(30);
}

std::string HelpText::make_usage(const CLI::App* app, std::string name) const {
  std::string usage = "\nUsage: " + (name.empty() ? app->get_name() : name);
  if (app->get_parent() == nullptr) return usage + " COMMAND [options]\n";
  for (const CLI::Option* option : app->get_options())
    if (option->get_positional()) usage += " " + option->get_name(true, false);
  return usage + " [options]\n";
}

std::string HelpText::make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const {
  const CLI::App* parent = app->get_parent();
  if (mode == CLI::AppFormatMode::Sub) return make_expanded(app);
  std::string text = make_description(app) + make_usage(app, name);
  if (parent == nullptr) {
    text += make_subcommands(app, mode) + make_groups(app, mode);
  } else {
    text += make_positionals(app) + make_groups(app, mode);
    const std::vector<const CLI::Option*> shared = parent->get_options([](const CLI::Option* option) {
      return option->get_group() == kGlobalGroup && option->get_name() != "--help" &&
             option->get_name() != "--version";
    });
    text += make_group(kGlobalGroup, false, shared);
  }
  return text + "\n" + make_footer(app);
}

}  // namespace rhapsode::cli
