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
constexpr uint64_t kPeakRounds = 4'000'000;  // some 15 ms

template <class Work>
double seconds(Work work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// `members` of the pool's threads read their shares of data.
double read_rate(const kernels::Kernels& kernels, ThreadPool& pool, std::span<const std::byte> data,
                 uint32_t streams, uint32_t members) {
  std::atomic<uint32_t> sink{0};
  const uint64_t units = data.size() / kReadUnit;
  const double time = seconds([&] {
    pool.run([&](uint32_t member) {
      if (member >= members) return;
      const Range mine = share(units, member, members);
      const std::byte* from = data.data() + mine.begin * kReadUnit;
      const uint64_t each = (mine.end - mine.begin) / streams * kReadUnit;
      sink |= kernels.probe_read(from, streams == 2 ? from + each : nullptr, each);
    });
  });
  return static_cast<double>(units * kReadUnit) / time / 1e9;
}

double peak_rate(const kernels::Kernels& kernels, ThreadPool& pool, Instruction instruction,
                 uint32_t members) {
  uint64_t (*const probes[kInstructions])(uint64_t) = {kernels.probe_fma, kernels.probe_int16,
                                                       kernels.probe_int8, kernels.probe_int8_words};
  std::atomic<uint64_t> operations{0};
  const double time = seconds([&] {
    pool.run([&](uint32_t member) {
      if (member < members) operations += probes[static_cast<size_t>(instruction)](kPeakRounds);
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
  constexpr const char* kNames[kInstructions] = {"fp32 multiply-add", "int16 pairs", "int8 to 32 bits",
                                                 "int8 to 16 bits"};
  return kNames[static_cast<size_t>(instruction)];
}

const Rate& Roofline::peak(Instruction instruction) const {
  const Rate* const rates[kInstructions] = {&fma, &int16, &int8, &int8_words};
  return *rates[static_cast<size_t>(instruction)];
}

double measure_peak(const kernels::Kernels& kernels, ThreadPool& pool, Instruction instruction) {
  return peak_rate(kernels, pool, instruction, pool.threads());
}

Roofline measure_roofline(const kernels::Kernels& kernels, ThreadPool& pool, const RooflineOptions& options) {
  const uint64_t bytes = options.bytes_per_thread * pool.threads();
  Device device("roofline", bytes, kernels);
  const Buffer buffer = device.allocate(bytes, "the read probe");
  pool.run([&](uint32_t member) {
    const Range mine = share(bytes, member, pool.threads());
    std::memset(buffer.data() + mine.begin, 1, mine.end - mine.begin);
  });
  const std::span<const std::byte> all = buffer.bytes();
  const std::span<const std::byte> first = all.first(options.bytes_per_thread);
  std::vector<double> rates[9];
  for (uint32_t round = 0; round < options.rounds; ++round) {  // taken in turn, so that noise hits all alike
    rates[0].push_back(read_rate(kernels, pool, first, 1, 1));
    rates[1].push_back(read_rate(kernels, pool, first, 2, 1));
    rates[2].push_back(measure_read(kernels, pool, all, 1));
    rates[3].push_back(measure_read(kernels, pool, all, 2));
    rates[4].push_back(peak_rate(kernels, pool, Instruction::fma, 1));
    for (uint32_t i = 0; i < kInstructions; ++i)
      rates[5 + i].push_back(measure_peak(kernels, pool, static_cast<Instruction>(i)));
  }
  return {.read_one_thread = summarize(rates[0]),
          .read_one_thread_two_streams = summarize(rates[1]),
          .read = summarize(rates[2]),
          .read_two_streams = summarize(rates[3]),
          .fma_one_thread = summarize(rates[4]),
          .fma = summarize(rates[5]),
          .int16 = summarize(rates[6]),
          .int8 = summarize(rates[7]),
          .int8_words = summarize(rates[8])};
}

}  // namespace rhapsode::devices
