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
constexpr uint64_t kFmaRounds = 4'000'000;  // some 15 ms

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

double fma_rate(const kernels::Kernels& kernels, ThreadPool& pool, uint32_t members) {
  std::atomic<uint64_t> operations{0};
  const double time = seconds([&] {
    pool.run([&](uint32_t member) {
      if (member < members) operations += kernels.probe_fma(kFmaRounds);
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

double measure_fma(const kernels::Kernels& kernels, ThreadPool& pool) {
  return fma_rate(kernels, pool, pool.threads());
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
  std::vector<double> rates[6];
  for (uint32_t round = 0; round < options.rounds; ++round) {  // taken in turn, so that noise hits all alike
    rates[0].push_back(read_rate(kernels, pool, first, 1, 1));
    rates[1].push_back(read_rate(kernels, pool, first, 2, 1));
    rates[2].push_back(measure_read(kernels, pool, all, 1));
    rates[3].push_back(measure_read(kernels, pool, all, 2));
    rates[4].push_back(fma_rate(kernels, pool, 1));
    rates[5].push_back(fma_rate(kernels, pool, pool.threads()));
  }
  return {.read_one_thread = summarize(rates[0]),
          .read_one_thread_two_streams = summarize(rates[1]),
          .read = summarize(rates[2]),
          .read_two_streams = summarize(rates[3]),
          .fma_one_thread = summarize(rates[4]),
          .fma = summarize(rates[5])};
}

}  // namespace rhapsode::devices
