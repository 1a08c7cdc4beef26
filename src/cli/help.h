// How help looks: usage, a command's own options, then the options of all commands, then examples.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace rhapsode::cli {

constexpr const char* kGlobalGroup = "Options of every command";

class HelpText : public CLI::Formatter {
 public:
  HelpText();
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;
  std::string make_usage(const CLI::App* app, std::string name) const override;
};

}  // namespace rhapsode::cli
