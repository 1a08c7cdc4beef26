#include <gtest/gtest.h>

#include <vector>

#include "devices/roofline.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

TEST(KernelsProbe, AReadTouchesEveryByteOfBothStreams) {
  constexpr uint64_t kBytes = 1024;
  for (const KernelSet& entry : kernel_sets()) {
    if (!entry.supported) continue;
    std::vector<uint8_t> a(kBytes), b(kBytes);
    EXPECT_EQ(entry.kernels->probe_read(a.data(), b.data(), kBytes), 0u);
    for (uint64_t i = 0; i < kBytes; ++i) {
      a[i] = 1;
      EXPECT_NE(entry.kernels->probe_read(a.data(), nullptr, kBytes), 0u)
          << entry.kernels->name << " byte " << i;
      std::swap(a, b);
      EXPECT_EQ(entry.kernels->probe_read(a.data(), nullptr, kBytes), 0u);
      EXPECT_NE(entry.kernels->probe_read(a.data(), b.data(), kBytes), 0u)
          << entry.kernels->name << " byte " << i;
      b[i] = 0;
      std::swap(a, b);
    }
  }
}

TEST(KernelsProbe, MultiplyAddsAreCounted) {
  for (const KernelSet& entry : kernel_sets()) {
    if (!entry.supported) continue;
    for (const auto probe : {entry.kernels->probe_fma, entry.kernels->probe_bf16, entry.kernels->probe_int16,
                             entry.kernels->probe_int8, entry.kernels->probe_int8_words}) {
      if (probe == nullptr) continue;  // bf16 of most sets
      EXPECT_EQ(probe(10), 10 * probe(1));
      EXPECT_GT(probe(1), 0u);
    }
  }
}

TEST(Roofline, RatesArePositiveAndMediansAreNotAboveTheBest) {
  ThreadPool pool(2);
  const devices::Roofline r =
      devices::measure_roofline(select_kernels(), pool, {.bytes_per_thread = 1 << 20, .rounds = 3});
  for (const devices::Rate& rate :
       {r.read_one_thread, r.read_one_thread_two_streams, r.read, r.read_two_streams, r.fma_one_thread, r.fma,
        r.int16, r.int8, r.int8_words}) {
    EXPECT_GT(rate.median, 0.0);
    EXPECT_GE(rate.best, rate.median);
  }
}

TEST(Roofline, SummaryIsTheBestAndTheMiddle) {
  const double rates[] = {3.0, 9.0, 1.0, 5.0, 4.0};
  EXPECT_EQ(devices::summarize(rates).best, 9.0);
  EXPECT_EQ(devices::summarize(rates).median, 4.0);
  EXPECT_EQ(devices::summarize({}).best, 0.0);
}

}  // namespace
}  // namespace rhapsode::kernels
