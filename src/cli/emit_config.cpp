#include "cli/emit_config.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/environment.h"
#include "cli/yaml_edit.h"

namespace rhapsode::cli {
namespace {

// Segments as --set has them: dots, or slashes where there is one; a leading slash starts at the root.
std::vector<std::string> path_segments(const std::string& path, const std::vector<std::string>& entry) {
  const bool slashes = path.find('/') != std::string::npos;
  const bool from_root = path.starts_with('/');
  std::vector<std::string> out = from_root ? std::vector<std::string>{} : entry;
  for (size_t begin = from_root ? 1 : 0; begin <= path.size();) {
    const size_t end = std::min(path.find(slashes ? '/' : '.', begin), path.size());
    out.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

std::string other_spelling(const std::string& key) {
  for (const auto& [a, b] : {std::pair{"torch_dtype", "dtype"}, std::pair{"max_new_tokens", "max_tokens"}}) {
    if (key == a) return b;
    if (key == b) return a;
  }
  return "";
}

const plan::Change* first_fitting(const plan::Plan& plan) {
  const auto change =
      std::find_if(plan.changes.begin(), plan.changes.end(), [](const plan::Change& c) { return c.fits; });
  return change == plan.changes.end() ? nullptr : &*change;
}

std::vector<std::string> wanted_sets(const plan::Plan& plan) {
  if (!plan.fits) return first_fitting(plan)->set;
  return {fmt::format("torch_dtype={}", torch_name(plan.dtype)),
          fmt::format("max_context={}", plan.limits.context_tokens)};
}

std::optional<uint64_t> process_bytes(const plan::Plan& plan) {
  for (const plan::DevicePlan& device : plan.devices)
    if (device.process_bytes > 0) return device.process_bytes - plan.choice_bytes;
  return std::nullopt;
}

}  // namespace

Error cannot_edit(const std::string& file) {
  return Error(ErrorKind::config, "cannot-edit", "the file's layout does not allow to change it safely")
      .in(file)
      .hint("write the model entry with one key a line, or give the changes with --set");
}

bool can_be_made_to_fit(const plan::Plan& plan) {
  return plan.fits || first_fitting(plan) != nullptr;
}

std::string config_with(const Globals& globals, runtime::Assembly& assembly,
                        const std::vector<std::string>& more_sets) {
  const config::Config& config = assembly.config;
  const std::vector<std::string> entry = {"generator", "models", config.active_model};
  std::vector<YamlEdit> edits;
  if (!globals.model.empty()) edits.push_back({{"generator", "active_model"}, globals.model, ""});
  std::vector<std::string> sets = globals.sets;
  sets.insert(sets.end(), more_sets.begin(), more_sets.end());
  for (const std::string& set : sets) {
    const size_t equals = set.find('=');
    std::vector<std::string> path = path_segments(set.substr(0, equals), entry);
    const std::string other = other_spelling(path.back());
    edits.push_back({std::move(path), set.substr(equals + 1), other});
  }
  std::string text = edit_yaml(read_file(config.file), edits, config.file);
  const std::string file = config.file;
  assembly.config = config::load_text(text, {file, "", {}});
  if (assembly.config.active_model != entry.back()) throw cannot_edit(file);
  return text;
}

std::string fitting_config(const Globals& globals, runtime::Assembly& assembly, const plan::Plan& plan,
                           const runtime::RequestSize& size) {
  std::string text = config_with(globals, assembly, wanted_sets(plan));
  const plan::Plan proof = runtime::make_plan(assembly, std::nullopt, size.sequences, size.logits_rows,
                                              process_bytes(plan), size.choice_bytes);
  if (!proof.fits) throw cannot_edit(assembly.config.file);
  return text;
}

}  // namespace rhapsode::cli
