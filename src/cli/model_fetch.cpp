#include "cli/model_fetch.h"

#include <fmt/format.h>
#include <unistd.h>

#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "hub/hub.h"
#include "runtime/assembly.h"

namespace rhapsode::cli {
namespace {

hub::PullHooks hooks_of(Progress& progress, const Globals& globals) {
  hub::PullHooks hooks;
  hooks.progress = [&progress](uint64_t done, uint64_t total) { progress.update(done, total); };
  if (!globals.quiet) hooks.note = [](const std::string& text) { say(fmt::format("note: {}\n", text)); };
  return hooks;
}

}  // namespace

std::string revision_of(const config::ModelEntry& entry) {
  return entry.revision ? entry.revision->value : "main";
}

bool model_files_are_here(const config::ModelEntry& entry, const hub::HubSettings& settings) {
  const std::string& id = entry.model_id.value;
  std::error_code code;
  if (hub::is_local(id)) return std::filesystem::exists(std::filesystem::path(id) / "config.json", code);
  return hub::is_whole(id, revision_of(entry), settings);
}

bool is_on_this_machine(const config::ModelEntry& entry, const hub::HubSettings& settings) {
  const std::string& id = entry.model_id.value;
  hub::check_model_name(id, revision_of(entry));
  if (settings.offline || hub::is_local(id)) return true;
  try {
    return hub::is_whole(id, revision_of(entry), settings);
  } catch (const Error& error) {
    if (error.kind == ErrorKind::integrity) return true;  // the reader of the snapshot says what is wrong
    throw;
  }
}

std::string fetched_model(const config::ModelEntry& entry, const hub::HubSettings& settings,
                          const Globals& globals) {
  const std::string& id = entry.model_id.value;
  if (is_on_this_machine(entry, settings)) return hub::resolve_model(id, revision_of(entry), settings);
  if (!globals.quiet)
    say(fmt::format("{} is not on this machine: fetching it from {}\n", id, settings.endpoint));
  const CancelScope scope;
  Progress progress("fetching", Progress::Unit::bytes, globals);
  hub::PullHooks hooks = hooks_of(progress, globals);
  hooks.before_weights = runtime::require_supported;
  return hub::pull({id, revision_of(entry)}, settings, hooks).directory;
}

std::string fetched_text(const config::ModelEntry& entry, const hub::HubSettings& settings,
                         const Globals& globals) {
  const std::string& id = entry.model_id.value;
  const std::string revision = revision_of(entry);
  if (is_on_this_machine(entry, settings) || hub::has_text(id, revision, settings))
    return hub::resolve_model(id, revision, settings);
  if (!globals.quiet) say(fmt::format("fetching the tokenizer of {} from {}\n", id, settings.endpoint));
  const CancelScope scope;
  Progress progress("fetching", Progress::Unit::bytes, globals);
  return hub::pull_text({id, revision}, settings, hooks_of(progress, globals)).directory;
}

hub::Pulled pull_model(const hub::PullRequest& request, const hub::HubSettings& settings,
                       const Globals& globals) {
  const CancelScope scope;
  Progress progress(request.id, Progress::Unit::bytes, globals);
  return hub::pull(request, settings, hooks_of(progress, globals));
}

HeaderDirectory::HeaderDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "rhapsode-headers-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr)
    throw Error(ErrorKind::runtime, "cannot-create", "a temporary directory cannot be made")
        .in(name)
        .hint("set TMPDIR to a directory that you may write to");
  path_ = name;
}

HeaderDirectory::~HeaderDirectory() {
  std::error_code code;
  std::filesystem::remove_all(path_, code);
}

std::string HeaderDirectory::fill(const config::ModelEntry& entry, const hub::HubSettings& settings,
                                  const Globals& globals) {
  const CancelScope scope;
  hub::PullHooks hooks;
  hooks.progress = [](uint64_t, uint64_t) {
    if (interrupted()) throw Interrupted{};
  };
  if (!globals.quiet) hooks.note = [](const std::string& text) { say(fmt::format("note: {}\n", text)); };
  hooks.before_weights = runtime::require_supported;
  const uint64_t bytes =
      hub::fetch_headers({entry.model_id.value, revision_of(entry)}, settings, hooks, path_.string());
  if (!globals.quiet)
    say(fmt::format("read the headers of {} from {}: {}\n", entry.model_id.value, settings.endpoint,
                    bytes_text(bytes)));
  return path_.string();
}

}  // namespace rhapsode::cli
