// `bench`: speed of a model as a share of what this machine can do.
#include <fmt/format.h>

#include <algorithm>

#include "cli/invocation.h"
#include "cli/model_source.h"
#include "cli/numbers.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "runtime/bench.h"

namespace rhapsode::cli {
namespace {

struct BenchFlags {
  std::optional<std::string> prompt_tokens, new_tokens, rounds;
};

OrderedJson rate_json(const devices::Rate& rate) {
  return {{"best", rate.best}, {"median", rate.median}};
}

void print_bench_json(const runtime::BenchResult& r, const runtime::BenchOptions& options) {
  OrderedJson out;
  out["cpu"] = r.cpu;
  out["isa"] = r.isa;
  out["threads"] = r.threads;
  out["prompt_tokens"] = options.prompt_tokens;
  out["new_tokens"] = options.new_tokens;
  out["prompt_tokens_per_s"] = r.prompt_tokens_per_s;
  out["decode_tokens_per_s"] = r.decode_tokens_per_s;
  out["prompt_gflops"] = r.prompt_gflops;
  out["prompt_share"] = r.prompt_share;
  out["decode_gb_per_s"] = r.decode_gb_per_s;
  out["decode_share"] = r.decode_share;
  out["first_token_ms"] = r.first_token_ms;
  out["load_ms"] = r.load_ms;
  out["weight_bytes_per_token"] = r.weight_bytes_per_token;
  out["plan_bytes"] = r.plan_bytes;
  out["peak_rss_bytes"] = r.peak_rss_bytes;
  out["roofline"] = {{"read_gb_per_s", rate_json(r.roofline.best_read())},
                     {"fma_gflops", rate_json(r.roofline.fma)}};
  print_json(out);
}

std::string share_bar(double share) {
  const int full = std::clamp(static_cast<int>(share * 30.0 + 0.5), 0, 30);
  std::string bar;
  for (int i = 0; i < 30; ++i) bar += i < full ? "█" : "·";
  return bar;
}

void print_bench(const runtime::BenchResult& r, const runtime::BenchOptions& options) {
  print(fmt::format("{}, {} threads, {} kernels\n\n", r.cpu, r.threads, r.isa));
  print(fmt::format("decode  {} {:5.1f} %  {:7.1f} tokens/s  {:6.1f} of {:.1f} GB/s\n",
                    share_bar(r.decode_share), 100 * r.decode_share, r.decode_tokens_per_s, r.decode_gb_per_s,
                    r.roofline.best_read().median));
  print(fmt::format("prompt  {} {:5.1f} %  {:7.1f} tokens/s  {:6.1f} of {:.1f} GFLOP/s\n",
                    share_bar(r.prompt_share), 100 * r.prompt_share, r.prompt_tokens_per_s, r.prompt_gflops,
                    r.roofline.fma.median));
  print(fmt::format("\nfirst token of {} prompt tokens {:.0f} ms, load {:.0f} ms\n", options.prompt_tokens,
                    r.first_token_ms, r.load_ms));
  print(fmt::format("planned {:.1f} MB, peak {:.1f} MB\n", static_cast<double>(r.plan_bytes) / 1e6,
                    static_cast<double>(r.peak_rss_bytes) / 1e6));
}

int bench(const Globals& globals, const BenchFlags& flags) {
  const CancelScope scope;
  runtime::BenchOptions options;
  if (flags.prompt_tokens)
    options.prompt_tokens = read_integer("--prompt-tokens", *flags.prompt_tokens, 1, 1 << 20);
  if (flags.new_tokens) options.new_tokens = read_integer("--new-tokens", *flags.new_tokens, 1, 1 << 20);
  if (flags.rounds) options.rounds = static_cast<uint32_t>(read_integer("--rounds", *flags.rounds, 1, 1000));
  const runtime::Assembly assembly = open_model(globals, "bench", TextNeed::none);
  const plan::Plan plan = runtime::make_plan(assembly, options.prompt_tokens + options.new_tokens);
  runtime::Session session = load_model(globals, assembly, plan, 1);
  const runtime::BenchResult result = runtime::bench(session, options, [&](const std::string& what) {
    if (!globals.quiet) say(what + "\n");
  });
  if (globals.json)
    print_bench_json(result, options);
  else
    print_bench(result, options);
  return 0;
}

}  // namespace

void add_bench(Invocation& invocation) {
  Command command(invocation, "bench", kModelGroup, "Speed, as a share of what this machine can do",
                  "  rhapsode bench -c rag.yaml --prompt-tokens 512 --new-tokens 64");
  const auto flags = std::make_shared<BenchFlags>();
  command.option("--prompt-tokens", flags->prompt_tokens, "N", "tokens of the prompt (default: 512)");
  command.option("--new-tokens", flags->new_tokens, "N", "tokens generated (default: 64)");
  command.option("--rounds", flags->rounds, "N", "rounds, of which the median counts (default: 3)");
  command.action([&invocation, flags] { return bench(invocation.globals, *flags); });
}

}  // namespace rhapsode::cli
