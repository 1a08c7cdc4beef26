#include "base/atomic_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "base/error.h"
#include "support/scratch.h"

namespace rhapsode {
namespace {

namespace fs = std::filesystem;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string read(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

// Temporary names that the next attempts of this process would take, as a killed process of the same id
// leaves them: in a container ids repeat.
void leave_next_names(const std::string& path, bool directories) {
  uint64_t number = 0;
  {
    const AtomicFile probe(path);
    const std::string name = names_in(fs::path(path).parent_path()).front();
    const size_t dash = name.rfind('-');
    number = std::stoull(name.substr(dash + 1));
  }
  for (uint64_t i = 1; i <= 3; ++i) {
    const std::string name =
        path + "." + std::to_string(::getpid()) + "-" + std::to_string(number + i) + AtomicFile::kExtension;
    if (directories) {
      fs::create_directory(name);
      std::ofstream(name + "/file") << "left";
    } else {
      std::ofstream(name) << "left";
    }
  }
}

TEST(AtomicFile, ANameThatAKilledProcessLeftIsPassedOver) {
  const testing::Scratch scratch;
  const std::string path = scratch.file("weights");
  leave_next_names(path, false);
  AtomicFile file(path);
  file.append(bytes_of("whole"));
  file.commit();
  EXPECT_EQ(read(path), "whole");
}

TEST(AtomicFile, WhatIsAbandonedIsToldFromWhatIsWritten) {
  const testing::Scratch scratch;
  const std::string path = scratch.file("weights");
  leave_next_names(path, false);
  std::ofstream(path + ".partial.txt") << "not ours";
  std::ofstream(scratch.file("weights-2.1-0.partial")) << "of another file";
  std::optional<AtomicFile> written(std::in_place, path);
  std::string live;
  for (const std::string& name : names_in(scratch.path()))
    if (name.ends_with(AtomicFile::kExtension) && !is_abandoned(scratch.file(name))) live = name;
  ASSERT_FALSE(live.empty());
  remove_abandoned(path);
  EXPECT_EQ(names_in(scratch.path()),
            (std::vector<std::string>{"weights-2.1-0.partial", live, "weights.partial.txt"}));
  written->append(bytes_of("whole"));
  written->commit();
  EXPECT_EQ(read(path), "whole");
}

TEST(AtomicDirectory, AppearsWholeOrNotAtAll) {
  const testing::Scratch scratch;
  const std::string path = scratch.file("model");
  leave_next_names(path, true);
  {
    const AtomicDirectory given_up(path);
    std::ofstream(given_up.path() + "/file") << "half";
  }
  EXPECT_FALSE(fs::exists(path));
  {
    AtomicDirectory directory(path);
    std::ofstream(directory.path() + "/file") << "whole";
    EXPECT_FALSE(is_abandoned(directory.path()));
    remove_abandoned(path);
    EXPECT_EQ(names_in(scratch.path()).size(), 1u);
    EXPECT_TRUE(directory.commit());
  }
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"model"});
  EXPECT_EQ(read(path + "/file"), "whole");
}

TEST(AtomicDirectory, NeverReplacesWhatIsThere) {
  const testing::Scratch scratch;
  const std::string path = scratch.file("model");
  AtomicDirectory directory(path);
  fs::create_directory(path);
  std::ofstream(path + "/file") << "of another";
  EXPECT_FALSE(directory.commit());
  EXPECT_EQ(read(path + "/file"), "of another");
  fs::remove(path + "/file");
  EXPECT_TRUE(directory.commit());
}

TEST(AtomicDirectory, APlaceThatCannotBeIsAnError) {
  const testing::Scratch scratch;
  try {
    const AtomicDirectory directory(scratch.file("nowhere/model"));
    FAIL() << "made in a directory that is not there";
  } catch (const Error& error) {
    EXPECT_EQ(error.code, "cannot-create");
  }
}

}  // namespace
}  // namespace rhapsode
