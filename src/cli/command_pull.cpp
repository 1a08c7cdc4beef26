// `pull`: a model of the hub into the cache.
#include <fmt/format.h>

#include "cli/environment.h"
#include "cli/invocation.h"
#include "cli/model_fetch.h"
#include "cli/terminal.h"

namespace rhapsode::cli {
namespace {

struct PullOptions {
  std::string id;
  std::optional<std::string> revision;
  bool verify = false;
};

const char* source_name(hub::Source source) {
  switch (source) {
    case hub::Source::cache:
      return "cache";
    case hub::Source::hub:
      return "hub";
    case hub::Source::resumed:
      return "resumed";
  }
  return "";
}

OrderedJson pulled_json(const std::string& id, const hub::Pulled& pulled) {
  OrderedJson out;
  out["id"] = id;
  out["commit"] = pulled.commit;
  out["path"] = pulled.directory;
  out["files"] = OrderedJson::array();
  for (const hub::PulledFile& file : pulled.files)
    out["files"].push_back({{"name", file.name},
                            {"bytes", file.bytes},
                            {"sha256", file.sha256},
                            {"source", source_name(file.source)}});
  out["bytes_downloaded"] = pulled.bytes_downloaded;
  return out;
}

int pull(const Globals& globals, const PullOptions& options) {
  const hub::PullRequest request{options.id, options.revision.value_or("main"), options.verify};
  const hub::Pulled pulled = pull_model(request, hub_settings(globals), globals);
  if (globals.json) {
    print_json(pulled_json(options.id, pulled));
    return 0;
  }
  uint64_t total = 0;
  for (const hub::PulledFile& file : pulled.files) {
    total += file.bytes;
    if (globals.verbose)
      say(fmt::format("  {:<8} {:>10}  {}\n", source_name(file.source), short_bytes(file.bytes), file.name));
  }
  print(pulled.directory + "\n");
  if (!globals.quiet)
    say(fmt::format("{} at {}: {} files, {}; {} came from the hub\n", options.id, pulled.commit.substr(0, 12),
                    pulled.files.size(), bytes_text(total), bytes_text(pulled.bytes_downloaded)));
  return 0;
}

}  // namespace

void add_pull(Invocation& invocation) {
  Command command(invocation, "pull", kHubGroup, "Fetch a model into the Hugging Face cache",
                  "  rhapsode pull microsoft/phi-2\n"
                  "  rhapsode pull org/name --revision v1.0 --json\n"
                  "  rhapsode pull org/name --verify          hash again what is there");
  const auto options = std::make_shared<PullOptions>();
  command.argument("ID", options->id, "the model's id on the hub, organization/name");
  command.option("--revision", options->revision, "R", "branch, tag or commit (default: main)");
  command.flag("--verify", options->verify, "hash the files of the cache again, fetch the damaged ones");
  command.action([&invocation, options] { return pull(invocation.globals, *options); });
}

}  // namespace rhapsode::cli
