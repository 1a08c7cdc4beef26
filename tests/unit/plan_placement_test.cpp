// Placement with all bytes counted, on a model small enough to follow by hand: an embedding, four blocks, a
// norm and a head; and the limits that it is placed within.
#include <gtest/gtest.h>

#include "plan/memory_limits.h"
#include "plan/placement.h"

namespace rhapsode::plan {
namespace {

using config::DeviceName;
using config::Strategy;
using Kind = DeviceName::Kind;
using Homes = std::vector<size_t>;

const DeviceName kCpu{Kind::cpu, 0}, kDisk{Kind::disk, 0};
DeviceName gpu(uint32_t index) {
  return {Kind::gpu, index};
}

// Blocks of 1,000 bytes with 100 of keys and values; embedding and head of 500; a norm of 64; 200 bytes of
// workspace, 300 where the head is.
PlacementProblem tiny(std::vector<DeviceLimit> devices) {
  PlacementProblem problem;
  problem.units.push_back({UnitKind::embed, {"embed"}, 0, 512, 0, 0});
  for (uint64_t i = 0; i < 4; ++i)
    problem.units.push_back({UnitKind::layer, {"layers." + std::to_string(i)}, i, 896, 128, 100});
  problem.units.push_back({UnitKind::norm, {"norm"}, 0, 64, 0, 0});
  problem.units.push_back({UnitKind::head, {"head"}, 0, 512, 0, 0});
  problem.devices = std::move(devices);
  problem.step_workspace_bytes = 200;
  problem.head_workspace_bytes = 300;
  return problem;
}

constexpr uint64_t kAll = 512 + 4 * 1124 + 64 + 512 + 300;

TEST(Placement, OneDeviceHoldsEverythingDownToTheByte) {
  const Placement fits = place(tiny({{kCpu, kAll, 0, false}}), Strategy::automatic);
  EXPECT_TRUE(fits.fits());
  EXPECT_EQ(fits.devices[0].total_bytes(), kAll);
  EXPECT_EQ(fits.devices[0].quant_metadata_bytes, 4u * 128);
  const Placement not_quite = place(tiny({{kCpu, kAll - 1, 0, false}}), Strategy::automatic);
  EXPECT_FALSE(not_quite.fits());
  EXPECT_EQ(not_quite.bytes_short, 1u);
}

TEST(Placement, WhatTheProcessHoldsCounts) {
  EXPECT_TRUE(place(tiny({{kCpu, kAll + 50, 50, false}}), Strategy::automatic).fits());
  EXPECT_EQ(place(tiny({{kCpu, kAll + 50, 51, false}}), Strategy::automatic).bytes_short, 1u);
}

TEST(Placement, StrategiesFillAsTheirNamesSay) {
  const std::vector<DeviceLimit> two = {
      {gpu(0), 100'000, 0, false}, {gpu(1), 100'000, 0, false}, {kCpu, 0, 0, false}};
  EXPECT_EQ(place(tiny(two), Strategy::sequential).home, (Homes{0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(place(tiny(two), Strategy::balanced).home, (Homes{0, 0, 0, 1, 1, 1, 1}));
  EXPECT_EQ(place(tiny(two), Strategy::automatic).home, place(tiny(two), Strategy::balanced).home);
  EXPECT_EQ(place(tiny(two), Strategy::balanced_low_0).home, (Homes{1, 1, 1, 1, 1, 1, 1}));
}

TEST(Placement, NothingSpillsUnlisted) {
  const Placement refused =
      place(tiny({{gpu(0), 3000, 0, false}, {kCpu, 100'000, 0, false}, {kDisk, UINT64_MAX, 0, false}}),
            Strategy::automatic);
  EXPECT_FALSE(refused.fits());
}

// Two blocks are brought in turn into two buffers; where only one buffer has room there is one.
TEST(Placement, OffloadsWithTwoBuffersOrOne) {
  const auto limited = [](uint64_t bytes) {
    return place(tiny({{gpu(0), bytes, 0, false}, {kCpu, 100'000, 0, true}, {kDisk, UINT64_MAX, 0, false}}),
                 Strategy::automatic);
  };
  const uint64_t kept = 512 + 2 * 1124;                   // embedding and two blocks
  const uint64_t rest = 2 * 100 + 64 + 300;               // keys and values, norm and workspace of the others
  const Placement two = limited(kept + rest + 2 * 1024);  // two blocks and the head take the buffers in turn
  ASSERT_TRUE(two.fits());
  EXPECT_EQ(two.home, (Homes{0, 0, 0, 1, 1, 1, 1}));
  EXPECT_EQ(two.exec, Homes(7, 0));
  EXPECT_EQ(two.staging_bytes, (std::array<uint64_t, 2>{1024, 1024}));
  EXPECT_LE(two.devices[0].total_bytes(), two.devices[0].limit_bytes);
  const Placement one = limited(512 + 4 * 100 + 64 + 300 + 1024);
  ASSERT_TRUE(one.fits());
  EXPECT_EQ(one.home, (Homes{0, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(one.staging_bytes, (std::array<uint64_t, 2>{1024, 0}));
  EXPECT_EQ(one.devices[0].total_bytes(), one.devices[0].limit_bytes);
  // Not even one: the cpu, which is listed, does it all.
  EXPECT_EQ(limited(512 + 4 * 100 + 64 + 300 + 1023).exec, Homes(7, 1));
}

TEST(Placement, WhatTheCpuHasNoRoomForGoesToTheDisk) {
  const Placement placed =
      place(tiny({{gpu(0), 4500, 0, false}, {kCpu, 1100, 0, true}, {kDisk, UINT64_MAX, 0, true}}),
            Strategy::automatic);
  ASSERT_TRUE(placed.fits());
  EXPECT_NE(std::count(placed.home.begin(), placed.home.end(), 1u), 0);
  EXPECT_NE(std::count(placed.home.begin(), placed.home.end(), 2u), 0);
  EXPECT_LE(placed.devices[1].total_bytes(), 1100u);
}

TEST(Placement, AMapIsCountedAsItIsWritten) {
  const PlacementProblem problem = tiny({{gpu(0), 100'000, 0, false},
                                         {gpu(1), 100'000, 0, false},
                                         {kCpu, 100'000, 0, false},
                                         {kDisk, UINT64_MAX, 0, false}});
  const Placement placed = settle(problem, {2, 0, 1, 3, 2, 1, 1});
  EXPECT_EQ(placed.exec, (Homes{0, 0, 1, 0, 0, 1, 1}));
  EXPECT_EQ(placed.devices[0].weights_bytes, 896u);
  EXPECT_EQ(placed.devices[0].kv_bytes, 300u);
  EXPECT_EQ(placed.devices[0].staging_bytes, 2048u);
  EXPECT_EQ(placed.devices[1].total_bytes(), 1124u + 64 + 512 + 300);
  EXPECT_EQ(placed.devices[2].total_bytes(), 512u + 1024);
  EXPECT_EQ(placed.devices[3].total_bytes(), 1024u);
}

config::ModelEntry entry_with(std::vector<std::pair<DeviceName, uint64_t>> max_memory) {
  config::ModelEntry entry;
  for (const auto& [name, bytes] : max_memory) entry.max_memory.push_back({name, {bytes, {}}});
  return entry;
}

TEST(MemoryLimits, AreTheSmallerOfMachineAndUser) {
  const MachineMemory machine{config::Machine{{8000, 8000}, 20'000, 100'000}, 1, 7};
  const MemoryLimits free = memory_limits({}, machine, true);
  ASSERT_EQ(free.devices.size(), 4u);
  EXPECT_EQ(free.devices[0].limit_bytes, 8000u);
  EXPECT_EQ(free.devices[2].limit_bytes, 20'000u);
  EXPECT_EQ(free.devices[2].process_bytes, 0u);  // a virtual cpu holds what is put there
  EXPECT_FALSE(free.devices[2].listed);
  EXPECT_EQ(free.devices[3].limit_bytes, 100'000u);
  EXPECT_FALSE(free.user_given);
  const MemoryLimits limited =
      memory_limits(entry_with({{gpu(0), 5000}, {kCpu, 50'000}, {kDisk, 9}}), machine, true);
  EXPECT_EQ(limited.devices[0].limit_bytes, 5000u);
  EXPECT_EQ(limited.devices[1].limit_bytes, 0u);  // not listed: unused, and told
  EXPECT_EQ(limited.devices[2].limit_bytes, 20'000u);
  EXPECT_TRUE(limited.devices[2].listed);
  EXPECT_EQ(limited.devices[3].limit_bytes, 9u);
  EXPECT_TRUE(limited.devices[3].listed);
  ASSERT_EQ(limited.notes.size(), 1u);
  EXPECT_EQ(limited.notes[0].what, "device 1");
  const MemoryLimits weights_only = memory_limits(entry_with({{gpu(0), 5000}}), machine, false);
  EXPECT_EQ(weights_only.devices[0].limit_bytes, 8000u);
  EXPECT_EQ(weights_only.budgets.at(gpu(0)), 5000.0);
}

TEST(MemoryLimits, MaxMemoryWinsOverMaxGpuMemory) {
  config::ModelEntry entry = entry_with({{gpu(1), 3000}});
  entry.max_gpu_memory = config::Value<uint64_t>{6000, {}};
  const MemoryLimits limits = memory_limits(entry, {config::Machine{{8000, 8000}, 1000, {}}, 0, 0}, true);
  EXPECT_EQ(limits.devices[0].limit_bytes, 6000u);
  EXPECT_EQ(limits.devices[1].limit_bytes, 3000u);
}

TEST(MemoryLimits, OfThisMachineCountTheProcessAndNoGpus) {
  config::ModelEntry entry = entry_with({{gpu(0), 3000}});
  entry.max_gpu_memory = config::Value<uint64_t>{6000, {}};
  const MemoryLimits limits = memory_limits(entry, {std::nullopt, 1000, 70}, true);
  ASSERT_EQ(limits.devices.size(), 2u);
  EXPECT_EQ(limits.devices[0].limit_bytes, 1070u);
  EXPECT_EQ(limits.devices[0].process_bytes, 70u);
  EXPECT_EQ(limits.notes.size(), 2u);  // both say that nothing follows from them
}

}  // namespace
}  // namespace rhapsode::plan
