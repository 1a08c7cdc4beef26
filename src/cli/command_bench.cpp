// `bench`: speed of a model as a share of what this machine can do.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "cli/bench_view.h"
#include "cli/environment.h"
#include "cli/invocation.h"
#include "cli/model_source.h"
#include "cli/numbers.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "runtime/bench.h"

namespace rhapsode::cli {
namespace {

struct BenchFlags {
  std::optional<std::string> what, prompt_tokens, new_tokens, rounds, sequences;
  bool explain = false, quick = false;
};

int bench_kernels(const Globals& globals, const BenchFlags& flags) {
  if (flags.prompt_tokens || flags.new_tokens || flags.sequences || flags.explain)
    throw Error(ErrorKind::usage, "contradicting-options",
                "`bench kernels` measures no model: --prompt-tokens, --new-tokens, --sequences and --explain "
                "are of `bench`");
  runtime::KernelBenchOptions options;
  options.isa = globals.isa;
  options.quick = flags.quick;
  options.threads = threads_of(globals);
  if (flags.rounds) options.rounds = static_cast<uint32_t>(read_integer("--rounds", *flags.rounds, 1, 1000));
  const runtime::KernelBench result = runtime::bench_kernels(options, [&](const runtime::KernelRow& row) {
    if (!globals.json) print(kernel_row_text(row));
  });
  if (globals.json)
    print_json(kernels_json(result));
  else
    print(kernels_head_text(result));
  return 0;
}

int bench(const Globals& globals, const BenchFlags& flags) {
  const CancelScope scope;
  if (flags.what && *flags.what != "kernels")
    throw Error(ErrorKind::usage, "unknown-bench", "this cannot be measured")
        .saw(*flags.what)
        .want("kernels");
  if (flags.what) return bench_kernels(globals, flags);
  if (flags.quick) throw Error(ErrorKind::usage, "contradicting-options", "--quick is of `bench kernels`");
  runtime::BenchOptions options;
  if (flags.prompt_tokens)
    options.prompt_tokens = read_integer("--prompt-tokens", *flags.prompt_tokens, 1, 1 << 20);
  if (flags.new_tokens) options.new_tokens = read_integer("--new-tokens", *flags.new_tokens, 1, 1 << 20);
  if (flags.rounds) options.rounds = static_cast<uint32_t>(read_integer("--rounds", *flags.rounds, 1, 1000));
  if (flags.sequences)
    options.sequences = static_cast<uint32_t>(read_integer("--sequences", *flags.sequences, 1, 64));
  const runtime::Assembly assembly = open_model(globals, "bench", TextNeed::none);
  const plan::Plan plan = runtime::make_plan(assembly, options.prompt_tokens + options.new_tokens,
                                             options.sequences, options.sequences);
  runtime::Session session = load_model(globals, assembly, plan, options.sequences);
  const runtime::BenchResult result = runtime::bench(session, options, [&](const std::string& what) {
    if (!globals.quiet) say(what + "\n");
  });
  std::optional<runtime::Explanation> why;
  if (flags.explain) why = runtime::explain(session, options, result);
  if (globals.json) {
    OrderedJson out = bench_json(result, options);
    if (why) out["explain"] = explanation_json(*why);
    print_json(out);
  } else {
    print(bench_text(result, options));
    if (why) print(explanation_text(*why));
  }
  return 0;
}

}  // namespace

void add_bench(Invocation& invocation) {
  Command command(invocation, "bench", kModelGroup, "Speed, as a share of what this machine can do",
                  "  rhapsode bench -c rag.yaml --prompt-tokens 512 --new-tokens 64\n"
                  "  rhapsode bench -c rag.yaml --explain\n"
                  "  rhapsode bench kernels");
  const auto flags = std::make_shared<BenchFlags>();
  command.optional_argument("what", flags->what, "`kernels`: each kernel by itself, without a model");
  command.option("--prompt-tokens", flags->prompt_tokens, "N", "tokens of the prompt (default: 512)");
  command.option("--new-tokens", flags->new_tokens, "N", "tokens generated (default: 64)");
  command.option("--sequences", flags->sequences, "N", "sequences decoded at once, beside one (default: 1)");
  command.option("--rounds", flags->rounds, "N", "rounds, of which the median counts (default: 3)");
  command.flag("--explain", flags->explain, "where a token's time goes, and what would save most of it");
  command.flag("--quick", flags->quick, "kernels: a tenth of the work");
  command.action([&invocation, flags] { return bench(invocation.globals, *flags); });
}

}  // namespace rhapsode::cli
