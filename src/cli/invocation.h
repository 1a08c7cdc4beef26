// What one call of the program was asked to do: the options that every command takes, and the action of the
// command that was named. Knows nothing of what commands do.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace rhapsode::cli {

// Options that stand before or after any command. Numbers stay text until settings.h reads them.
struct Globals {
  std::string config;
  std::string model;
  std::vector<std::string> sets;
  std::string threads;
  std::string isa;
  bool offline = false;
  bool json = false;
  bool quiet = false;
  bool verbose = false;
  bool no_color = false;
};

struct Invocation {
  CLI::App app;
  Globals globals;
  std::function<int()> action;  // of the command; returns the exit code
};

// Builds the whole command line; parse errors are thrown as CLI::ParseError by app.parse.
void describe(Invocation& invocation);

// Each adds one command. `invocation` outlives the action.
void add_check(Invocation& invocation);
void add_plan(Invocation& invocation);
void add_run(Invocation& invocation);
void add_chat(Invocation& invocation);
void add_ppl(Invocation& invocation);
void add_tokenize(Invocation& invocation);
void add_template(Invocation& invocation);
void add_import_gguf(Invocation& invocation);
void add_version(Invocation& invocation);
void add_completion(Invocation& invocation);

// A command of a group, with an example or two under its help.
CLI::App* add_command(Invocation& invocation, const std::string& name, const std::string& group,
                      const std::string& description, const std::string& examples);

constexpr const char* kConfigGroup = "Understand a config";
constexpr const char* kModelGroup = "Work with a model";
constexpr const char* kTextGroup = "Text and files";
constexpr const char* kProgramGroup = "The program itself";

}  // namespace rhapsode::cli
