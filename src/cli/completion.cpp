#include "cli/completion.h"

#include <fmt/format.h>

#include <vector>

namespace rhapsode::cli {
namespace {

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

// Options that are written with a dash; a command has its own and those of every command.
std::vector<const CLI::Option*> options_of(const CLI::App& app) {
  std::vector<const CLI::Option*> out;
  for (const CLI::Option* option : app.get_options())
    if (!option->get_positional()) out.push_back(option);
  return out;
}

std::vector<std::string> spellings(const CLI::Option& option) {
  std::vector<std::string> out;
  for (const std::string& name : option.get_snames()) out.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) out.push_back("--" + name);
  return out;
}

bool takes_value(const CLI::Option& option) {
  return option.get_type_size() != 0;
}
bool takes_file(const CLI::Option& option) {
  return option.get_option_text() == "FILE" || option.get_option_text() == "DIR";
}

std::string joined(const std::vector<const CLI::Option*>& options) {
  std::string out;
  for (const CLI::Option* option : options)
    for (const std::string& name : spellings(*option)) out += (out.empty() ? "" : " ") + name;
  return out;
}

// Inside single quotes of a shell.
std::string quoted(const std::string& text) {
  std::string out;
  for (char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out;
}

// Inside a zsh _arguments description, which ends at ].
std::string bracketed(const std::string& text) {
  std::string out;
  for (char c : quoted(text)) {
    if (c == '[' || c == ']' || c == ':') out += '\\';
    out += c;
  }
  return out;
}

void zsh_option(const CLI::Option& option, std::string& out) {
  for (const std::string& name : spellings(option)) {
    const char* action = takes_file(option) ? ":file:_files" : takes_value(option) ? ":value: " : "";
    out += fmt::format("      '{}{}[{}]{}' \\\n", name == "--set" ? "*" : "", name,
                       bracketed(option.get_description()), action);
  }
}

void fish_option(const CLI::Option& option, const std::string& condition, std::string& out) {
  out += "complete -c rhapsode" + condition;
  for (const std::string& name : option.get_snames()) out += " -s " + name;
  for (const std::string& name : option.get_lnames()) out += " -l " + name;
  if (takes_file(option))
    out += " -r -F";
  else if (takes_value(option))
    out += " -x";
  out += fmt::format(" -d '{}'\n", quoted(option.get_description()));
}

}  // namespace

std::string bash_completion(const CLI::App& app) {
  std::string names, cases, files;
  for (const CLI::App* command : commands_of(app)) {
    names += (names.empty() ? "" : " ") + command->get_name();
    cases += fmt::format("    {}) words=\"{}\" ;;\n", command->get_name(), joined(options_of(*command)));
    if (command->get_name() == "completion") continue;
    for (const CLI::Option* option : options_of(*command))
      if (takes_value(*option))
        for (const std::string& name : spellings(*option)) files += "|" + name;
  }
  for (const CLI::Option* option : options_of(app))
    if (takes_value(*option))
      for (const std::string& name : spellings(*option)) files += "|" + name;
  return fmt::format(R"(# bash completion of rhapsode: source <(rhapsode completion bash)
_rhapsode() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" command="" words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case " {0} " in *" ${{COMP_WORDS[i]}} "*) command="${{COMP_WORDS[i]}}"; break ;; esac
  done
  case "$before" in
    {1}) COMPREPLY=($(compgen -f -- "$word")); return ;;
  esac
  case "$command" in
    "") words="{0}" ;;
{2}  esac
  [ "$command" = completion ] && words="$words bash zsh fish"
  COMPREPLY=($(compgen -W "$words {3}" -- "$word"))
  [ "$command" = import-gguf ] && [ ${{#COMPREPLY[@]}} -eq 0 ] && COMPREPLY=($(compgen -f -- "$word"))
}}
complete -o filenames -F _rhapsode rhapsode
)",
                     names, files.substr(1), cases, joined(options_of(app)));
}

std::string zsh_completion(const CLI::App& app) {
  std::string names, cases, shared;
  for (const CLI::Option* option : options_of(app)) zsh_option(*option, shared);
  for (const CLI::App* command : commands_of(app)) {
    names += fmt::format("    '{}:{}'\n", command->get_name(), quoted(command->get_description()));
    std::string own;
    for (const CLI::Option* option : options_of(*command))
      if (option->get_name() != "--help") zsh_option(*option, own);
    const char* rest = command->get_name() == "completion" ? "'1:shell:(bash zsh fish)'" : "'*:file:_files'";
    cases += fmt::format("    {}) _arguments \\\n{}{}      {} ;;\n", command->get_name(), own, shared, rest);
  }
  return fmt::format(R"(#compdef rhapsode
# zsh completion of rhapsode: rhapsode completion zsh > a directory of $fpath/_rhapsode
_rhapsode() {{
  local -a commands
  commands=(
{0}  )
  local command="" word
  for word in ${{words[2,CURRENT-1]}}; do
    if (( ${{commands[(I)$word:*]}} )); then command=$word; break; fi
  done
  case $command in
    '') _describe command commands; _arguments \
{1}      ;;
{2}  esac
}}
compdef _rhapsode rhapsode
)",
                     names, shared, cases);
}

std::string fish_completion(const CLI::App& app) {
  std::string out =
      "# fish completion of rhapsode: rhapsode completion fish | source\ncomplete -c rhapsode -f\n";
  for (const CLI::App* command : commands_of(app))
    out += fmt::format("complete -c rhapsode -n __fish_use_subcommand -a {} -d '{}'\n", command->get_name(),
                       quoted(command->get_description()));
  for (const CLI::Option* option : options_of(app)) fish_option(*option, "", out);
  for (const CLI::App* command : commands_of(app)) {
    const std::string condition = fmt::format(" -n '__fish_seen_subcommand_from {}'", command->get_name());
    for (const CLI::Option* option : options_of(*command))
      if (option->get_name() != "--help") fish_option(*option, condition, out);
  }
  out += "complete -c rhapsode -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n";
  out += "complete -c rhapsode -n '__fish_seen_subcommand_from import-gguf' -F\n";
  return out;
}

}  // namespace rhapsode::cli
