// `check`: everything that there is to say about a config, and where a value comes from. Decides on the YAML
// alone; a model that is not on this machine is a note, one that can be nowhere an error.
#include <fmt/format.h>

#include <algorithm>

#include "cli/environment.h"
#include "cli/invocation.h"
#include "cli/terminal.h"
#include "config/config.h"
#include "config/locate.h"
#include "runtime/assembly.h"

namespace rhapsode::cli {
namespace {

using config::Finding;
using config::Severity;

const char* severity_name(Severity severity) {
  switch (severity) {
    case Severity::error:
      return "error";
    case Severity::warning:
      return "warning";
    case Severity::note:
      return "note";
  }
  return "";
}

OrderedJson text_or_null(const std::string& text) {
  return text.empty() ? OrderedJson() : OrderedJson(text);
}

OrderedJson finding_json(const Finding& finding) {
  const config::Origin& origin = finding.origin;
  OrderedJson out;
  out["code"] = finding.code;
  out["severity"] = severity_name(finding.severity);
  out["path"] = finding.path;
  out["file"] = text_or_null(origin.file);
  out["line"] = origin.line == 0 ? OrderedJson() : OrderedJson(origin.line);
  out["column"] = origin.line == 0 ? OrderedJson() : OrderedJson(origin.column);
  if (!origin.set.empty()) out["set"] = origin.set;
  out["message"] = finding.message;
  out["found"] = text_or_null(finding.found);
  out["expected"] = text_or_null(finding.expected);
  out["why"] = finding.why;
  out["fix"] = finding.fix;
  return out;
}

std::string place_of(const config::Origin& origin) {
  if (!origin.set.empty()) return "--set " + origin.set;
  return origin.line == 0 ? origin.file : fmt::format("{}:{}:{}", origin.file, origin.line, origin.column);
}

std::string finding_text(const Finding& finding, const Style& style) {
  const std::string tag = fmt::format("{}[{}]", severity_name(finding.severity), finding.code);
  const std::string coloured = finding.severity == Severity::error     ? style.red(tag)
                               : finding.severity == Severity::warning ? style.yellow(tag)
                                                                       : style.cyan(tag);
  std::string out = fmt::format("{}: {}\n  {} {}\n", coloured, style.bold(finding.message), style.blue("-->"),
                                place_of(finding.origin));
  const auto row = [&](const char* label, const std::string& text) {
    if (!text.empty()) out += fmt::format("  {} {}\n", style.dim(fmt::format("{}:", label)), text);
  };
  row("at", finding.path);
  row("found", finding.found);
  row("expected", finding.expected);
  row("why", finding.why);
  row("fix", finding.fix);
  return out + "\n";
}

uint64_t count(const std::vector<Finding>& findings, Severity severity) {
  return static_cast<uint64_t>(std::count_if(findings.begin(), findings.end(),
                                             [&](const Finding& f) { return f.severity == severity; }));
}

std::string summary_text(const std::vector<Finding>& findings, const std::string& file, const Style& style) {
  const uint64_t errors = count(findings, Severity::error), warnings = count(findings, Severity::warning),
                 notes = count(findings, Severity::note);
  const auto part = [](uint64_t n, const char* word) {
    return fmt::format("{} {}{}", n, word, n == 1 ? "" : "s");
  };
  const std::string verdict = errors > 0 ? style.red("not valid") : style.green("valid");
  return fmt::format("{}: {} ({}, {}, {})\n", file, verdict, part(errors, "error"), part(warnings, "warning"),
                     part(notes, "note"));
}

// The active model's directory; where it is not on this machine a note is added instead. A name that no model
// can have is an error, as it is where the model is needed.
std::string find_model(const config::Config& loaded, const Globals& globals, std::vector<Finding>& findings) {
  const config::ModelEntry& entry = loaded.active();
  try {
    return model_directory(entry, globals);
  } catch (const Error& error) {
    const bool wrong = error.kind == ErrorKind::config;
    const bool of_revision = error.path == "revision" && entry.revision;
    Finding finding;
    finding.code = error.code;
    finding.severity = wrong ? Severity::error : Severity::note;
    finding.path = "generator.models." + entry.name + (of_revision ? ".revision" : ".model_id");
    finding.origin = of_revision ? entry.revision->origin : entry.model_id.origin;
    finding.message = error.message;
    finding.found = error.found;
    finding.expected = error.expected;
    finding.why = wrong ? "no hub can know it and no directory here has this name: every command that needs "
                          "the model refuses it"
                        : "run and plan need the model's files; check does not";
    finding.fix = error.help;
    findings.push_back(std::move(finding));
    return "";
  }
}

std::string value_text(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string explanation_text(const config::Explanation& explanation, const std::string& overruled,
                             const Style& style) {
  const std::string source =
      overruled.empty() ? explanation.source : fmt::format("{}: {} wins", explanation.source, overruled);
  std::string out = fmt::format("{} = {}  ({})\n", style.bold(explanation.key), value_text(explanation.value),
                                style.green(source));
  for (const config::Candidate& candidate : explanation.candidates)
    out += fmt::format("  {} {:<18} {}\n", candidate.source == explanation.source ? style.green("*") : " ",
                       candidate.source, value_text(candidate.value));
  return out;
}

void explanation_json(const config::Explanation& explanation, const std::string& overruled,
                      OrderedJson& out) {
  out["key"] = explanation.key;
  out["value"] = explanation.value;
  out["source"] = explanation.source;
  if (!overruled.empty()) out["overruled_by"] = overruled;
  out["candidates"] = OrderedJson::array();
  for (const config::Candidate& candidate : explanation.candidates)
    out["candidates"].push_back({{"source", candidate.source}, {"value", candidate.value}});
}

int check(const Globals& globals, const std::optional<std::string>& key) {
  const config::LoadRequest request = load_request(globals, "check");
  std::vector<Finding> findings = config::check(request);
  std::optional<config::Explanation> explanation;
  std::string overruled;
  if (count(findings, Severity::error) == 0) {
    const config::Config loaded = config::load(request);
    const std::string directory = find_model(loaded, globals, findings);
    if (key) {
      const config::CheckpointFacts facts =
          directory.empty() ? config::CheckpointFacts() : runtime::checkpoint_facts(directory);
      explanation = config::explain(loaded, *key, facts);
      overruled = config::overruled_by(loaded, *key, facts);
    }
  }
  const bool ok = count(findings, Severity::error) == 0;
  if (globals.json) {
    OrderedJson out;
    out["ok"] = ok;
    out["findings"] = OrderedJson::array();
    for (const Finding& finding : findings) out["findings"].push_back(finding_json(finding));
    if (explanation) explanation_json(*explanation, overruled, out);
    print_json(out);
  } else {
    const Style style = stdout_style(globals);
    std::string out;
    if (explanation) {
      out = explanation_text(*explanation, overruled, style);
    } else {
      for (const Severity severity : {Severity::error, Severity::warning, Severity::note})
        for (const Finding& finding : findings)
          if (finding.severity == severity && !(globals.quiet && severity == Severity::note))
            out += finding_text(finding, style);
      out += summary_text(findings, globals.config, style);
    }
    print(out);
  }
  return ok ? 0 : exit_code(ErrorKind::config);
}

}  // namespace

void add_check(Invocation& invocation) {
  Command command(invocation, "check", kConfigGroup,
                  "Find errors and contradictions in a config, with reasons",
                  "  rhapsode check -c rag.yaml\n"
                  "  rhapsode check -c rag.yaml --explain temperature     which source gives the value");
  const auto key = std::make_shared<std::optional<std::string>>();
  command.option("--explain", *key, "KEY", "show which source gives KEY its value, and what the others say");
  command.action([&invocation, key] { return check(invocation.globals, *key); });
}

}  // namespace rhapsode::cli
