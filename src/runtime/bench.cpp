#include "runtime/bench.h"

#include <algorithm>
#include <optional>

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

// Two products a head dimension for each key that a token sees, windows regarded.
double attention_operations(const arch::Spec& spec, uint64_t tokens) {
  double seen = 0;
  for (const arch::LayerSpec& layer : spec.layers) {
    const uint64_t window = layer.window == 0 ? tokens : std::min<uint64_t>(layer.window, tokens);
    seen += static_cast<double>(window * (window + 1) / 2 + (tokens - window) * window);
  }
  return seen * 4.0 * static_cast<double>(spec.q_rows());
}

// What a prompt must compute: the layers' matrices, attention, and the head of its last token.
double prompt_operations(const arch::Spec& spec, const arch::ModelTensors& tensors, uint64_t tokens) {
  const uint64_t head = spec.vocab_size * spec.hidden_size;
  return 2.0 * static_cast<double>(matrix_elements(tensors) * tokens + head) +
         attention_operations(spec, tokens);
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

double rate(uint64_t tokens, double milliseconds) {
  return static_cast<double>(tokens) * 1e3 / milliseconds;
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

namespace {

std::vector<uint32_t> prompt_ids(const model::Decoder& decoder, uint64_t tokens, uint32_t first) {
  std::vector<uint32_t> ids;
  for (uint64_t i = 0; i < tokens; ++i)
    ids.push_back(static_cast<uint32_t>((first + i * 7919) % decoder.spec().vocab_size));
  return ids;
}

uint32_t best_id(std::span<const float> row) {
  return static_cast<uint32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

}  // namespace

double batch_round(Session& session, const BenchOptions& options) {
  model::Decoder& decoder = session.decoder();
  std::vector<model::Sequence> sequences(options.sequences);
  std::vector<uint32_t> ids(options.sequences);
  for (uint32_t i = 0; i < options.sequences; ++i) {
    decoder.prefill(sequences[i], prompt_ids(decoder, options.prompt_tokens, i));
    ids[i] = best_id(decoder.logits(0));
  }
  const Stopwatch time;
  for (uint64_t token = 0; token < options.new_tokens; ++token) {
    std::vector<model::Span> spans;
    for (uint32_t i = 0; i < options.sequences; ++i)
      spans.push_back({&sequences[i], {&ids[i], 1}, 1, 0, false, {1, {}}});
    decoder.forward(spans);
    for (uint32_t i = 0; i < options.sequences; ++i) ids[i] = best_id(decoder.logits(i));
  }
  const double milliseconds = time.milliseconds();
  for (model::Sequence& sequence : sequences) session.cache().release(sequence);
  return milliseconds;
}

BenchRound bench_round(Session& session, const BenchOptions& options,
                       const std::function<void()>& prompt_done) {
  model::Decoder& decoder = session.decoder();
  const std::vector<uint32_t> prompt = prompt_ids(decoder, options.prompt_tokens, 0);
  model::Sequence sequence;
  BenchRound round;
  const Stopwatch prompt_time;
  decoder.prefill(sequence, prompt);
  round.prompt_ms = prompt_time.milliseconds();
  if (prompt_done) prompt_done();
  const Stopwatch decode_time;
  for (uint64_t i = 0; i < options.new_tokens; ++i) {
    const Stopwatch choosing;
    const uint32_t id = best_id(decoder.logits(0));
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
  BenchResult out;
  ThreadPool pool(assembly.threads);
  std::optional<devices::RooflineProbe> probe;
  std::vector<double> prompt_ms, decode_ms, batch_ms, speedups;
  session.settle_access();
  if (!session.access_problem().empty())
    say("how far ahead to ask for weights is not kept: " + session.access_problem());
  for (uint32_t i = 0; i < options.rounds; ++i) {
    say("round " + std::to_string(i + 1) + " of " + std::to_string(options.rounds));
    const BenchRound round = bench_round(session, options);
    prompt_ms.push_back(round.prompt_ms);
    decode_ms.push_back(round.decode_ms);
    if (options.sequences > 1) {
      batch_ms.push_back(batch_round(session, options));
      speedups.push_back(round.decode_ms * options.sequences / batch_ms.back());
    }
    if (i == 0) {  // the model has touched all that it will; what follows is the probe's
      out.peak_rss_bytes = devices::peak_resident_bytes();
      probe.emplace(*assembly.kernels, pool);
    }
    probe->take();
  }
  out.plan_bytes = plan::total_bytes(plan);
  out.roofline = probe->summary();
  out.cpu = assembly.inventory.cpu_name;
  out.isa = assembly.kernels->name;
  out.threads = assembly.threads;
  out.access_bytes = session.access_bytes();
  out.access_source = Session::access_source_name(session.access_source());
  out.load_ms = session.load_ms();
  out.first_token_ms = median(prompt_ms);
  out.weight_bytes_per_token = layers_bytes(assembly.tensors, plan.formats) + head_bytes_per_pass(session);
  const uint64_t context = options.prompt_tokens + options.new_tokens / 2;
  const uint64_t kv_bytes =
      context * plan::kv_block_bytes(spec, plan.formats.kv_dtype) / kernels::kBlockTokens;
  const double bytes_per_token = static_cast<double>(out.weight_bytes_per_token + kv_bytes);
  const double prompt_gflop = prompt_operations(spec, assembly.tensors, options.prompt_tokens) / 1e9;
  out.prompt_tokens_per_s = rate(options.prompt_tokens, out.first_token_ms);
  out.decode_tokens_per_s = rate(options.new_tokens, median(decode_ms));
  if (options.sequences > 1) {
    out.batch_tokens_per_s = rate(options.new_tokens * options.sequences, median(batch_ms));
    out.batch_speedup = median(speedups);
  }
  out.prompt_gflops = prompt_gflop * 1e3 / out.first_token_ms;
  out.decode_gb_per_s = out.decode_tokens_per_s * bytes_per_token / 1e9;
  const arch::LinearSource& up = assembly.tensors.layers.front().up;
  out.prompt_instruction =
      route_instruction(*assembly.kernels, plan.formats.of(up.parts.front(), up.cols), plan.formats.dtype);
  std::vector<double> prompt_shares, decode_shares;
  for (size_t i = 0; i < prompt_ms.size(); ++i) {
    const double gflops = prompt_gflop * 1e3 / prompt_ms[i];
    const double gb_per_s = rate(options.new_tokens, decode_ms[i]) * bytes_per_token / 1e9;
    prompt_shares.push_back(gflops / probe->peak_at(i, out.prompt_instruction));
    decode_shares.push_back(gb_per_s / probe->read_at(i));
  }
  out.prompt_share = median(prompt_shares);
  out.decode_share = median(decode_shares);
  return out;
}

}  // namespace rhapsode::runtime
