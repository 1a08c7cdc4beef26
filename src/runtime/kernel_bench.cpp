#include "runtime/kernel_bench.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <random>

#include "base/checked.h"
#include "devices/device.h"
#include "devices/inventory.h"
#include "model/linear.h"
#include "plan/footprint.h"
#include "quant/codec.h"
#include "runtime/route_peak.h"

namespace rhapsode::runtime {
namespace {

using devices::Instruction;
using quant::Format;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Small numbers, the same in each run.
std::vector<float> small_values(uint64_t n) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(n);
  for (float& x : values) x = uniform(random);
  return values;
}

// A scale for each block of 4-bit weights, of a usual size.
void set_scales(Format format, uint64_t cols, std::span<std::byte> panel) {
  const uint64_t blocks = cols / quant::kBlockCols;
  const std::vector<float> absmax(quant::kPanelRows * blocks, 0.05f);
  const quant::NestedScales nested = quant::nest_scales(absmax);
  for (uint32_t row = 0; row < quant::kPanelRows; ++row) {
    if (quant::is_nested(format))
      quant::set_nested_scales(panel, row, cols, nested, row * blocks);
    else
      quant::set_block_scales(panel, row, std::span(absmax).first(blocks));
  }
}

// 32 rows of the format.
std::vector<std::byte> make_panel(Format format, uint64_t cols) {
  std::vector<std::byte> panel(quant::panel_bytes(format, cols));
  const std::vector<float> values = small_values(quant::kPanelRows * cols);
  std::vector<int8_t> codes(values.size());
  if (quant::is_dense(format)) {
    quant::pack_panel(format, Dtype::f32, std::as_bytes(std::span(values)), quant::kPanelRows, cols, panel);
  } else if (format == Format::int8) {
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<int8_t>(values[i] * 127.0f);
    quant::pack_int8_panel(codes, std::vector<float>(quant::kPanelRows, 1.0f), cols, panel);
  } else if (format == Format::ternary) {
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<int8_t>(values[i] * 1.99f);
    quant::pack_ternary_panel(codes, quant::kPanelRows, cols, panel);
  } else {
    std::vector<uint8_t> nibbles(values.size());
    for (size_t i = 0; i < nibbles.size(); ++i)
      nibbles[i] = static_cast<uint8_t>((values[i] + 1.0f) * 7.99f) & 15;
    quant::pack_four_bit_panel(format, nibbles, quant::kPanelRows, cols, panel);
    set_scales(format, cols, panel);
  }
  return panel;
}

struct Shape {
  uint64_t rows, cols;
};

// A format and the way it is multiplied, by what `numerics` calls it.
struct Way {
  enum class Numerics : uint8_t { fast, int8, hf_exact };

  Format format;
  Numerics numerics = Numerics::fast;

  std::string name() const {
    constexpr const char* kSuffixes[] = {"", "/int8", "/hf-exact"};
    return quant::format_name(format) + std::string(kSuffixes[static_cast<size_t>(numerics)]);
  }
  // Of what is multiplied: bf16 by bf16, and exact numerics, as bf16 models do.
  Dtype dtype() const {
    return format == Format::bf16 || numerics == Numerics::hf_exact ? Dtype::bf16 : Dtype::f32;
  }
  plan::WeightFormat weights() const {
    plan::WeightFormat weights;
    weights.format = format;
    weights.compute = dtype();
    weights.bytes = numerics == Numerics::int8;
    weights.exact = numerics == Numerics::hf_exact;
    return weights;
  }
};

class Run {
 public:
  Run(const KernelBenchOptions& options, const std::function<void(const KernelRow&)>& done, KernelBench& out)
      : options_(options),
        done_(done),
        out_(out),
        kernels_(kernels::select_kernels(options.isa)),
        pool_(options.threads != 0 ? options.threads : usable_cores()),
        device_("kernels", std::numeric_limits<uint64_t>::max(), kernels_) {
    out.cpu = devices::read_inventory().cpu_name;
    out.isa = kernels_.name;
    out.threads = pool_.threads();
  }

  void roofline() {
    devices::RooflineOptions options;
    options.rounds = options_.rounds;
    if (options_.quick) options.bytes_per_thread = 64 << 20;
    out_.roofline = devices::measure_roofline(kernels_, pool_, options);
  }

  // Passes over many copies of one matrix, as a model's layers would come, with a barrier after each.
  void vector(Way way, Shape shape) {
    const Format format = way.format;
    const uint64_t matrix_bytes = quant::packed_bytes(format, shape.rows, shape.cols);
    const uint64_t copies =
        std::max<uint64_t>(1, (options_.quick ? 64ull << 20 : 512ull << 20) / matrix_bytes);
    devices::Buffer buffer = device_.allocate(copies * matrix_bytes, "matrices");
    fill(format, shape.cols, buffer.bytes());
    Work work(*this, 1, shape, way);
    std::vector<double> reads, rates;
    for (uint32_t round = 0; round < options_.rounds; ++round) {
      reads.push_back(std::max(devices::measure_read(kernels_, pool_, buffer.bytes(), 1),
                               devices::measure_read(kernels_, pool_, buffer.bytes(), 2)));
      const double start = now();
      pool_.run([&](uint32_t member) {
        for (uint64_t i = 0; i < copies; ++i) work.multiply(member, buffer.data() + i * matrix_bytes);
      });
      rates.push_back(static_cast<double>(copies * matrix_bytes) / (now() - start) / 1e9);
    }
    KernelRow row{"vector", way.name(), shape.rows, shape.cols, 1, {}, "GB/s", "read"};
    finish(std::move(row), rates, reads);
  }

