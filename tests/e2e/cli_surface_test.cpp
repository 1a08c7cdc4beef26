// The command line itself: help, usage errors, version, completion, and `check`, which needs no model.
#include "models/paths.h"
#include "program.h"

namespace rhapsode::testing {
namespace {

const char* const kCommands[] = {"check",    "plan",        "run",      "chat",    "ppl",       "tokenize",
                                 "template", "import-gguf", "quantize", "version", "completion"};

TEST(Help, NamesEveryCommandAndEachHasItsOwn) {
  const Outcome help = rhapsode({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_EQ(help.err, "");
  for (const std::string command : kCommands) {
    EXPECT_NE(help.out.find("\n  " + command + " "), std::string::npos) << command;
    const Outcome own = rhapsode({command, "--help"});
    EXPECT_EQ(own.code, 0) << command;
    EXPECT_NE(own.out.find("Usage: rhapsode " + command), std::string::npos) << own.out;
    EXPECT_NE(own.out.find("--config FILE"), std::string::npos) << command;
    EXPECT_NE(own.out.find("Examples:"), std::string::npos) << command;
  }
  EXPECT_NE(help.out.find("--set PATH=VALUE"), std::string::npos);
}

TEST(Help, WithoutArgumentsGoesToStderr) {
  const Outcome bare = rhapsode({});
  EXPECT_EQ(bare.code, 2);
  EXPECT_EQ(bare.out, "");
  EXPECT_NE(bare.err.find("Usage: rhapsode COMMAND"), std::string::npos);
}

struct UsageCase {
  std::vector<std::string> arguments;
  const char* code;
  const char* mentions;
};

TEST(Usage, ErrorsSayWhatAndOfferTheNearest) {
  const UsageCase cases[] = {
      {{"chekc"}, "unknown-command", "check"},
      {{"run", "--promt", "x"}, "unknown-option", "--prompt"},
      {{"--theads", "2", "version"}, "unknown-option", "--threads"},
      {{"version", "extra"}, "unexpected-argument", "extra"},
      {{"run", "--prompt"}, "bad-command-line", "--prompt needs a value"},
      {{"plan", "-c", "x.yaml", "-c", "y.yaml"}, "bad-command-line", "--config is given more than once"},
      {{"plan", "-c", "x.yaml", "--machine", ""}, "bad-command-line", "--machine: it has an empty value"},
      {{"plan", "-c", "x.yaml", "--emit-config", ""}, "bad-command-line", "--emit-config"},
      {{"-q"}, "no-command", "--help"},
      {{"check"}, "missing-option", "-c FILE"},
      {{"run", "-c", "x.yaml"}, "missing-option", "--prompt"},
      {{"run", "-c", "x.yaml", "--prompt", "a", "--ids", "1"}, "conflicting-options", "--prompt and --ids"},
      {{"run", "-c", "x.yaml", "--ids", "1", "--raw"}, "conflicting-options", "--raw"},
      {{"ppl", "-c", "x.yaml"}, "missing-option", "--text"},
      {{"tokenize", "--tokenizer", "x"}, "missing-option", "--text"},
      {{"tokenize", "--text", "x"}, "missing-option", "--tokenizer"},
      {{"template", "--tokenizer", "x"}, "missing-option", "--messages"},
      {{"completion", "tcsh"}, "unknown-shell", "bash"},
      {{"import-gguf", "a", "b", "--dtype", "int8"}, "bad-value", "bfloat16"},
      {{"cache", "sweep"}, "unknown-action", "prune"},
      {{"cache", "ls", "--packed"}, "unexpected-option", "cache rm --packed"},
      {{"doctor", "--machine", "nonsense"}, "bad-machine", "nonsense"},
  };
  for (UsageCase c : cases) {
    const Outcome plain = rhapsode(c.arguments);
    EXPECT_EQ(plain.code, 2) << c.code;
    EXPECT_EQ(plain.out, "") << c.code;
    EXPECT_EQ(plain.err.rfind("error[" + std::string(c.code) + "]: ", 0), 0u) << plain.err;
    EXPECT_NE(plain.err.find(c.mentions), std::string::npos) << plain.err;
    c.arguments.push_back("--json");
    if (std::string(c.code) == "bad-command-line") c.arguments = {"--json", "run", "--prompt"};
    const Outcome json = rhapsode(c.arguments);
    EXPECT_EQ(json.code, 2) << c.code;
    EXPECT_EQ(json.error_code(), c.code);
    EXPECT_EQ(json.err, "") << json.err;
  }
}

TEST(Usage, AnErrorHasEveryFieldInJson) {
  const Json error = rhapsode({"--json", "chekc"}).json().at("error");
  for (const char* field : {"code", "message", "file", "line", "column", "path", "found", "expected", "help"})
    EXPECT_TRUE(error.contains(field)) << field;
  EXPECT_TRUE(error.at("file").is_null());
  EXPECT_TRUE(error.at("line").is_null());
  EXPECT_EQ(error.at("found"), "chekc");
}

TEST(Version, InBothForms) {
  EXPECT_EQ(rhapsode({"--version"}).out.rfind("rhapsode ", 0), 0u);
  EXPECT_EQ(rhapsode({"version"}).out.rfind("rhapsode ", 0), 0u);
  const Json version = rhapsode({"version", "--json"}).json();
  for (const char* field : {"version", "isa", "cpu", "compiler", "build_type"})
    EXPECT_TRUE(version.at(field).is_string()) << field;
  bool reference = false;
  for (const Json& set : version.at("isa_sets")) {
    EXPECT_TRUE(set.at("supported").is_boolean());
    reference = reference || (set.at("name") == "reference" && set.at("supported") == true);
  }
  EXPECT_TRUE(reference);
}

TEST(Completion, EveryShellKnowsCommandsAndOptions) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Outcome script = rhapsode({"completion", shell});
    EXPECT_EQ(script.code, 0);
    for (const std::string command : kCommands)
      EXPECT_NE(script.out.find(command), std::string::npos) << shell << command;
    EXPECT_NE(script.out.find("prompt-file"), std::string::npos) << shell;
  }
}

TEST(Completion, BashCompletesForReal) {
  const Scratch scratch;
  const std::string script =
      scratch.put("complete.sh",
                  rhapsode({"completion", "bash"}).out +
                      "COMP_WORDS=(rhapsode run --pro); COMP_CWORD=2; _rhapsode; echo \"${COMPREPLY[*]}\"\n"
                      "COMP_WORDS=(rhapsode te); COMP_CWORD=1; _rhapsode; echo \"${COMPREPLY[*]}\"\n");
  FILE* shell = ::popen(("bash " + script).c_str(), "r");
  ASSERT_NE(shell, nullptr);
  std::string out(4096, '\0');
  out.resize(std::fread(out.data(), 1, out.size(), shell));
  EXPECT_EQ(::pclose(shell), 0);
  EXPECT_EQ(out, "--prompt --prompt-file --prompts-file\ntemplate\n");
}

TEST(Check, AValidFileIsValidAndAnAbsentModelIsANote) {
  const Scratch scratch;
  const std::string file = scratch.put("a.yaml", tiny_yaml("nobody/no-such-model"));
  const Outcome outcome = rhapsode({"check", "-c", file, "--json"});
  EXPECT_EQ(outcome.code, 0);
  const Json json = outcome.json();
  EXPECT_EQ(json.at("ok"), true);
  bool noted = false;
  for (const Json& finding : json.at("findings")) {
    EXPECT_NE(finding.at("severity"), "error");
    if (finding.at("code") != "model-not-cached") continue;
    noted = true;
    EXPECT_EQ(finding.at("severity"), "note");
    EXPECT_EQ(finding.at("line"), 6);
    EXPECT_EQ(finding.at("file"), file);
  }
  EXPECT_TRUE(noted) << outcome.out;
  EXPECT_NE(rhapsode({"check", "-c", file}).out.find("valid"), std::string::npos);
}

// check and the commands that need the model agree, and nothing is said to be fetched before.
TEST(Check, AnIdThatNoModelCanHaveIsAnError) {
  const Scratch scratch;
  const std::string file = scratch.put("a.yaml", tiny_yaml("meta llama/Llama-2"));
  const Outcome check = rhapsode({"check", "-c", file, "--json"});
  EXPECT_EQ(check.code, 3);
  EXPECT_EQ(check.json().at("ok"), false);
  const Json finding = check.json().at("findings").back();
  EXPECT_EQ(finding.at("code"), "bad-model-id");
  EXPECT_EQ(finding.at("severity"), "error");
  EXPECT_EQ(finding.at("line"), 6);
  EXPECT_EQ(finding.at("path"), "generator.models.tiny.model_id");
  for (const char* command : {"run", "plan", "tokenize"}) {
    std::vector<std::string> arguments = {command, "-c", file};
    if (arguments[0] == "run") arguments.insert(arguments.end(), {"--prompt", "hi"});
    if (arguments[0] == "tokenize") arguments.insert(arguments.end(), {"--text", "hi"});
    const Outcome outcome = rhapsode(arguments);
    EXPECT_EQ(outcome.code, 3) << command;
    EXPECT_EQ(outcome.err.rfind("error[bad-model-id]: ", 0), 0u) << outcome.err;
    EXPECT_NE(outcome.err.find(file + ":6:17"), std::string::npos) << outcome.err;
  }
  const std::string revision =
      scratch.put("b.yaml", tiny_yaml("nobody/no-such-model", {"revision: \"../x\""}));
  const Json wrong = rhapsode({"check", "-c", revision, "--json"}).json();
  EXPECT_EQ(wrong.at("findings").back().at("code"), "bad-revision");
  EXPECT_EQ(wrong.at("findings").back().at("line"), 10);
}

TEST(Check, ErrorsComeAllAndWithTheirPlace) {
  const Scratch scratch;
  const std::string file = scratch.put("a.yaml", tiny_yaml("x/y", {"top_kk: 3", "temperature: -1"}));
  const Outcome outcome = rhapsode({"check", "-c", file, "--json"});
  EXPECT_EQ(outcome.code, 3);
  const Json json = outcome.json();
  EXPECT_EQ(json.at("ok"), false);
  std::map<uint64_t, std::string> errors;
  for (const Json& finding : json.at("findings")) {
    for (const char* field : {"code", "severity", "path", "file", "line", "column", "message", "why", "fix"})
      EXPECT_TRUE(finding.contains(field)) << field;
    if (finding.at("severity") == "error")
      errors[finding.at("line").get<uint64_t>()] = finding.at("code").get<std::string>();
  }
  EXPECT_EQ(errors.size(), 2u) << outcome.out;
  EXPECT_EQ(errors[10], "unknown-key");
  EXPECT_TRUE(errors.contains(11));
  const Outcome plain = rhapsode({"check", "-c", file});
  EXPECT_EQ(plain.code, 3);
  EXPECT_NE(plain.out.find(file + ":10:7"), std::string::npos) << plain.out;
  EXPECT_EQ(plain.out.find('\033'), std::string::npos);
}

TEST(Check, ExplainsWhichSourceWins) {
  const Scratch scratch;
  const std::string file = scratch.put("a.yaml", tiny_yaml(fixture("golden/llama-mqa")));
  const Json yaml = rhapsode({"check", "-c", file, "--explain", "max_new_tokens", "--json"}).json();
  EXPECT_EQ(yaml.at("key"), "max_new_tokens");
  EXPECT_EQ(yaml.at("value"), 8);
  EXPECT_EQ(yaml.at("source"), "yaml");
  EXPECT_GE(yaml.at("candidates").size(), 2u);
  const Json set =
      rhapsode({"check", "-c", file, "--explain", "max_new_tokens", "--set", "max_new_tokens=3", "--json"})
          .json();
  EXPECT_EQ(set.at("value"), 3);
  EXPECT_EQ(set.at("source"), "command line");
  EXPECT_EQ(rhapsode({"check", "-c", file, "--explain", "top_kk", "--json"}).code, 2);
}

// Of max_new_tokens and max_length one is in force, as in generate().
TEST(Check, ExplainsWhichLengthIsInForce) {
  const Scratch scratch;
  std::string yaml = tiny_yaml(fixture("golden/llama-mqa"));
  const std::string both = scratch.put("both.yaml", yaml + "      max_length: 12\n");
  const Json length = rhapsode({"check", "-c", both, "--explain", "max_length", "--json"}).json();
  EXPECT_EQ(length.at("value"), nullptr);
  EXPECT_EQ(length.at("source"), "yaml");
  EXPECT_EQ(length.at("overruled_by"), "max_new_tokens");
  yaml.replace(yaml.find("max_new_tokens: 8"), 17, "max_length: 12");
  const std::string one = scratch.put("one.yaml", yaml);
  const Json tokens = rhapsode({"check", "-c", one, "--explain", "max_new_tokens", "--json"}).json();
  EXPECT_EQ(tokens.at("value"), nullptr);
  EXPECT_EQ(tokens.at("source"), "yaml");
  EXPECT_EQ(tokens.at("overruled_by"), "max_length");
  EXPECT_EQ(rhapsode({"check", "-c", one, "--explain", "max_length", "--json"}).json().at("value"), 12);
}

TEST(Check, BadYamlAndMissingFile) {
  const Scratch scratch;
  const std::string broken = scratch.put("a.yaml", "generator: [\n");
  EXPECT_EQ(rhapsode({"check", "-c", broken}).code, 3);
  EXPECT_EQ(rhapsode({"check", "-c", broken, "--json"}).json().at("ok"), false);
  const Outcome missing = rhapsode({"check", "-c", scratch.file("none.yaml"), "--json"});
  EXPECT_EQ(missing.code, 5);
  EXPECT_EQ(missing.json().at("error").at("file"), scratch.file("none.yaml"));
  EXPECT_TRUE(missing.json().at("error").at("help").is_string());
  const Json directory = rhapsode({"check", "-c", scratch.path().string(), "--json"}).json();
  EXPECT_EQ(directory.at("error").at("found"), "a directory");
}

TEST(Check, AFullDiskIsAnError) {
  const Outcome outcome = run_program({{"version"}, "", {}, 0});
  EXPECT_EQ(outcome.code, 0);
  FILE* shell = ::popen((paths::binary() + " version > /dev/full 2>&1").c_str(), "r");
  ASSERT_NE(shell, nullptr);
  EXPECT_EQ(WEXITSTATUS(::pclose(shell)), 1);
}

}  // namespace
}  // namespace rhapsode::testing
