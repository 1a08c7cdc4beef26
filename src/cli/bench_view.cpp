#include "cli/bench_view.h"

#include <fmt/format.h>

#include <algorithm>

namespace rhapsode::cli {
namespace {

constexpr int kBarWidth = 30;

std::string share_bar(double share) {
  const int full = std::clamp(static_cast<int>(share * kBarWidth + 0.5), 0, kBarWidth);
  std::string bar;
  for (int i = 0; i < kBarWidth; ++i) bar += i < full ? "█" : "·";
  return bar;
}

OrderedJson rate_json(const devices::Rate& rate) {
  return {{"best", rate.best}, {"median", rate.median}};
}

OrderedJson roofline_json(const devices::Roofline& roofline) {
  OrderedJson out = {{"read_gb_per_s", rate_json(roofline.best_read())},
                     {"fma_gflops", rate_json(roofline.fma)}};
  if (roofline.bf16.median > 0) out["bf16_gflops"] = rate_json(roofline.bf16);
  out["int16_gops"] = rate_json(roofline.int16);
  out["int8_gops"] = rate_json(roofline.int8);
  out["int8_words_gops"] = rate_json(roofline.int8_words);
  return out;
}

OrderedJson phase_json(const runtime::Explanation::Phase& phase) {
  OrderedJson parts = OrderedJson::array(), knobs = OrderedJson::array();
  for (const runtime::TimePart& part : phase.parts) {
    OrderedJson one = {{"name", part.name}, {"ms", part.ms}, {"share", part.share}};
    if (part.gb_per_s > 0) one["gb_per_s"] = part.gb_per_s;
    parts.push_back(std::move(one));
  }
  for (const runtime::Knob& knob : phase.knobs)
    knobs.push_back(
        {{"name", knob.name}, {"setting", knob.setting}, {"saves_ms", knob.saves_ms}, {"why", knob.why}});
  return {{"token_ms", phase.token_ms}, {"parts", std::move(parts)}, {"knobs", std::move(knobs)}};
}

std::string phase_text(const char* title, const runtime::Explanation::Phase& phase) {
  std::string text = fmt::format("\n{}, {:.3f} ms a token\n", title, phase.token_ms);
  for (const runtime::TimePart& part : phase.parts) {
    text += fmt::format("  {:<15} {} {:5.1f} %  {:8.3f} ms", part.name, share_bar(part.share),
                        100 * part.share, part.ms);
    if (part.gb_per_s > 0) text += fmt::format("  {:6.1f} GB/s", part.gb_per_s);
    text += "\n";
  }
  if (phase.knobs.empty()) return text + "  No setting would save a twentieth of this.\n";
  const char* lead = "Turn";
  for (const runtime::Knob& knob : phase.knobs) {
    text += fmt::format("  {} {}: {} saves up to {:.3f} ms ({:.0f} %); {}\n", lead, knob.name, knob.setting,
                        knob.saves_ms, 100 * knob.saves_ms / phase.token_ms, knob.why);
    lead = "then";
  }
  return text;
}

}  // namespace

OrderedJson bench_json(const runtime::BenchResult& r, const runtime::BenchOptions& options) {
  OrderedJson out;
  out["cpu"] = r.cpu;
  out["isa"] = r.isa;
  out["threads"] = r.threads;
  out["access"] = {{"bytes_ahead", r.access_bytes}, {"source", r.access_source}};
  out["prompt_tokens"] = options.prompt_tokens;
  out["new_tokens"] = options.new_tokens;
  out["prompt_tokens_per_s"] = r.prompt_tokens_per_s;
  out["decode_tokens_per_s"] = r.decode_tokens_per_s;
  if (options.sequences > 1) {
    out["sequences"] = options.sequences;
    out["batch_tokens_per_s"] = r.batch_tokens_per_s;
    out["batch_speedup"] = r.batch_speedup;
  }
  out["prompt_gflops"] = r.prompt_gflops;
  out["prompt_share"] = r.prompt_share;
  out["prompt_peak"] = devices::instruction_name(r.prompt_instruction);
  out["decode_gb_per_s"] = r.decode_gb_per_s;
  out["decode_share"] = r.decode_share;
  out["first_token_ms"] = r.first_token_ms;
  out["load_ms"] = r.load_ms;
  out["weight_bytes_per_token"] = r.weight_bytes_per_token;
  out["plan_bytes"] = r.plan_bytes;
  out["peak_rss_bytes"] = r.peak_rss_bytes;
  out["roofline"] = roofline_json(r.roofline);
  return out;
}

std::string bench_text(const runtime::BenchResult& r, const runtime::BenchOptions& options) {
  return fmt::format("{}, {} threads, {} kernels\n\n", r.cpu, r.threads, r.isa) +
         fmt::format("decode  {} {:5.1f} %  {:7.1f} tokens/s  {:6.1f} of {:.1f} GB/s\n",
                     share_bar(r.decode_share), 100 * r.decode_share, r.decode_tokens_per_s,
                     r.decode_gb_per_s, r.roofline.best_read().median) +
         fmt::format("prompt  {} {:5.1f} %  {:7.1f} tokens/s  {:6.1f} of {:.1f} {} ({})\n",
                     share_bar(r.prompt_share), 100 * r.prompt_share, r.prompt_tokens_per_s, r.prompt_gflops,
                     r.roofline.peak(r.prompt_instruction).median,
                     devices::instruction_unit(r.prompt_instruction),
                     devices::instruction_name(r.prompt_instruction)) +
         (options.sequences == 1 ? ""
                                 : fmt::format("batch   {} sequences {:17.1f} tokens/s  {:6.2f} times one\n",
                                               options.sequences, r.batch_tokens_per_s, r.batch_speedup)) +
         fmt::format("\nfirst token of {} prompt tokens {:.0f} ms, load {:.0f} ms\n", options.prompt_tokens,
                     r.first_token_ms, r.load_ms) +
         fmt::format("weights asked for {} bytes ahead ({})\n", r.access_bytes, r.access_source) +
         fmt::format("planned {:.1f} MB, peak {:.1f} MB\n", static_cast<double>(r.plan_bytes) / 1e6,
                     static_cast<double>(r.peak_rss_bytes) / 1e6);
}

OrderedJson explanation_json(const runtime::Explanation& explanation) {
  return {{"decode", phase_json(explanation.decode)}, {"prompt", phase_json(explanation.prompt)}};
}

std::string explanation_text(const runtime::Explanation& explanation) {
  return phase_text("decode", explanation.decode) + phase_text("prompt", explanation.prompt);
}

OrderedJson kernels_json(const runtime::KernelBench& bench) {
  OrderedJson out;
  out["cpu"] = bench.cpu;
  out["isa"] = bench.isa;
  out["threads"] = bench.threads;
  out["roofline"] = roofline_json(bench.roofline);
  out["kernels"] = OrderedJson::array();
  for (const runtime::KernelRow& row : bench.rows)
    out["kernels"].push_back({{"kernel", row.kernel},
                              {"format", row.format},
                              {"rows", row.rows},
                              {"cols", row.cols},
                              {"tokens", row.tokens},
                              {"rate", rate_json(row.rate)},
                              {"unit", row.unit},
                              {"limit", row.limit},
                              {"limit_rate", row.limit_rate},
                              {"share", row.share}});
  return out;
}

std::string kernels_head_text(const runtime::KernelBench& bench) {
  std::string text = fmt::format("\n{}, {} threads, {} kernels\n", bench.cpu, bench.threads, bench.isa);
  const auto line = [&](const char* name, const char* unit, const devices::Rate& rate) {
    text += fmt::format("{:<20} {:7.1f} {} (best {:.1f})\n", name, rate.median, unit, rate.best);
  };
  line("read", "GB/s", bench.roofline.best_read());
  for (uint32_t i = 0; i < devices::kInstructions; ++i) {
    const auto instruction = static_cast<devices::Instruction>(i);
    if (bench.roofline.peak(instruction).median == 0) continue;
    line(devices::instruction_name(instruction), devices::instruction_unit(instruction),
         bench.roofline.peak(instruction));
  }
  return text;
}

std::string kernel_row_text(const runtime::KernelRow& row) {
  return fmt::format("{:<9} {:<19} {:>5} x {:<5} {:>4} {} {:5.1f} %  {:7.1f} {} of {:.1f} ({})\n", row.kernel,
                     row.format, row.rows, row.cols, row.tokens, share_bar(row.share), 100 * row.share,
                     row.rate.median, row.unit, row.limit_rate, row.limit);
}

}  // namespace rhapsode::cli
