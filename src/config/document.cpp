// Owns the whole file: its two outer levels, the command line's overrides, and the two answers (all findings,
// or the typed Config). Refuses to know the keys of a model.
#include <fmt/format.h>

#include <algorithm>

#include "base/input_file.h"
#include "config/entry.h"
#include "config/nearest.h"
#include "config/scalar.h"
#include "config/sets.h"
#include "config/table.h"

namespace rhapsode::config {
namespace {

constexpr uint64_t kReadBytes = (1 << 20) + 1;  // one more than a file may have: the parser then refuses it

std::string read_start(const std::string& file) {
  const InputFile input(file);
  std::string text(std::min(input.size_bytes(), kReadBytes), '\0');
  input.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

class DocumentReader {
 public:
  DocumentReader(const LoadRequest& request, Report& report) : request_(request), report_(report) {}
  Config read(std::string_view text);

 private:
  void root(const Node& node);
  void generator(const Node& node);
  void models(const Node& node);
  void active(const Node* node, const Node& generator);
  void replaced(const AppliedSets& sets);
  bool expect_mapping(const Node& node, const std::string& path, const char* what);
  void unknown_keys(const Node& node, const std::string& path, const std::vector<std::string>& known);
  void missing(const Node& node, const std::string& path, const std::string& key, const char* fix);

  const LoadRequest& request_;
  Report& report_;
  Config config_;
};

bool DocumentReader::expect_mapping(const Node& node, const std::string& path, const char* what) {
  if (node.is_mapping()) return true;
  Finding& f = report_.error("wrong-type", node.place, path, fmt::format("{} must be a mapping", what));
  f.found = describe(node);
  f.expected = "a mapping";
  f.fix = "write its keys below it, indented by spaces";
  return false;
}

void DocumentReader::unknown_keys(const Node& node, const std::string& path,
                                  const std::vector<std::string>& known) {
  for (const auto& [name, value] : node.members) {
    if (std::find(known.begin(), known.end(), name->text) != known.end()) continue;
    const bool of_entry = find_entry_key(name->text) != nullptr;
    const bool of_generator = name->text == "active_model" || name->text == "models";
    const char* hint = of_entry ? "it belongs in a model entry: generator: models: NAME: …"
                       : of_generator && path.empty() ? "it belongs under generator:"
                                                      : "";
    report_unknown_key(*name, path.empty() ? name->text : path + "." + name->text, known, hint, report_);
  }
}

void DocumentReader::missing(const Node& node, const std::string& path, const std::string& key,
                             const char* fix) {
  // A misspelled key has been reported already; saying that the right one is missing would say it twice.
  for (const auto& m : node.members)
    if (nearest(m.first->text, {key}) == key) return;
  const std::string where = path.empty() ? "the file" : "`" + path + "`";
  Finding& f = report_.error("missing-key", node.place, path, fmt::format("{} has no `{}`", where, key));
  f.expected = key;
  f.fix = fix;
}

void DocumentReader::root(const Node& node) {
  if (!expect_mapping(node, "", "the file")) return;
  unknown_keys(node, "", {"generator"});
  if (const Node* section = node.find("generator"))
    generator(*section);
  else
    missing(node, "", "generator", "write generator: with active_model and models below it");
}

void DocumentReader::generator(const Node& node) {
  if (!expect_mapping(node, "generator", "`generator`")) return;
  unknown_keys(node, "generator", {"active_model", "models"});
  if (const Node* section = node.find("models"))
    models(*section);
  else
    missing(node, "generator", "models", "write models: with one entry for each model below it");
  active(node.find("active_model"), node);
}

void DocumentReader::models(const Node& node) {
  if (!expect_mapping(node, "generator.models", "`models`")) return;
  if (node.members.empty()) {
    Finding& f = report_.error("no-models", node.place, "generator.models", "`models` has no entry");
    f.fix = "write one entry for each model: a name, and its keys below it";
  }
  for (const auto& [name, value] : node.members) {
    const Scalar scalar = resolve(*name);
    if (scalar.kind != Scalar::Kind::text || name->text.empty()) {
      const bool ambiguous = scalar.kind == Scalar::Kind::ambiguous;
      Finding& f = report_.error(ambiguous ? "yaml-ambiguous" : "wrong-type", name->place, "generator.models",
                                 ambiguous ? scalar.reading : "the name of a model must be text");
      f.found = describe(*name);
      f.expected = "a name";
      f.fix = "put the name in quotes";
      continue;
    }
    const ReadEntry read = read_entry(*name, *value, report_);
    apply_rules(read, report_);
    config_.models.emplace(read.entry.name, read.entry);
  }
}

void DocumentReader::active(const Node* node, const Node& generator) {
  std::vector<std::string> names;
  if (const Node* models = generator.find("models"))
    for (const auto& [name, value] : models->members) names.push_back(name->text);
  const auto unknown = [&](const std::string& name, Finding& f) {
    const std::string near = nearest(name, names);
    f.found = name;
    f.expected = names.empty() ? "a model of `models`" : fmt::format("one of: {}", fmt::join(names, ", "));
    f.fix = near.empty() ? "name a model of `models`" : fmt::format("did you mean \"{}\"?", near);
  };
  const auto known = [&](const std::string& name) {
    return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
  };
  if (node != nullptr) {
    if (!node->is_scalar() || resolve(*node).kind != Scalar::Kind::text) {
      const Scalar scalar = resolve(*node);
      const bool ambiguous = scalar.kind == Scalar::Kind::ambiguous;
      const bool empty = node->is_scalar() && scalar.kind == Scalar::Kind::empty;
      Finding& f = report_.error(ambiguous ? "yaml-ambiguous"
                                 : empty   ? "empty-value"
                                           : "wrong-type",
                                 node->place, "generator.active_model",
                                 ambiguous ? scalar.reading : "`active_model` must be the name of a model");
      unknown(describe(*node), f);
      f.fix = "write a name, in quotes";
    } else if (!known(node->text)) {
      unknown(node->text, report_.error("unknown-model", node->place, "generator.active_model",
                                        fmt::format("there is no model `{}`", node->text)));
    }
    config_.active_model = node->text;
  } else if (request_.model.empty()) {
    missing(generator, "generator", "active_model", "add active_model: with the name of a model");
  }
  if (request_.model.empty()) return;
  config_.active_model = request_.model;
  if (!known(request_.model))
    unknown(request_.model, report_.error("unknown-model", generator.place, "generator.models",
                                          fmt::format("--model {}: there is no such model", request_.model)));
}

// What the file had said for keys that a --set replaced: only explain wants to know, so bad values are passed
// over.
void DocumentReader::replaced(const AppliedSets& sets) {
  const std::string prefix = config_.active_model + ".";
  for (const auto& [path, node] : sets.replaced) {
    if (!path.starts_with(prefix)) continue;
    const std::string name = path.substr(prefix.size());
    Report ignored(request_.file, request_.sets);
    ReadEntry scratch;
    read_key(name, *node, scratch, ignored);
    const Key* key = find_entry_key(name);
    if (key != nullptr && !ignored.has_errors()) config_.replaced[name] = slot_value(scratch.entry, *key);
  }
}

Config DocumentReader::read(std::string_view text) {
  config_.file = request_.file;
  const NodePtr tree = parse_yaml(text, -1, report_);
  if (tree == nullptr) return config_;
  AppliedSets sets{tree, {}, {}};
  if (tree->is_mapping()) sets = apply_sets(tree, request_.sets, request_.model, report_);
  root(*sets.root);
  config_.sets = std::move(sets.pairs);
  replaced(sets);
  return config_;
}

}  // namespace

std::vector<Finding> check_text(std::string_view text, const LoadRequest& request) {
  Report report(request.file, request.sets);
  DocumentReader(request, report).read(text);
  return report.take();
}

Config load_text(std::string_view text, const LoadRequest& request) {
  Report report(request.file, request.sets);
  Config config = DocumentReader(request, report).read(text);
  for (const Finding& finding : report.take())
    if (finding.severity == Severity::error) throw to_error(finding);
  return config;
}

std::vector<Finding> check(const LoadRequest& request) {
  return check_text(read_start(request.file), request);
}
Config load(const LoadRequest& request) {
  return load_text(read_start(request.file), request);
}

}  // namespace rhapsode::config