  void tokens(Way way, Shape shape, uint32_t tokens) {
    const Format format = way.format;
    devices::Buffer buffer =
        device_.allocate(quant::packed_bytes(format, shape.rows, shape.cols), "a matrix");
    fill(format, shape.cols, buffer.bytes());
    Work work(*this, tokens, shape, way);
    const Instruction instruction = route_instruction(kernels_, way.weights(), way.dtype());
    const double operations = 2.0 * static_cast<double>(shape.rows * shape.cols) * tokens;
    const auto repeats = static_cast<uint32_t>(std::max(1.0, (options_.quick ? 2e9 : 2e10) / operations));
    std::vector<double> rates, peaks;
    for (uint32_t round = 0; round < options_.rounds; ++round) {
      peaks.push_back(devices::measure_peak(kernels_, pool_, instruction));
      const double start = now();
      pool_.run([&](uint32_t member) {
        for (uint32_t i = 0; i < repeats; ++i) work.multiply(member, buffer.data());
      });
      rates.push_back(operations * repeats / (now() - start) / 1e9);
    }
    KernelRow row{"tokens", way.name(), shape.rows, shape.cols, tokens, {}, "", ""};
    row.unit = devices::instruction_unit(instruction);
    row.limit = devices::instruction_name(instruction);
    finish(std::move(row), rates, peaks);
  }

  // Each thread attends with `queries` rows to 4096 tokens of a bf16 cache of its own.
  void attention(uint32_t head_dim, uint32_t queries) {
    constexpr uint32_t kBlocks = 64;
    const uint64_t block_bytes = uint64_t{head_dim} * kernels::kBlockTokens * 2;
    devices::Buffer buffer = device_.allocate(pool_.threads() * kBlocks * 2 * block_bytes, "a cache");
    const std::vector<float> values = small_values(block_bytes / 2);
    for (uint64_t at = 0; at < buffer.size_bytes(); at += block_bytes)
      kernels_.store(Dtype::bf16, values.data(), values.size(), buffer.data() + at);
    const double operations = 4.0 * pool_.threads() * queries * head_dim * kernels::kBlockTokens * kBlocks;
    const auto repeats = static_cast<uint32_t>(std::max(1.0, (options_.quick ? 5e8 : 5e9) / operations));
    const Instruction limit = kernels_.matrix != nullptr ? Instruction::bf16 : Instruction::fma;
    std::vector<double> rates, peaks;
    for (uint32_t round = 0; round < options_.rounds; ++round) {
      peaks.push_back(devices::measure_peak(kernels_, pool_, limit));
      const double start = now();
      pool_.run([&](uint32_t member) {
        attend(buffer.data() + member * kBlocks * 2 * block_bytes, {queries, head_dim}, repeats * kBlocks,
               kBlocks);
      });
      rates.push_back(operations * repeats / (now() - start) / 1e9);
    }
    KernelRow row{"attention", "bf16", queries, head_dim, 1, {}, "GFLOP/s", devices::instruction_name(limit)};
    finish(std::move(row), rates, peaks);
  }

 private:
  // The workspace and the matrix of model::multiply.
  class Work {
   public:
    Work(Run& run, uint32_t tokens, Shape shape, Way way)
        : run_(run),
          tokens_(tokens),
          dtype_(way.dtype()),
          x_(small_values(tokens * shape.cols)),
          y_(tokens * quant::panel_count(shape.rows) * quant::kPanelRows),
          factors_(tokens, 1.0f) {
      const Format format = way.format;
      const uint64_t cols = quant::padded_cols(format, shape.cols);
      const uint64_t tile = run.kernels_.gemm_tokens;
      linear_.cols = shape.cols;
      linear_.panels = quant::panel_count(shape.rows);
      linear_.int8_threshold = std::numeric_limits<float>::quiet_NaN();
      linear_.parts = {{shape.rows, 0, linear_.panels, quant::panel_bytes(format, shape.cols), cols, nullptr,
                        way.weights()}};
      run.kernels_.round_row(way.dtype(), x_.data(), x_.size());
      own_.resize(run.pool_.threads());
      for (Own& own : own_) {
        own.expand = take(std::max(plan::kColumnBlock * quant::kPanelRows, 2 * cols));
        own.sums = take(std::min<uint64_t>(plan::kTokenBlock, tokens) *
                        plan::tile_shape(run.kernels_).panels * quant::kPanelRows);
        own.rows = take(tile * cols / 2 + tile);
        own.marks = take(cols / 32 + 1);
      }
      packed_ = take((tokens + tile + kernels::kMatrixRows) * 2 * cols);
    }

