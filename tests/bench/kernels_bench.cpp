// Speed of the kernels as shares of what the machine can do, all taken in one run: gemv against a plain read
// of the same bytes (taken in turn with it, since memory bandwidth of a shared host moves from minute to
// minute), tiles and attention against multiply-adds in registers. Matrix products go through the product's
// own driver, model::multiply.
//   kernels_bench [--isa NAME] [--threads N] [--rounds N] [--quick] [--json]
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "devices/device.h"
#include "devices/inventory.h"
#include "devices/roofline.h"
#include "kernels/kernels.h"
#include "model/linear.h"
#include "plan/footprint.h"

namespace {

using namespace rhapsode;
using devices::Rate;
using quant::Format;

struct Options {
  std::string isa;
  uint32_t threads = 0;
  uint32_t rounds = 7;
  bool quick = false;
  bool json = false;
};

struct Bench {
  const kernels::Kernels& kernels;
  ThreadPool& pool;
  const Options& options;
  devices::Device device;
  devices::Roofline roofline;
  nlohmann::json report;

  Bench(const kernels::Kernels& kernels_, ThreadPool& pool_, const Options& options_)
      : kernels(kernels_),
        pool(pool_),
        options(options_),
        device("bench", std::numeric_limits<uint64_t>::max(), kernels_) {}

  void say(const std::string& line) const {
    if (!options.json) fmt::print("{}\n", line);
  }
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

nlohmann::json to_json(const Rate& rate) {
  return {{"best", rate.best}, {"median", rate.median}};
}

// Random small numbers, the same for each run; packed content does not matter, finite values do.
std::vector<float> random_values(uint64_t n) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(n);
  for (float& x : values) x = uniform(random);
  return values;
}

// One matrix, its columns valid values of the format: a panel is packed once and copied to all the others.
void fill_panels(Bench& bench, Format format, uint64_t cols, std::span<std::byte> bytes) {
  const uint64_t panel_bytes = quant::panel_bytes(format, cols);
  const std::vector<float> rows = random_values(quant::kPanelRows * cols);
  std::vector<std::byte> panel(panel_bytes);
  quant::pack_panel(format, Dtype::f32, std::as_bytes(std::span(rows)), quant::kPanelRows, cols, panel);
  bench.pool.run([&](uint32_t member) {
    const Range mine = share(bytes.size() / panel_bytes, member, bench.pool.threads());
    for (uint64_t i = mine.begin; i < mine.end; ++i)
      std::memcpy(bytes.data() + i * panel_bytes, panel.data(), panel_bytes);
  });
}

model::Linear linear_at(Format format, uint64_t rows, uint64_t cols, std::byte* data) {
  model::Linear linear;
  linear.cols = cols;
  linear.panels = quant::panel_count(rows);
  linear.parts = {{rows,
                   0,
                   linear.panels,
                   quant::panel_bytes(format, cols),
                   quant::padded_cols(format, cols),
                   data,
                   {format, Dtype::f32, false, nullptr, false}}};
  return linear;
}

// Workspace of model::multiply.
struct Workspace {
  struct Own {
    std::vector<float> expand, sums, rows;
    std::vector<uint32_t> marks;
  };
  std::vector<Own> own;
  std::vector<float> packed;

  Workspace(const Bench& bench, uint64_t tokens, uint64_t cols)
      : own(bench.pool.threads(),
            {std::vector<float>(std::max(plan::kColumnBlock * quant::kPanelRows, cols)),
             std::vector<float>(std::min<uint64_t>(plan::kTokenBlock, tokens) * plan::kPanelGroup *
                                quant::kPanelRows),
             std::vector<float>(bench.kernels.gemm_tokens * cols / 2), std::vector<uint32_t>(cols / 32 + 1)}),
        packed((tokens + bench.kernels.gemm_tokens) * cols) {}

