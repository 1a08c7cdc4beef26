// --machine and the key `devices`: every form, and every mistake with a word about it.
#include <gtest/gtest.h>

#include "config/machine.h"

namespace rhapsode::config {
namespace {

constexpr uint64_t kGb = 1'000'000'000, kGib = uint64_t{1} << 30;

Machine read(std::string_view text) {
  std::string problem;
  const auto machine = parse_machine(text, problem);
  EXPECT_TRUE(machine) << text << ": " << problem;
  return machine.value_or(Machine{});
}

TEST(Machine, ReadsEveryForm) {
  EXPECT_EQ(read("2x8GB,cpu=20GB,disk=100GB"), (Machine{{8 * kGb, 8 * kGb}, 20 * kGb, 100 * kGb}));
  EXPECT_EQ(read("8GB+24GB,cpu=64GB"), (Machine{{8 * kGb, 24 * kGb}, 64 * kGb, std::nullopt}));
  EXPECT_EQ(read("2x8GB+1x24GiB"), (Machine{{8 * kGb, 8 * kGb, 24 * kGib}, std::nullopt, std::nullopt}));
  EXPECT_EQ(read("cpu=20GB"), (Machine{{}, 20 * kGb, std::nullopt}));
  EXPECT_EQ(read(" 8GB , cpu=20GB "), (Machine{{8 * kGb}, 20 * kGb, std::nullopt}));
  EXPECT_EQ(read("disk=1GB,cpu=2GB,3x1MB"), (Machine{{1'000'000, 1'000'000, 1'000'000}, 2 * kGb, kGb}));
  EXPECT_EQ(read("64x1GB").gpu_bytes.size(), kMostGpus);
}

TEST(Machine, SaysWhatIsWrongWithWhichPiece) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "no device is named"},
      {"8GB,", "nothing beside"},
      {"eight", "'eight'"},
      {"2x", "'2x': a size is missing"},
      {"1TB", "units: GB, MB"},
      {"8GB,cpu", "cpu=20GB"},
      {"0GB", "'0GB': a device without memory"},
      {"-1GB", "'-1GB'"},
      {"8Gb", "bits"},
      {"0x8GB", "count"},
      {"x8GB", "count"},
      {"1.5x8GB", "count"},
      {"99999999999999999999x8GB", "count"},
      {"65x1GB", "at most 64"},
      {"64x1GB+1GB", "at most 64"},
      {"8GB,8GB", "joined by +"},
      {"8GB,gpu=8GB", "only cpu= and disk="},
      {"CPU=8GB", "only cpu= and disk="},
      {"cpu=", "'cpu='"},
      {"cpu=1GB,cpu=2GB", "cpu is given twice"},
      {"disk=1GB,disk=1GB", "disk is given twice"},
      {"8GB+,cpu=1GB", "'8GB+'"},
      {"99999999999999999999GB", "'99999999999999999999GB'"},
  };
  for (const auto& [text, word] : cases) {
    std::string problem;
    EXPECT_FALSE(parse_machine(text, problem)) << text;
    EXPECT_NE(problem.find(word), std::string::npos) << text << ": " << problem;
  }
}

}  // namespace
}  // namespace rhapsode::config
