// What one call of the program was asked to do: the options that every command takes, and the action of the
// command that was named. Knows nothing of what commands do.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace rhapsode::cli {

// Options that stand before or after any command. Numbers stay text until settings.h reads them.
struct Globals {
  std::string config;
  std::string model;
  std::vector<std::string> sets;
  std::string threads;
  std::string isa;
  std::string machine;
  std::string packed_cache;
  bool offline = false;
  bool json = false;
  bool quiet = false;
  bool verbose = false;
  bool no_color = false;
};

struct Invocation {
  Invocation();
  ~Invocation();
  Invocation(const Invocation&) = delete;
  Invocation& operator=(const Invocation&) = delete;

  std::unique_ptr<CLI::App> app;
  Globals globals;
  std::function<int()> action;  // of the command; returns the exit code
};

// Builds the whole command line; parse errors are thrown as CLI::ParseError by app->parse.
void describe(Invocation& invocation);

// One command while it is described: its options, then what it does. Variables must live as long as the
// invocation.
class Command {
 public:
  // `examples` stand under its help.
  Command(Invocation& invocation, const std::string& name, const std::string& group,
          const std::string& description, const std::string& examples);

  void option(const std::string& name, std::optional<std::string>& to, const std::string& metavar,
              const std::string& what);
  void argument(const std::string& name, std::string& to, const std::string& what);  // must be given
  void optional_argument(const std::string& name, std::optional<std::string>& to, const std::string& what);
  void flag(const std::string& name, bool& to, const std::string& what);
  void action(std::function<int()> run);

 private:
  Invocation& invocation_;
  CLI::App* app_;
};

// Each adds one command. `invocation` outlives the action.
void add_check(Invocation& invocation);
void add_plan(Invocation& invocation);
void add_run(Invocation& invocation);
void add_chat(Invocation& invocation);
void add_ppl(Invocation& invocation);
void add_bench(Invocation& invocation);
void add_parity(Invocation& invocation);
void add_tokenize(Invocation& invocation);
void add_template(Invocation& invocation);
void add_quantize(Invocation& invocation);
void add_import_gguf(Invocation& invocation);
void add_pull(Invocation& invocation);
void add_cache(Invocation& invocation);
void add_login(Invocation& invocation);
void add_doctor(Invocation& invocation);
void add_version(Invocation& invocation);
void add_completion(Invocation& invocation);

constexpr const char* kConfigGroup = "Understand a config";
constexpr const char* kModelGroup = "Work with a model";
constexpr const char* kTextGroup = "Text and files";
constexpr const char* kHubGroup = "Models of the hub";
constexpr const char* kProgramGroup = "The program itself";

}  // namespace rhapsode::cli