  model::Worker worker(const Bench& bench, uint32_t member) {
    Own& mine = own[member];
    return {&bench.kernels,       &bench.pool,        member,
            bench.pool.threads(), mine.expand.data(), mine.sums.data(),
            mine.rows.data(),     mine.marks.data(),  packed.data()};
  }
};

struct Shape {
  uint64_t rows, cols;
};

// Passes over many copies of one matrix, as a model's layers would come, with a barrier after each.
void bench_gemv(Bench& bench, Format format, Shape shape) {
  const uint64_t matrix_bytes = quant::packed_bytes(format, shape.rows, shape.cols);
  const uint64_t total = bench.options.quick ? 128ull << 20 : 768ull << 20;
  const uint64_t copies = std::max<uint64_t>(1, total / matrix_bytes);
  devices::Buffer buffer = bench.device.allocate(copies * matrix_bytes, "gemv");
  fill_panels(bench, format, shape.cols, buffer.bytes());
  const std::vector<float> x = random_values(shape.cols);
  std::vector<float> y(quant::panel_count(shape.rows) * quant::kPanelRows);
  Workspace workspace(bench, 1, shape.cols);
  std::vector<double> reads, rates;
  for (uint32_t round = 0; round < bench.options.rounds; ++round) {
    reads.push_back(std::max(devices::measure_read(bench.kernels, bench.pool, buffer.bytes(), 1),
                             devices::measure_read(bench.kernels, bench.pool, buffer.bytes(), 2)));
    const double start = now();
    bench.pool.run([&](uint32_t member) {
      const model::Worker worker = workspace.worker(bench, member);
      for (uint64_t i = 0; i < copies; ++i) {
        const model::Linear linear =
            linear_at(format, shape.rows, shape.cols, buffer.data() + i * matrix_bytes);
        multiply(worker, Dtype::f32, linear, {x.data(), shape.cols, {}}, 1, y.data(), y.size());
        bench.pool.barrier();
      }
    });
    rates.push_back(static_cast<double>(copies * matrix_bytes) / (now() - start) / 1e9);
  }
  const Rate rate = devices::summarize(rates), read = devices::summarize(reads);
  const double share = rate.median / read.median;
  bench.say(fmt::format(
      "gemv {:<5} {:>6} x {:<6} {:6.1f} GB/s (best {:5.1f})  {:5.1f} % of a plain read of {:.1f}",
      quant::format_name(format), shape.rows, shape.cols, rate.median, rate.best, 100 * share, read.median));
  bench.report["gemv"].push_back({{"format", quant::format_name(format)},
                                  {"rows", shape.rows},
                                  {"cols", shape.cols},
                                  {"gb_per_s", to_json(rate)},
                                  {"read_gb_per_s", to_json(read)},
                                  {"share", share}});
}

void bench_gemm(Bench& bench, Format format, Shape shape, uint32_t tokens) {
  devices::Buffer buffer = bench.device.allocate(quant::packed_bytes(format, shape.rows, shape.cols), "gemm");
  fill_panels(bench, format, shape.cols, buffer.bytes());
  const model::Linear linear = linear_at(format, shape.rows, shape.cols, buffer.data());
  const std::vector<float> x = random_values(tokens * shape.cols);
  const uint64_t y_stride = linear.panels * quant::kPanelRows;
  std::vector<float> y(tokens * y_stride);
  Workspace workspace(bench, tokens, linear.parts[0].padded_cols);
  const double operations = 2.0 * static_cast<double>(shape.rows * shape.cols) * tokens;
  const uint32_t repeats =
      static_cast<uint32_t>(std::max(1.0, (bench.options.quick ? 2e9 : 2e10) / operations));
  std::vector<double> rates, peaks;
  for (uint32_t round = 0; round < bench.options.rounds; ++round) {
    peaks.push_back(devices::measure_fma(bench.kernels, bench.pool));
    const double start = now();
    bench.pool.run([&](uint32_t member) {
      const model::Worker worker = workspace.worker(bench, member);
      for (uint32_t i = 0; i < repeats; ++i) {
        multiply(worker, Dtype::f32, linear, {x.data(), shape.cols, {}}, tokens, y.data(), y_stride);
        bench.pool.barrier();
      }
    });
    rates.push_back(operations * repeats / (now() - start) / 1e9);
  }
  const Rate rate = devices::summarize(rates);
  const double share = rate.median / devices::summarize(peaks).median;
  bench.say(fmt::format(
      "gemm {:<5} {:>6} x {:<6} {:>4} tokens {:7.1f} GFLOP/s (best {:6.1f})  {:5.1f} % of FMA peak",
      quant::format_name(format), shape.rows, shape.cols, tokens, rate.median, rate.best, 100 * share));
  bench.report["gemm"].push_back({{"format", quant::format_name(format)},
                                  {"rows", shape.rows},
                                  {"cols", shape.cols},
                                  {"tokens", tokens},
                                  {"gflop_per_s", to_json(rate)},
                                  {"share", share}});
}

// Each thread attends with `queries` rows to 4096 tokens of a bf16 cache of its own.
void bench_attention(Bench& bench, uint32_t head_dim, uint32_t queries) {
  constexpr uint32_t kBlocks = 64;
  const uint64_t block_bytes = uint64_t{head_dim} * kernels::kBlockTokens * 2;
  const uint32_t threads = bench.pool.threads();
  devices::Buffer buffer = bench.device.allocate(threads * kBlocks * 2 * block_bytes, "attention");
  const std::vector<float> values = random_values(block_bytes / 2);
  for (uint64_t at = 0; at < buffer.size_bytes(); at += block_bytes)
    bench.kernels.store(Dtype::bf16, values.data(), values.size(), buffer.data() + at);
  const std::vector<float> q = random_values(uint64_t{queries} * head_dim);
  const std::vector<uint32_t> begin(queries, 0), end(queries, kernels::kBlockTokens);
  const double operations = 4.0 * threads * queries * head_dim * kernels::kBlockTokens * kBlocks;
  const uint32_t repeats =
      static_cast<uint32_t>(std::max(1.0, (bench.options.quick ? 5e8 : 5e9) / operations));
  std::vector<double> rates;
  for (uint32_t round = 0; round < bench.options.rounds; ++round) {
    const double start = now();
    bench.pool.run([&](uint32_t member) {
      std::vector<float> m(queries, -std::numeric_limits<float>::infinity()), l(queries);
      std::vector<float> o(uint64_t{queries} * head_dim), scores(uint64_t{queries} * kernels::kBlockTokens);
      const std::byte* mine = buffer.data() + member * kBlocks * 2 * block_bytes;
      for (uint32_t i = 0; i < repeats * kBlocks; ++i) {
        const std::byte* k = mine + i % kBlocks * 2 * block_bytes;
        bench.kernels.attend_block({.k = k,
                                    .v = k + block_bytes,
                                    .kv_dtype = Dtype::bf16,
                                    .k_scales = nullptr,
                                    .v_scales = nullptr,
                                    .head_dim = head_dim,
                                    .queries = queries,
                                    .q = q.data(),
                                    .q_stride = head_dim,
                                    .scale = 0.1f,
                                    .softcap = 0.0f,
                                    .begin = begin.data(),
                                    .end = end.data(),
                                    .m = m.data(),
                                    .l = l.data(),
                                    .o = o.data(),
                                    .scores = scores.data()});
      }
    });
    rates.push_back(operations * repeats / (now() - start) / 1e9);
  }
  const Rate rate = devices::summarize(rates);
  const double share = rate.median / bench.roofline.fma.median;
  const double cache_rate =
      rate.median / queries;  // a query does 4 operations on the 4 bytes of a dim of K and V
  bench.say(
      fmt::format("attend bf16 head_dim {:>3} {:>3} queries {:7.1f} GFLOP/s (best {:6.1f})  {:5.1f} % of FMA "
                  "peak, {:5.1f} GB/s of cache",
                  head_dim, queries, rate.median, rate.best, 100 * share, cache_rate));
  bench.report["attention"].push_back({{"head_dim", head_dim},
                                       {"queries", queries},
                                       {"gflop_per_s", to_json(rate)},
                                       {"share", share},
                                       {"cache_gb_per_s", cache_rate}});
}

void bench_roofline(Bench& bench) {
  devices::RooflineOptions options;
  options.rounds = bench.options.rounds;
  if (bench.options.quick) options.bytes_per_thread = 128 << 20;
  bench.roofline = measure_roofline(bench.kernels, bench.pool, options);
  const devices::Roofline& r = bench.roofline;
  const std::string cpu = devices::read_inventory().cpu_name;
  bench.say(fmt::format("{}, {} threads, kernels {}", cpu, bench.pool.threads(), bench.kernels.name));
  const auto line = [&](const char* name, const char* unit, const Rate& rate) {
    bench.say(fmt::format("{:<34} {:7.1f} {} (best {:.1f})", name, rate.median, unit, rate.best));
    return to_json(rate);
  };
  bench.report["cpu"] = cpu;
  bench.report["threads"] = bench.pool.threads();
  bench.report["kernels"] = bench.kernels.name;
  bench.report["roofline"] = {
      {"read_one_thread_gb_per_s", line("read, 1 thread", "GB/s", r.read_one_thread)},
      {"read_one_thread_two_streams_gb_per_s",
       line("read, 1 thread, two far streams", "GB/s", r.read_one_thread_two_streams)},
      {"read_gb_per_s", line("read, all threads", "GB/s", r.read)},
      {"read_two_streams_gb_per_s", line("read, all threads, two far streams", "GB/s", r.read_two_streams)},
      {"fma_one_thread_gflop_per_s", line("fma, 1 thread", "GFLOP/s", r.fma_one_thread)},
      {"fma_gflop_per_s", line("fma, all threads", "GFLOP/s", r.fma)}};
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) throw Error(ErrorKind::usage, "missing-value", word + " needs a value");
      return argv[++i];
    };
    const auto number = [&] {
      const std::string text = value();
      char* end = nullptr;
      const unsigned long n = std::strtoul(text.c_str(), &end, 10);
      if (*end != '\0' || n == 0 || n > 4096)
        throw Error(ErrorKind::usage, "bad-number", word + " needs a number").saw(text).want("1 to 4096");
      return static_cast<uint32_t>(n);
    };
    if (word == "--isa")
      options.isa = value();
    else if (word == "--threads")
      options.threads = number();
    else if (word == "--rounds")
      options.rounds = number();
    else if (word == "--quick")
      options.quick = true;
    else if (word == "--json")
      options.json = true;
    else
      throw Error(ErrorKind::usage, "unknown-option", "this option does not exist").saw(word);
  }
  return options;
}

void run(const Options& options) {
  ThreadPool pool(options.threads != 0 ? options.threads : usable_cores());
  Bench bench(kernels::select_kernels(options.isa), pool, options);
  bench_roofline(bench);
  for (Format format : {Format::bf16, Format::f16, Format::f32})
    for (Shape shape : {Shape{4096, 4096}, Shape{576, 1536}, Shape{49152, 576}, Shape{14336, 4096}})
      bench_gemv(bench, format, shape);
  for (Shape shape : {Shape{4096, 4096}, Shape{576, 1536}})
    for (uint32_t tokens : {2u, 6u, 16u, 64u, 256u, 512u}) bench_gemm(bench, Format::bf16, shape, tokens);
  for (uint32_t head_dim : {64u, 128u})
    for (uint32_t queries : {1u, 3u, 4u, 8u, 64u}) bench_attention(bench, head_dim, queries);
  if (options.json) fmt::print("{}\n", bench.report.dump(2));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(parse(argc, argv));
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.to_text());
    return exit_code(error.kind);
  }
}
