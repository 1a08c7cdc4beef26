// Completion scripts of shells, made from the command line's own description.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace rhapsode::cli {

std::string bash_completion(const CLI::App& app);
std::string zsh_completion(const CLI::App& app);
std::string fish_completion(const CLI::App& app);

}  // namespace rhapsode::cli
