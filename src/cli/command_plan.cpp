// `plan`: what a model will need and where it will live, before anything is loaded.
#include <fmt/format.h>
#include <unistd.h>

#include "cli/emit_config.h"
#include "cli/environment.h"
#include "cli/invocation.h"
#include "cli/model_source.h"
#include "cli/plan_view.h"
#include "cli/terminal.h"
#include "runtime/generate.h"

namespace rhapsode::cli {
namespace {

int plan(const Globals& globals, const std::optional<std::string>& emit) {
  runtime::Assembly assembly = open_model(globals, "plan", TextNeed::where_present, Fetch::headers);
  const runtime::RequestSize size = runtime::typical_request_size(assembly);
  const plan::Plan plan = runtime::make_plan(assembly, std::nullopt, size.sequences, size.logits_rows,
                                             std::nullopt, size.choice_bytes);
  OrderedJson out;
  out["model"] = assembly.config.active_model;
  out["model_id"] = assembly.entry().model_id.value;
  out.update(plan_json(plan));
  std::string text;
  if (!globals.json) {
    const Style style = stdout_style(globals);
    text = style.bold(assembly.config.active_model) +
           fmt::format(": {}, {}\n", assembly.entry().model_id.value, assembly.architecture.spec.model_type);
    text += plan_text(plan, style, terminal_columns(STDOUT_FILENO));
  }
  if (emit && can_be_made_to_fit(plan)) {
    write_file_atomically(*emit, fitting_config(globals, assembly, plan, size));
    out["emitted"] = *emit;
    if (!globals.quiet) say(fmt::format("wrote {}\n", *emit));
  } else if (emit) {
    out["emitted"] = nullptr;
    say(fmt::format("{} is not written: no change is known that makes this config fit\n", *emit));
  }
  if (globals.json)
    print_json(out);
  else
    print(text);
  return plan.fits ? 0 : exit_code(ErrorKind::does_not_fit);
}

}  // namespace

void add_plan(Invocation& invocation) {
  Command command(invocation, "plan", kConfigGroup, "What fits where: bytes, devices, largest context",
                  "  rhapsode plan -c rag.yaml\n"
                  "  rhapsode plan -c rag.yaml --set max_context=8192 --json\n"
                  "  rhapsode plan -c rag.yaml --emit-config fitting.yaml");
  const auto emit = std::make_shared<std::optional<std::string>>();
  command.option("--emit-config", *emit, "FILE", "write the config with the changes that make it fit");
  command.action([&invocation, emit] { return plan(invocation.globals, *emit); });
}

}  // namespace rhapsode::cli
