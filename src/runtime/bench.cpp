#include "runtime/bench.h"

#include <algorithm>

#include "devices/inventory.h"
#include "runtime/beam_run.h"
#include "runtime/route_peak.h"

namespace rhapsode::runtime {
namespace {

// Rows and columns of the matrices that every token is multiplied by.
uint64_t matrix_elements(const arch::ModelTensors& tensors) {
  const auto count = [](const arch::LinearSource& source) {
    uint64_t rows = 0;
    for (const arch::LinearPart& part : source.parts) rows += part.rows;
    return rows * source.cols;
  };
  uint64_t elements = 0;
  for (const arch::LayerTensors& layer : tensors.layers)
    elements += count(layer.qkv) + count(layer.o) + count(layer.up) + count(layer.down);
  return elements;
}

uint64_t layers_bytes(const arch::ModelTensors& tensors, const plan::Formats& formats) {
  uint64_t bytes = 0;
  for (const arch::LayerTensors& layer : tensors.layers) bytes += plan::layer_bytes(formats, layer);
  return bytes;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

uint64_t head_bytes_per_pass(Session& session) {
  const uint64_t whole = plan::head_bytes(session.plan().formats, session.assembly().tensors);
  const model::HeadScreen* screen = session.decoder().head_screen();
  if (screen == nullptr || screen->counts().passes == 0) return whole;
  const model::HeadScreen::Counts& counts = screen->counts();
  const uint64_t panels = counts.panels / counts.passes;
  return panels * screen->bytes_of_panel() + whole * counts.exact_panels / counts.panels;
}

BenchRound bench_round(Session& session, const BenchOptions& options,
                       const std::function<void()>& prompt_done) {
  model::Decoder& decoder = session.decoder();
  const uint64_t vocab = decoder.spec().vocab_size;
  std::vector<uint32_t> prompt;
  for (uint64_t i = 0; i < options.prompt_tokens; ++i)
    prompt.push_back(static_cast<uint32_t>(i * 7919 % vocab));
  model::Sequence sequence;
  BenchRound round;
  const Stopwatch prompt_time;
  decoder.prefill(sequence, prompt);
  round.prompt_ms = prompt_time.milliseconds();
  if (prompt_done) prompt_done();
  const Stopwatch decode_time;
  for (uint64_t i = 0; i < options.new_tokens; ++i) {
    const Stopwatch choosing;
    const auto row = decoder.logits(0);
    const uint32_t id = static_cast<uint32_t>(std::max_element(row.begin(), row.end()) - row.begin());
    round.choosing_ms += choosing.milliseconds();
    const model::Span span{&sequence, {&id, 1}, 1, 0, false, {1, {}}};
    decoder.forward({&span, 1});
  }
  round.decode_ms = decode_time.milliseconds();
  session.cache().release(sequence);
  return round;
}

BenchResult bench(Session& session, const BenchOptions& options,
                  const std::function<void(const std::string&)>& say) {
  const Assembly& assembly = session.assembly();
  const plan::Plan& plan = session.plan();
  const arch::Spec& spec = assembly.architecture.spec;
  std::vector<double> prompt_ms, decode_ms;
  for (uint32_t i = 0; i < options.rounds; ++i) {
    say("round " + std::to_string(i + 1) + " of " + std::to_string(options.rounds));
    const BenchRound round = bench_round(session, options);
    prompt_ms.push_back(round.prompt_ms);
    decode_ms.push_back(round.decode_ms);
  }
  BenchResult out;
  out.peak_rss_bytes = devices::peak_resident_bytes();
  out.plan_bytes = plan::total_bytes(plan);
  say("measuring the machine");
  ThreadPool pool(assembly.threads);
  out.roofline = devices::measure_roofline(*assembly.kernels, pool);
  out.cpu = assembly.inventory.cpu_name;
  out.isa = assembly.kernels->name;
  out.threads = assembly.threads;
  out.load_ms = session.load_ms();
  out.first_token_ms = median(prompt_ms);
  out.prompt_tokens_per_s = static_cast<double>(options.prompt_tokens) * 1e3 / out.first_token_ms;
  out.decode_tokens_per_s = static_cast<double>(options.new_tokens) * 1e3 / median(decode_ms);
  out.weight_bytes_per_token = layers_bytes(assembly.tensors, plan.formats) + head_bytes_per_pass(session);
  const uint64_t context = options.prompt_tokens + options.new_tokens / 2;
  const uint64_t kv_bytes =
      context * plan::kv_block_bytes(spec, plan.formats.kv_dtype) / kernels::kBlockTokens;
  out.decode_gb_per_s =
      out.decode_tokens_per_s * static_cast<double>(out.weight_bytes_per_token + kv_bytes) / 1e9;
  out.prompt_gflops =
      out.prompt_tokens_per_s * 2.0 * static_cast<double>(matrix_elements(assembly.tensors)) / 1e9;
  const arch::LinearSource& up = assembly.tensors.layers.front().up;
  out.prompt_instruction = route_instruction(plan.formats.of(up.parts.front(), up.cols));
  out.prompt_share = out.prompt_gflops / out.roofline.peak(out.prompt_instruction).median;
  out.decode_share = out.decode_gb_per_s / out.roofline.best_read().median;
  return out;
}

}  // namespace rhapsode::runtime
