#include "cli/model_source.h"

#include <fmt/format.h>

#include "cli/environment.h"
#include "cli/model_fetch.h"
#include "cli/progress.h"
#include "cli/terminal.h"

namespace rhapsode::cli {

runtime::Assembly open_model(const Globals& globals, const std::string& command, TextNeed need, Fetch fetch) {
  std::unique_ptr<HeaderDirectory> headers;  // gone when everything is read
  runtime::Settings settings;
  settings.config = load_request(globals, command);
  settings.hub = hub_settings(globals);
  settings.find_model = [&](const config::ModelEntry& entry) {
    if (fetch == Fetch::everything || is_on_this_machine(entry, settings.hub))
      return fetched_model(entry, settings.hub, globals);
    headers = std::make_unique<HeaderDirectory>();
    return headers->fill(entry, settings.hub, globals);
  };
  settings.threads = threads_of(globals);
  settings.isa = globals.isa;
  settings.machine = machine_of(globals);
  settings.packed_cache = [&](const config::ModelEntry& entry) { return packed_cache_of(globals, &entry); };
  settings.access_file = access_file();
  settings.tokenizer = need != TextNeed::none;
  runtime::Assembly assembly = runtime::assemble(settings);
  if (need == TextNeed::required && assembly.unread_text_bytes > 0)
    plan::require_fit(runtime::make_plan(assembly));
  if (need == TextNeed::required && !assembly.tokenizer)
    throw Error(ErrorKind::not_found, "no-tokenizer", "the checkpoint has no tokenizer")
        .in(assembly.directory)
        .saw("no tokenizer.json")
        .hint("run --ids takes token ids and needs none");
  if (globals.verbose)
    say(fmt::format("{}: {} in {}, {} kernels, {} threads\n", assembly.config.active_model,
                    assembly.architecture.spec.model_type, assembly.directory, assembly.kernels->name,
                    assembly.threads));
  return assembly;
}

runtime::Session load_model(const Globals& globals, const runtime::Assembly& assembly, const plan::Plan& plan,
                            uint64_t sequences) {
  if (globals.verbose)
    say(fmt::format("plan: {} for {} tokens of context\n", bytes_text(plan_bytes(plan)),
                    plan.limits.context_tokens));
  Progress progress("loading", Progress::Unit::bytes, globals);
  return runtime::Session(assembly, plan, sequences,
                          [&](uint64_t done, uint64_t total) { progress.update(done, total); });
}

uint64_t plan_bytes(const plan::Plan& plan) {
  return plan::total_bytes(plan);
}

OrderedJson memory_json(const runtime::Session& session) {
  OrderedJson out;
  out["plan_bytes"] = plan_bytes(session.plan());
  out["peak_rss_bytes"] = devices::peak_resident_bytes();
  out["devices"] = OrderedJson::array();
  for (const auto& device : session.devices())
    out["devices"].push_back({{"name", device->name()},
                              {"limit_bytes", device->limit_bytes()},
                              {"peak_bytes", device->peak_bytes()}});
  return out;
}

}  // namespace rhapsode::cli