    void multiply(uint32_t member, std::byte* matrix) {
      model::Linear linear = linear_;
      linear.parts[0].data = matrix;
      Own& own = own_[member];
      const model::Worker worker{&run_.kernels_,
                                 &run_.pool_,
                                 member,
                                 run_.pool_.threads(),
                                 floats(own.expand),
                                 floats(own.sums),
                                 floats(own.rows),
                                 reinterpret_cast<uint32_t*>(own.marks.data()),
                                 floats(packed_)};
      model::multiply(worker, dtype_, linear, {x_.data(), linear.cols, {}, factors_.data()}, tokens_,
                      y_.data(), linear.panels * quant::kPanelRows);
      run_.pool_.barrier();
    }

   private:
    struct Own {
      devices::Buffer expand, sums, rows, marks;
    };
    // As a model's areas are, from a line's beginning on.
    devices::Buffer take(uint64_t dwords) { return run_.device_.allocate(dwords * 4, "an area"); }
    static float* floats(const devices::Buffer& buffer) { return reinterpret_cast<float*>(buffer.data()); }

    Run& run_;
    uint32_t tokens_;
    Dtype dtype_;
    model::Linear linear_;
    std::vector<float> x_, y_, factors_;
    devices::Buffer packed_;
    std::vector<Own> own_;
  };

  // A panel is made once and copied to all the others.
  void fill(Format format, uint64_t cols, std::span<std::byte> bytes) {
    const std::vector<std::byte> panel = make_panel(format, cols);
    pool_.run([&](uint32_t member) {
      const Range mine = share(bytes.size() / panel.size(), member, pool_.threads());
      for (uint64_t i = mine.begin; i < mine.end; ++i)
        std::memcpy(bytes.data() + i * panel.size(), panel.data(), panel.size());
    });
  }

  void attend(const std::byte* cache, Shape shape, uint32_t steps, uint32_t blocks) const {
    const auto queries = static_cast<uint32_t>(shape.rows), head_dim = static_cast<uint32_t>(shape.cols);
    const uint64_t block_bytes = shape.cols * kernels::kBlockTokens * 2;
    const std::vector<float> q = small_values(shape.rows * shape.cols);
    const std::vector<uint32_t> begin(queries, 0), end(queries, kernels::kBlockTokens);
    const uint64_t room = round_up(shape.rows, kernels::kAttendRows);
    std::vector<float> m(queries, -std::numeric_limits<float>::infinity()), l(queries), o(room * shape.cols),
        scratch(room * kernels::attend_scratch(shape.cols));
    kernels::AttendBlock block{};
    block.kv_dtype = Dtype::bf16;
    block.head_dim = head_dim, block.queries = queries;
    block.q = q.data(), block.q_stride = head_dim, block.scale = 0.1f;
    block.begin = begin.data(), block.end = end.data();
    block.m = m.data(), block.l = l.data(), block.o = o.data(), block.scratch = scratch.data();
    for (uint32_t i = 0; i < steps; ++i) {
      block.k = cache + i % blocks * 2 * block_bytes;
      block.v = static_cast<const std::byte*>(block.k) + block_bytes;
      kernels_.attend_block(block);
      block.same_queries = true;
    }
  }

  void finish(KernelRow row, std::span<const double> rates, std::span<const double> limits) {
    row.rate = devices::summarize(rates);
    row.limit_rate = devices::summarize(limits).median;
    row.share = row.rate.median / row.limit_rate;
    done_(row);
    out_.rows.push_back(std::move(row));
  }

  const KernelBenchOptions& options_;
  const std::function<void(const KernelRow&)>& done_;
  KernelBench& out_;
  const kernels::Kernels& kernels_;
  ThreadPool pool_;
  devices::Device device_;
};

constexpr Way kWays[] = {{Format::f32},
                         {Format::f16},
                         {Format::bf16},
                         {Format::int8},
                         {Format::nf4},
                         {Format::nf4, Way::Numerics::int8},
                         {Format::nf4, Way::Numerics::hf_exact},
                         {Format::nf4_nested},
                         {Format::nf4_nested, Way::Numerics::int8},
                         {Format::nf4_nested, Way::Numerics::hf_exact},
                         {Format::fp4},
                         {Format::fp4_nested},
                         {Format::ternary},
                         {Format::ternary, Way::Numerics::hf_exact}};

}  // namespace

KernelBench bench_kernels(const KernelBenchOptions& options,
                          const std::function<void(const KernelRow&)>& done) {
  KernelBench out;
  Run run(options, done, out);
  run.roofline();
  for (const Way way : kWays)
    for (const Shape shape : {Shape{4096, 4096}, Shape{576, 1536}}) run.vector(way, shape);
  for (const Way way : kWays)
    for (const uint32_t tokens : {4u, 64u, 512u}) run.tokens(way, {4096, 4096}, tokens);
  for (const uint32_t head_dim : {64u, 128u})
    for (const uint32_t queries : {1u, 4u, 64u}) run.attention(head_dim, queries);
  return out;
}

}  // namespace rhapsode::runtime
