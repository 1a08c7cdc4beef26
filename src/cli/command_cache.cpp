// `cache`: what the Hugging Face cache holds, whether it is right, and how it gets smaller.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "cli/environment.h"
#include "cli/invocation.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "hub/upkeep.h"
#include "runtime/packed.h"

namespace rhapsode::cli {
namespace {

struct CacheOptions {
  std::string action;
  std::optional<std::string> id;
  std::optional<std::string> revision;
  bool dry_run = false;
  bool packed = false;
};

// Where packed caches are, whether they are switched on or not.
std::string packed_directory(const Globals& globals) {
  const std::string given = packed_cache_of(globals, nullptr);
  return given.empty() ? default_packed_cache() : given;
}

OrderedJson listing_json(const std::string& cache, const std::vector<hub::KeptModel>& models,
                         const std::string& packed_at, const std::vector<runtime::PackedEntry>& packed) {
  OrderedJson out{{"cache", cache}, {"models", OrderedJson::array()}, {"total_bytes", 0}};
  uint64_t total = 0;
  for (const hub::KeptModel& model : models) {
    OrderedJson revisions = OrderedJson::array();
    for (const hub::KeptRevision& revision : model.revisions)
      revisions.push_back({{"commit", revision.commit},
                           {"refs", revision.refs},
                           {"files", revision.files},
                           {"bytes", revision.bytes},
                           {"whole", revision.whole}});
    out["models"].push_back({{"id", model.id},
                             {"path", model.directory},
                             {"bytes", model.bytes},
                             {"partial_bytes", model.partial_bytes},
                             {"revisions", revisions}});
    total += model.bytes;
  }
  out["total_bytes"] = total;
  out["packed_cache"] = packed_at;
  out["packed"] = OrderedJson::array();
  for (const runtime::PackedEntry& entry : packed)
    out["packed"].push_back({{"path", entry.path},
                             {"source", entry.source},
                             {"bytes", entry.bytes},
                             {"current", entry.current},
                             {"in_use", entry.in_use}});
  return out;
}

int list(const Globals& globals, const hub::HubSettings& settings) {
  const std::vector<hub::KeptModel> models = hub::kept_models(settings);
  const std::string packed_at = packed_directory(globals);
  const std::vector<runtime::PackedEntry> packed = runtime::packed_entries(packed_at);
  if (globals.json) return print_json(listing_json(settings.cache_directory, models, packed_at, packed)), 0;
  const Style style = stdout_style(globals);
  std::string text;
  uint64_t total = 0;
  for (const hub::KeptModel& model : models) {
    total += model.bytes;
    text += fmt::format("{:>10}  {}\n", short_bytes(model.bytes), style.bold(model.id));
    for (const hub::KeptRevision& revision : model.revisions)
      text += fmt::format(
          "{:>10}    {}  {}{}\n", short_bytes(revision.bytes), revision.commit.substr(0, 12),
          revision.refs.empty() ? "(no branch or tag)" : fmt::format("{}", fmt::join(revision.refs, ", ")),
          revision.whole ? "" : style.yellow("  not whole"));
    if (model.partial_bytes > 0)
      text +=
          fmt::format("{:>10}    {}\n", short_bytes(model.partial_bytes), "of downloads that have not ended");
  }
  std::error_code code;
  text += fmt::format("{:>10}  in {} models in {}{}\n", short_bytes(total), models.size(),
                      settings.cache_directory,
                      std::filesystem::exists(settings.cache_directory, code) ? "" : " (not there yet)");
  for (const runtime::PackedEntry& entry : packed)
    text += fmt::format("{:>10}  packed: {}{}\n", short_bytes(entry.bytes),
                        entry.source.empty() ? entry.path : entry.source,
                        entry.in_use    ? "  being written"
                        : entry.current ? ""
                                        : style.yellow("  of no use any more"));
  print(text);
  return 0;
}

const char* state_name(hub::FileState state) {
  switch (state) {
    case hub::FileState::right:
      return "right";
    case hub::FileState::damaged:
      return "damaged";
    case hub::FileState::gone:
      return "gone";
    case hub::FileState::unknown:
      return "unknown";
  }
  return "";
}

int verify(const Globals& globals, const hub::HubSettings& settings, const CacheOptions& options) {
  const CancelScope scope;
  std::vector<hub::CheckedFile> files;
  {
    Progress progress("verifying", Progress::Unit::bytes, globals);
    files = hub::verify_cache(settings, options.id.value_or(""),
                              [&](uint64_t done, uint64_t total) { progress.update(done, total); });
  }
  const auto count = [&](hub::FileState state) {
    return std::count_if(files.begin(), files.end(),
                         [&](const hub::CheckedFile& f) { return f.state == state; });
  };
  const bool ok = count(hub::FileState::damaged) + count(hub::FileState::gone) == 0;
  const Style style = stdout_style(globals);
  OrderedJson out{{"ok", ok}, {"files", OrderedJson::array()}};
  std::string text;
  for (const hub::CheckedFile& file : files) {
    out["files"].push_back({{"id", file.id},
                            {"commit", file.commit},
                            {"name", file.name},
                            {"bytes", file.bytes},
                            {"state", state_name(file.state)},
                            {"expected", file.expected},
                            {"found", file.found}});
    if (file.state == hub::FileState::damaged || file.state == hub::FileState::gone)
      text += fmt::format("{} {} {}: {}\n", style.red(state_name(file.state)), file.id,
                          file.commit.substr(0, 12), file.name);
  }
  if (globals.json) {
    print_json(out);
  } else {
    print(text + fmt::format("{} files: {} right, {} damaged, {} gone, {} of unknown hash\n", files.size(),
                             count(hub::FileState::right), count(hub::FileState::damaged),
                             count(hub::FileState::gone), count(hub::FileState::unknown)));
    if (!ok) say("rhapsode pull ID --verify fetches them again\n");
  }
  return ok ? 0 : exit_code(ErrorKind::integrity);
}

// What the packed caches add to it.
hub::Removed with_packed(const Globals& globals, hub::Removed removed, bool stale_only, bool dry_run) {
  const runtime::PackedRemoved packed =
      runtime::remove_packed(packed_directory(globals), stale_only, dry_run);
  removed.paths.insert(removed.paths.end(), packed.paths.begin(), packed.paths.end());
  removed.bytes += packed.bytes;
  return removed;
}

int report_removed(const Globals& globals, const hub::Removed& removed, bool dry_run) {
  if (globals.json) {
    print_json({{"removed", removed.paths}, {"bytes", removed.bytes}, {"dry_run", dry_run}});
    return 0;
  }
  if (globals.verbose || dry_run)
    for (const std::string& path : removed.paths) print(path + "\n");
  print(fmt::format("{} {} in {} places\n", dry_run ? "would free" : "freed", bytes_text(removed.bytes),
                    removed.paths.size()));
  return 0;
}

int cache(const Globals& globals, const CacheOptions& options) {
  const hub::HubSettings settings = hub_settings(globals);
  const auto usage = [&](const char* code, const char* message, const char* want) {
    return Error(ErrorKind::usage, code, message).want(want).hint("rhapsode cache --help");
  };
  if ((options.action == "ls" || options.action == "prune") && options.id)
    throw usage("unexpected-argument", "this action takes no model", "cache ls, cache prune")
        .saw(excerpt(*options.id));
  if (options.revision && options.action != "rm")
    throw usage("unexpected-option", "only rm takes --revision", "cache rm ID --revision R");
  if (options.dry_run && options.action != "prune")
    throw usage("unexpected-option", "only prune takes --dry-run", "cache prune --dry-run");
  if (options.packed && (options.action != "rm" || options.id))
    throw usage("unexpected-option", "only rm without a model takes --packed", "cache rm --packed");
  if (options.action == "ls") return list(globals, settings);
  if (options.action == "verify") return verify(globals, settings, options);
  if (options.action == "prune")
    return report_removed(
        globals, with_packed(globals, hub::prune_cache(settings, options.dry_run), true, options.dry_run),
        options.dry_run);
  if (options.action == "rm" && options.packed)
    return report_removed(globals, with_packed(globals, {}, false, false), false);
  if (options.action == "rm") {
    if (!options.id) throw usage("missing-argument", "rm needs a model", "cache rm ID");
    return report_removed(globals, hub::remove_model(settings, *options.id, options.revision.value_or("")),
                          false);
  }
  throw usage("unknown-action", "the cache has no such action", "ls, rm, verify or prune")
      .saw(excerpt(options.action));
}

}  // namespace

void add_cache(Invocation& invocation) {
  Command command(invocation, "cache", kHubGroup, "List, check and shrink the Hugging Face cache",
                  "  rhapsode cache ls\n"
                  "  rhapsode cache verify org/name           hash every file\n"
                  "  rhapsode cache rm org/name --revision v1.0\n"
                  "  rhapsode cache prune --dry-run           what no branch or tag needs");
  const auto options = std::make_shared<CacheOptions>();
  command.argument("ACTION", options->action, "ls, rm, verify or prune");
  command.optional_argument("ID", options->id, "a model (rm: needed; verify: all without it)");
  command.option("--revision", options->revision, "R", "rm: this branch, tag or commit alone");
  command.flag("--packed", options->packed, "rm: all packed caches (see --packed-cache) instead of a model");
  command.flag("--dry-run", options->dry_run, "prune: only say what would go");
  command.action([&invocation, options] { return cache(invocation.globals, *options); });
}

}  // namespace rhapsode::cli
