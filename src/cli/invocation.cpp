#include "cli/invocation.h"

#include <CLI/CLI.hpp>

#include "cli/help.h"

namespace rhapsode::cli {
namespace {

constexpr const char* kText = "T";  // the metavar of texts, which may be empty

// Nothing is never meant where a name, a number or a file is asked for.
std::string not_empty(const std::string& value) {
  return value.empty() ? "it has an empty value" : "";
}

void add_globals(Invocation& invocation) {
  CLI::App& app = *invocation.app;
  Globals& globals = invocation.globals;
  const auto text = [&](const char* name, std::string& to, const char* metavar, const char* what) {
    return app.add_option(name, to, what)->option_text(metavar)->check(not_empty)->group(kGlobalGroup);
  };
  text("-c,--config", globals.config, "FILE", "the pipeline's YAML");
  text("--model", globals.model, "NAME", "the entry of `models` to use, over active_model");
  app.add_option("--set", globals.sets, "change one value: path relative to the model entry (or from / on)")
      ->option_text("PATH=VALUE")
      ->group(kGlobalGroup)
      ->type_size(1)
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  text("--threads", globals.threads, "N", "threads to compute with (default: all usable cores)");
  text("--isa", globals.isa, "NAME", "kernel set to use (default: the best; see `version`)");
  text("--machine", globals.machine, "SPEC",
       "virtual devices: 2x8GB,cpu=20GB,disk=100GB or 8GB+24GB,cpu=64GB");
  text("--packed-cache", globals.packed_cache, "WHERE",
       "keep quantized weights for the next start: on, off (default) or a directory");
  const auto flag = [&](const char* name, bool& to, const char* what) {
    app.add_flag(name, to, what)->group(kGlobalGroup);
  };
  flag("--offline", globals.offline, "open no network connection");
  flag("--json", globals.json, "one JSON object on stdout");
  flag("-q,--quiet", globals.quiet, "no progress, no statistics");
  flag("-v,--verbose", globals.verbose, "say more on stderr");
  flag("--no-color", globals.no_color, "plain text (also: NO_COLOR)");
}

}  // namespace

Invocation::Invocation() : app(std::make_unique<CLI::App>()) {}
Invocation::~Invocation() = default;

Command::Command(Invocation& invocation, const std::string& name, const std::string& group,
                 const std::string& description, const std::string& examples)
    : invocation_(invocation), app_(invocation.app->add_subcommand(name, description)) {
  app_->group(group)->fallthrough();
  app_->footer("Examples:\n" + examples);
}

void Command::option(const std::string& name, std::optional<std::string>& to, const std::string& metavar,
                     const std::string& what) {
  CLI::Option* option = app_->add_option_function<std::string>(
      name, [&to](const std::string& value) { to = value; }, what);
  option->option_text(metavar);
  if (metavar != kText) option->check(not_empty);
}

void Command::argument(const std::string& name, std::string& to, const std::string& what) {
  app_->add_option(name, to, what)->check(not_empty)->required();
}

void Command::optional_argument(const std::string& name, std::optional<std::string>& to,
                                const std::string& what) {
  app_->add_option_function<std::string>(
          name, [&to](const std::string& value) { to = value; }, what)
      ->check(not_empty);
}

void Command::flag(const std::string& name, bool& to, const std::string& what) {
  app_->add_flag(name, to, what);
}

void Command::action(std::function<int()> run) {
  app_->callback([this_invocation = &invocation_, run = std::move(run)] { this_invocation->action = run; });
}

void describe(Invocation& invocation) {
  CLI::App& app = *invocation.app;
  app.name("rhapsode");
  app.description("Runs Hugging Face language models as a pipeline's YAML describes them.");
  app.formatter(std::make_shared<HelpText>());
  app.set_help_flag("-h,--help", "this help; `rhapsode COMMAND --help` for a command");
  app.set_version_flag("--version", "rhapsode " RHAPSODE_VERSION, "the version");
  app.get_option("--help")->group(kGlobalGroup);
  app.get_option("--version")->group(kGlobalGroup);
  app.require_subcommand(1);
  add_globals(invocation);
  add_check(invocation);
  add_plan(invocation);
  add_run(invocation);
  add_chat(invocation);
  add_ppl(invocation);
  add_bench(invocation);
  add_parity(invocation);
  add_tokenize(invocation);
  add_template(invocation);
  add_quantize(invocation);
  add_import_gguf(invocation);
  add_pull(invocation);
  add_cache(invocation);
  add_login(invocation);
  add_doctor(invocation);
  add_version(invocation);
  add_completion(invocation);
  app.footer(
      "Examples:\n"
      "  rhapsode check -c rag.yaml                          is the config right, and why not\n"
      "  rhapsode plan -c rag.yaml                           what fits where, before anything is loaded\n"
      "  rhapsode run -c rag.yaml --prompt \"Why is the sky blue?\"\n"
      "  rhapsode run -c rag.yaml --set temperature=0 --json --prompt-file question.txt\n"
      "  rhapsode chat -c rag.yaml --model phi2\n"
      "\n"
      "Exit codes: 0 ok, 1 failure, 2 usage, 3 config, 4 auth, 5 not found, 6 network or offline,\n"
      "7 does not fit, 8 unsupported, 9 damaged file, 130/143 signals");
}

}  // namespace rhapsode::cli
