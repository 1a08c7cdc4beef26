#include "devices/roofline.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <vector>

#include "devices/device.h"

namespace rhapsode::devices {
namespace {

constexpr uint64_t kReadUnit = 4096;
constexpr uint64_t kReadPiece = 256;  // units: 1 MiB
constexpr uint64_t kPeakPieces = 64;
constexpr uint64_t kPeakRounds = 62'500;  // of a piece; all of them some 15 ms

template <class Work>
double seconds(Work work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// `members` of the pool's threads read all of data.
double read_rate(const kernels::Kernels& kernels, ThreadPool& pool, std::span<const std::byte> data,
                 uint32_t streams, uint32_t members) {
  std::atomic<uint32_t> sink{0};
  const uint64_t units = data.size() / streams / kReadUnit, far = units * kReadUnit;
  const auto read = [&](Range mine) {
    const std::byte* from = data.data() + mine.begin * kReadUnit;
    sink |=
        kernels.probe_read(from, streams == 2 ? from + far : nullptr, (mine.end - mine.begin) * kReadUnit);
  };
  const double time = seconds([&] {
    pool.run([&](uint32_t member) {
      if (members == 1 && member == 0) read({0, units});
      if (members > 1) pool.hand_out(member, units, kReadPiece, read);
    });
  });
  return static_cast<double>(far * streams) / time / 1e9;
}

double peak_rate(const kernels::Kernels& kernels, ThreadPool& pool, Instruction instruction,
                 uint32_t members) {
  uint64_t (*const probes[kInstructions])(uint64_t) = {kernels.probe_fma, kernels.probe_bf16,
                                                       kernels.probe_int16, kernels.probe_int8,
                                                       kernels.probe_int8_words};
  const auto probe = probes[static_cast<size_t>(instruction)];
  if (probe == nullptr) return 0;
  std::atomic<uint64_t> operations{0};
  const auto work = [&](Range pieces) { operations += probe(kPeakRounds * (pieces.end - pieces.begin)); };
  const double time = seconds([&] {
    pool.run([&](uint32_t member) {
      if (members == 1 && member == 0) work({0, kPeakPieces});
      if (members > 1) pool.hand_out(member, kPeakPieces * members, 1, work);
    });
  });
  return static_cast<double>(operations.load()) / time / 1e9;
}

}  // namespace

Rate summarize(std::span<const double> rates) {
  if (rates.empty()) return {};
  std::vector<double> sorted(rates.begin(), rates.end());
  std::sort(sorted.begin(), sorted.end());
  return {sorted.back(), sorted[sorted.size() / 2]};
}

double measure_read(const kernels::Kernels& kernels, ThreadPool& pool, std::span<const std::byte> data,
                    uint32_t streams) {
  return read_rate(kernels, pool, data, streams, pool.threads());
}

const char* instruction_name(Instruction instruction) {
  constexpr const char* kNames[kInstructions] = {"fp32 multiply-add", "bf16 pairs", "int16 pairs",
                                                 "int8 to 32 bits", "int8 to 16 bits"};
  return kNames[static_cast<size_t>(instruction)];
}

const char* instruction_unit(Instruction instruction) {
  const bool floats = instruction == Instruction::fma || instruction == Instruction::bf16;
  return floats ? "GFLOP/s" : "GOP/s";
}

const Rate& Roofline::peak(Instruction instruction) const {
  const Rate* const rates[kInstructions] = {&fma, &bf16, &int16, &int8, &int8_words};
  return *rates[static_cast<size_t>(instruction)];
}

double measure_peak(const kernels::Kernels& kernels, ThreadPool& pool, Instruction instruction) {
  return peak_rate(kernels, pool, instruction, pool.threads());
}

struct RooflineProbe::Impl {
  const kernels::Kernels& kernels;
  ThreadPool& pool;
  uint64_t bytes_per_thread;
  Device device;
  Buffer buffer;
  std::vector<double> read_one, read_one_two, read, read_two, fma_one, peaks[kInstructions];

  Impl(const kernels::Kernels& set, ThreadPool& team, uint64_t bytes)
      : kernels(set),
        pool(team),
        bytes_per_thread(bytes),
        device("roofline", bytes * team.threads(), set),
        buffer(device.allocate(bytes * team.threads(), "the read probe")) {}
};

RooflineProbe::RooflineProbe(const kernels::Kernels& kernels, ThreadPool& pool,
                             const RooflineOptions& options)
    : impl_(std::make_unique<Impl>(kernels, pool, options.bytes_per_thread)) {
  const std::span<std::byte> bytes = impl_->buffer.bytes();
  pool.run([&](uint32_t member) {
    const Range mine = share(bytes.size(), member, pool.threads());
    std::memset(bytes.data() + mine.begin, 1, mine.end - mine.begin);
  });
}

RooflineProbe::~RooflineProbe() = default;

void RooflineProbe::take() {
  Impl& at = *impl_;
  const std::span<const std::byte> all = at.buffer.bytes(), first = all.first(at.bytes_per_thread);
  at.read_one.push_back(read_rate(at.kernels, at.pool, first, 1, 1));
  at.read_one_two.push_back(read_rate(at.kernels, at.pool, first, 2, 1));
  at.read.push_back(measure_read(at.kernels, at.pool, all, 1));
  at.read_two.push_back(measure_read(at.kernels, at.pool, all, 2));
  at.fma_one.push_back(peak_rate(at.kernels, at.pool, Instruction::fma, 1));
  for (uint32_t i = 0; i < kInstructions; ++i)
    at.peaks[i].push_back(measure_peak(at.kernels, at.pool, static_cast<Instruction>(i)));
}

Roofline RooflineProbe::summary() const {
  const Impl& at = *impl_;
  const auto peak = [&](Instruction instruction) {
    return summarize(at.peaks[static_cast<size_t>(instruction)]);
  };
  return {.read_one_thread = summarize(at.read_one),
          .read_one_thread_two_streams = summarize(at.read_one_two),
          .read = summarize(at.read),
          .read_two_streams = summarize(at.read_two),
          .fma_one_thread = summarize(at.fma_one),
          .fma = peak(Instruction::fma),
          .bf16 = peak(Instruction::bf16),
          .int16 = peak(Instruction::int16),
          .int8 = peak(Instruction::int8),
          .int8_words = peak(Instruction::int8_words)};
}

double RooflineProbe::read_at(size_t taking) const {
  const bool one = summarize(impl_->read).median > summarize(impl_->read_two).median;
  return (one ? impl_->read : impl_->read_two).at(taking);
}

double RooflineProbe::peak_at(size_t taking, Instruction instruction) const {
  return impl_->peaks[static_cast<size_t>(instruction)].at(taking);
}

Roofline measure_roofline(const kernels::Kernels& kernels, ThreadPool& pool, const RooflineOptions& options) {
  RooflineProbe probe(kernels, pool, options);
  for (uint32_t round = 0; round < options.rounds; ++round) probe.take();
  return probe.summary();
}

}  // namespace rhapsode::devices
