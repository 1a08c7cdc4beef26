#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"

namespace rhapsode {
namespace {

TEST(ThreadPool, EveryMemberRunsOnce) {
  for (uint32_t threads : {1u, 2u, 3u, 8u}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    std::vector<uint32_t> calls(threads, 0);
    for (uint32_t round = 1; round <= 200; ++round) {
      pool.run([&](uint32_t member) { ++calls[member]; });
      for (uint32_t count : calls) ASSERT_EQ(count, round);
    }
  }
}

TEST(ThreadPool, BarrierOrdersPhases) {
  ThreadPool pool(3);
  std::vector<uint64_t> written(3, 0);
  pool.run([&](uint32_t member) {
    for (uint64_t phase = 1; phase <= 300; ++phase) {
      written[member] = phase;
      pool.barrier();
      for (uint64_t value : written) ASSERT_EQ(value, phase);
      pool.barrier();
    }
  });
}

TEST(ThreadPool, HandOutGivesEachPieceToOneMember) {
  for (uint32_t threads : {1u, 2u, 3u, 8u}) {
    ThreadPool pool(threads);
    for (uint64_t most : {1u, 2u, 5u}) {
      std::vector<uint32_t> lengths;
      for (uint32_t n = 0; n < 40; ++n) lengths.push_back(n * n % 37);
      std::vector<std::vector<std::atomic<uint32_t>>> taken;
      for (const uint32_t n : lengths) taken.emplace_back(n);
      pool.run([&](uint32_t member) {
        // No barrier between the turns: a fast member is ahead of the others.
        for (size_t turn = 0; turn < lengths.size(); ++turn)
          pool.hand_out(member, lengths[turn], most, [&](Range piece) {
            ASSERT_LT(piece.begin, piece.end);
            ASSERT_LE(piece.end - piece.begin, most);
            for (uint64_t i = piece.begin; i < piece.end; ++i) ++taken[turn][i];
          });
      });
      for (const auto& turn : taken)
        for (const auto& count : turn) ASSERT_EQ(count, 1u);
    }
  }
}

TEST(ThreadPool, HandOutTurnsMayOutnumberTheirNumbers) {
  ThreadPool pool(2);
  std::atomic<uint64_t> sum{0};
  constexpr uint64_t kTurns = 70'000;  // numbers have 16 bits; the second member's share is empty
  pool.run([&](uint32_t member) {
    for (uint64_t turn = 0; turn < kTurns; ++turn) {
      pool.hand_out(member, 1, 1, [&](Range piece) { sum += piece.end; });
      if (turn % 1000 == 0) pool.barrier();
    }
  });
  EXPECT_EQ(sum, kTurns);
}

TEST(ThreadPool, HandOutTakesOverWhatASlowMemberHasLeft) {
  ThreadPool pool(2);
  std::atomic<bool> others_done{false};
  std::atomic<uint32_t> of_second{0};
  pool.run([&](uint32_t member) {
    if (member == 0) {
      pool.hand_out(member, 100, 1, [&](Range) {
        while (!others_done) std::this_thread::yield();  // its first piece lasts until all others are taken
      });
      return;
    }
    pool.hand_out(member, 100, 1, [&](Range) {
      if (++of_second == 99) others_done = true;
    });
    others_done = true;
  });
  EXPECT_GE(of_second, 98u);
}

TEST(ThreadPool, HandOutWorksAgainAfterAFailedRegion) {
  ThreadPool pool(2);
  EXPECT_THROW(pool.run([&](uint32_t member) {
    if (member == 1) throw std::runtime_error("before its turns");
    for (int turn = 0; turn < 5; ++turn) pool.hand_out(member, 10, 3, [](Range) {});
  }),
               std::runtime_error);
  std::atomic<uint64_t> taken{0};
  pool.run([&](uint32_t member) {
    for (int turn = 0; turn < 5; ++turn)
      pool.hand_out(member, 10, 3, [&](Range piece) { taken += piece.end - piece.begin; });
  });
  EXPECT_EQ(taken, 50u);
}

TEST(ThreadPool, TheFirstMembersExceptionIsRethrownAndThePoolLivesOn) {
  ThreadPool pool(3);
  for (int round = 0; round < 20; ++round) {
    try {
      pool.run([&](uint32_t member) {
        if (member > 0) throw std::runtime_error("member " + std::to_string(member));
      });
      FAIL() << "no exception";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "member 1");
    }
    std::atomic<uint32_t> calls{0};
    pool.run([&](uint32_t) { ++calls; });
    EXPECT_EQ(calls, 3u);
  }
}

TEST(ThreadPool, AFailedMemberReleasesThoseAtTheBarrier) {
  ThreadPool pool(3);
  for (uint32_t failing : {0u, 1u, 2u}) {
    EXPECT_THROW(pool.run([&](uint32_t member) {
      if (member == failing) throw std::runtime_error("stop");
      pool.barrier();
      ADD_FAILURE() << "member " << member << " passed a barrier that was never complete";
    }),
                 std::runtime_error);
    std::atomic<uint32_t> passed{0};
    pool.run([&](uint32_t) {
      pool.barrier();
      ++passed;
    });
    EXPECT_EQ(passed, 3u);
  }
}

TEST(ThreadPool, AnIdlePoolUsesNoCpu) {
  ThreadPool pool(2);
  pool.run([](uint32_t) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const auto cpu_ms = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
  };
  const long before = cpu_ms();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(cpu_ms() - before, 40);
}

TEST(ThreadPool, NoThreadsIsAnError) {
  EXPECT_THROW(ThreadPool(0), Error);
}

TEST(ThreadPool, SharesCoverEverythingOnce) {
  for (uint64_t n : {0u, 1u, 7u, 100u}) {
    uint64_t next = 0;
    for (uint32_t member = 0; member < 3; ++member) {
      const Range range = share(n, member, 3);
      EXPECT_EQ(range.begin, next);
      next = range.end;
    }
    EXPECT_EQ(next, n);
  }
}

class Cgroup : public testing::Test {
 protected:
  std::filesystem::path root =
      std::filesystem::temp_directory_path() / ("cgroup-" + std::to_string(getpid()));
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text;
  }
  uint32_t cores() { return cgroup_quota_cores((root / "self").string(), (root / "fs").string()); }
  void TearDown() override { std::filesystem::remove_all(root); }
};

TEST_F(Cgroup, Version2TakesTheTightestLevelAndRoundsUp) {
  write("self", "0::/a/b\n");
  write("fs/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(cores(), 0u);
  write("fs/a/cpu.max", "150000 100000\n");
  EXPECT_EQ(cores(), 2u);
  write("fs/cpu.max", "50000 100000\n");
  EXPECT_EQ(cores(), 1u);
}

TEST_F(Cgroup, Version1ReadsQuotaAndPeriod) {
  write("self", "5:cpuset:/x\n4:cpu,cpuacct:/pod\n");
  write("fs/cpu,cpuacct/pod/cpu.cfs_quota_us", "-1\n");
  write("fs/cpu,cpuacct/pod/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cores(), 0u);
  write("fs/cpu,cpuacct/pod/cpu.cfs_quota_us", "300000\n");
  EXPECT_EQ(cores(), 3u);
}

TEST_F(Cgroup, NothingReadableIsNoLimit) {
  EXPECT_EQ(cores(), 0u);
}

TEST(UsableCores, IsAtLeastOneAndAtMostTheMachine) {
  EXPECT_GE(usable_cores(), 1u);
  EXPECT_LE(usable_cores(), std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace
}  // namespace rhapsode
