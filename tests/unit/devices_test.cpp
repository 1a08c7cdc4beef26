// Limits of devices, control groups of both versions, and the watch that ends a request when memory goes
// away.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "devices/device.h"
#include "devices/file_faults.h"
#include "devices/inventory.h"
#include "devices/memory_watch.h"
#include "kernels/kernels.h"
#include "support/scratch.h"

namespace rhapsode::devices {
namespace {

using testing::error_of;
using testing::Scratch;

TEST(Device, NeverHoldsMoreThanItsLimit) {
  Device device("0", 100 << 20, kernels::select_kernels(""));
  {
    const Buffer first = device.allocate(60 << 20, "first");
    EXPECT_EQ(first.data()[first.size_bytes() - 1], std::byte{0});
    const auto error = error_of([&] { device.allocate(50 << 20, "second"); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code, "device-full");
    const Buffer rest = device.allocate(40 << 20, "rest");
    EXPECT_EQ(device.used_bytes(), device.limit_bytes());
  }
  EXPECT_EQ(device.used_bytes(), 0u);
  EXPECT_EQ(device.peak_bytes(), device.limit_bytes());
}

// Zeros take the place of what is gone; who uses the bytes is told.
TEST(Device, AMappedFileThatIsCutShortEndsNoProcess) {
  const Scratch scratch;
  constexpr uint64_t kBytes = 40 * 4096;
  const std::string path = scratch.put("mapped", std::string(kBytes, 'x'));
  Device device("cpu", kBytes, kernels::select_kernels(""));
  for (const uint64_t left : {uint64_t{0}, uint64_t{4096}, uint64_t{30 * 4096 + 7}}) {
    std::filesystem::resize_file(path, 0);
    scratch.put("mapped", std::string(kBytes, 'x'));
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    {
      const Buffer buffer = device.map_file(fd, 0, kBytes, "a file");
      ::close(fd);
      EXPECT_EQ(buffer.data()[kBytes - 1], std::byte{'x'});
      EXPECT_FALSE(file_bytes_lost());
      std::filesystem::resize_file(path, left);
      for (uint64_t at = kBytes; at > 0; at -= 4096)
        EXPECT_EQ(buffer.data()[at - 1], at <= left ? std::byte{'x'} : std::byte{0}) << at;
      EXPECT_TRUE(file_bytes_lost());
    }
    EXPECT_FALSE(file_bytes_lost());
  }
}

// What becomes resident is what was asked for, whatever the size of a huge page.
TEST(Device, ABufferTakesNoMoreThanItsSize) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the thread sanitizer's own memory grows with what is touched";
#endif
  Device device("0", UINT64_MAX, kernels::select_kernels(""));
  const uint64_t bytes = (9 << 20) + 123;
  const uint64_t before = resident_bytes();
  const Buffer buffer = device.allocate(bytes, "a buffer");
  for (uint64_t i = 0; i < bytes; i += 4096) buffer.data()[i] = std::byte{1};
  const uint64_t grown = resident_bytes() - before;
  EXPECT_GE(grown, bytes - (1 << 20));
  EXPECT_LE(grown, bytes + (1 << 20));
}

struct Groups {
  Scratch scratch;
  CgroupMemory read(const std::string& membership, uint64_t ram = 1'000'000'000) const {
    return cgroup_memory(scratch.put("membership", membership), scratch.path().string(), ram);
  }
};

TEST(CgroupLimit, SecondVersionCountsCacheThatNothingMapsAsFree) {
  const Groups groups;
  groups.scratch.put("a/b/memory.max", "100000000\n");
  groups.scratch.put("a/b/memory.current", "60000000\n");
  groups.scratch.put("a/b/memory.stat",
                     "anon 1\ninactive_file 30000000\nactive_file 12000000\nfile_mapped 2000000\n");
  groups.scratch.put("a/memory.max", "max\n");
  groups.scratch.put("a/memory.current", "1\n");
  const CgroupMemory found = groups.read("0::/a/b\n");
  EXPECT_EQ(found.limit_bytes, 100'000'000u);
  EXPECT_EQ(found.taken_bytes, 20'000'000u);
  EXPECT_LT(found.available_bytes(), 80'000'000u);
  EXPECT_GT(found.available_bytes(), 76'000'000u);
}

TEST(CgroupLimit, FirstVersionAndTheTightestOfTheGroupsAbove) {
  const Groups groups;
  for (const auto& [path, limit] : {std::pair{"memory/a/b/", "50000000"}, {"memory/a/", "20000000"}}) {
    groups.scratch.put(std::string(path) + "memory.limit_in_bytes", limit);
    groups.scratch.put(std::string(path) + "memory.usage_in_bytes", "10000000");
    groups.scratch.put(std::string(path) + "memory.stat",
                       "total_inactive_file 4000000\ntotal_active_file 0\ntotal_mapped_file 0\n");
  }
  const CgroupMemory found = groups.read("4:memory:/a/b\n1:cpu:/\n");
  EXPECT_EQ(found.limit_bytes, 20'000'000u);
  EXPECT_EQ(found.taken_bytes, 6'000'000u);
}

TEST(CgroupLimit, NoLimitBelowTheMachinesMemoryIsNone) {
  const Groups groups;
  groups.scratch.put("memory/memory.limit_in_bytes", "9223372036854771712");
  groups.scratch.put("memory/memory.usage_in_bytes", "1");
  EXPECT_EQ(groups.read("4:memory:/\n").limit_bytes, 0u);
  EXPECT_EQ(groups.read("").limit_bytes, 0u);
}

TEST(MemoryWatch, RefusesWhenWhatIsMissingIsOutOfReach) {
  MemoryState state{600, 400};
  MemoryWatch enough(1000, [&] { return state; });
  EXPECT_NO_THROW(enough.check());
  state.reach_bytes = 399;
  MemoryWatch short_by_one(1000, [&] { return state; });
  const auto error = error_of([&] { short_by_one.check(); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind, ErrorKind::does_not_fit);
  EXPECT_EQ(error->code, "memory-pressure");
  state = {1200, 0};  // all is there already
  MemoryWatch taken(1000, [&] { return state; });
  EXPECT_NO_THROW(taken.check());
}

TEST(MemoryWatch, LooksAFewTimesASecondOnly) {
  int looks = 0;
  MemoryWatch watch(1000, [&] {
    ++looks;
    return MemoryState{1000, 0};
  });
  for (int i = 0; i < 1000; ++i) watch.check();
  EXPECT_GE(looks, 1);
  EXPECT_LT(looks, 100);
}

TEST(MemoryWatch, ReadsThisMachine) {
  const MemoryState state = memory_state();
  EXPECT_GT(state.resident_bytes, 1u << 20);
  EXPECT_GT(state.reach_bytes, 1u << 20);
}

}  // namespace
}  // namespace rhapsode::devices
