// `parity`: does this model give what transformers gave?
#include <fmt/format.h>

#include "cli/invocation.h"
#include "cli/model_source.h"
#include "cli/numbers.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "runtime/parity.h"

namespace rhapsode::cli {
namespace {

struct ParityOptions {
  std::optional<std::string> against;
};

OrderedJson difference_json(const runtime::ParityDifference& difference) {
  OrderedJson out = {{"step", difference.step},
                     {"expected", difference.expected},
                     {"found", difference.found},
                     {"gap", difference.gap}};
  out["layer"] = difference.layer ? OrderedJson(*difference.layer) : OrderedJson(nullptr);
  return out;
}

void print_parity(const runtime::ParityResult& result) {
  if (result.equal)
    print(fmt::format("equal: {} of {} ids\n", result.steps, result.steps));
  else if (const runtime::ParityDifference& d = *result.first_difference; true)
    print(fmt::format("differs at step {} of {}: expected {}, found {}, {:.6g} apart{}\n", d.step,
                      result.steps, d.expected, d.found, d.gap,
                      d.layer ? fmt::format(", hidden states split at layer {}", *d.layer) : ""));
  if (result.equal && result.layer) print(fmt::format("hidden states split at layer {}\n", *result.layer));
  print(fmt::format("largest logit error {:.6g}, the dtype's noise {:.6g}: {}\n", result.largest_logit_error,
                    result.noise, result.within_noise ? "within it" : "beyond it"));
}

int parity(const Globals& globals, const ParityOptions& options) {
  if (!options.against)
    throw Error(ErrorKind::usage, "missing-option", "parity needs a trace").want("--against TRACE.json");
  const CancelScope scope;
  const runtime::Assembly assembly = open_model(globals, "parity", TextNeed::none);
  const runtime::Trace trace = runtime::read_trace(*options.against, assembly.architecture.spec.vocab_size);
  const plan::Plan plan = runtime::make_plan(assembly, trace.prompt_ids.size() + trace.output_ids.size());
  runtime::Session session = load_model(globals, assembly, plan, 1);
  const runtime::ParityResult result = runtime::compare_with_trace(session, trace);
  if (globals.json) {
    OrderedJson out;
    out["equal"] = result.equal;
    out["steps"] = result.steps;
    out["first_difference"] =
        result.first_difference ? difference_json(*result.first_difference) : OrderedJson(nullptr);
    out["layer"] = result.layer ? OrderedJson(*result.layer) : OrderedJson(nullptr);
    out["within_noise"] = result.within_noise;
    out["largest_logit_error"] = result.largest_logit_error;
    out["noise"] = result.noise;
    print_json(out);
  } else {
    print_parity(result);
  }
  return result.within_noise ? 0 : 1;
}

}  // namespace

void add_parity(Invocation& invocation) {
  Command command(invocation, "parity", kModelGroup, "Compare with a trace of transformers",
                  "  rhapsode parity -c rag.yaml --against trace.json");
  const auto options = std::make_shared<ParityOptions>();
  command.option("--against", options->against, "TRACE",
                 "a greedy trace: of tools/export_trace.py, or of run --json --trace N");
  command.action([&invocation, options] { return parity(invocation.globals, *options); });
}

}  // namespace rhapsode::cli
