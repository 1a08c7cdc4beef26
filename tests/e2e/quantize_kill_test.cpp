// A packed cache and a written checkpoint, killed at calls that change a file, then made again: nothing torn
// ever has a final name, and nothing stays of the attempt that was killed.
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

#include "e2e/program.h"
#include "models/paths.h"

namespace rhapsode::testing {
namespace {

namespace fs = std::filesystem;

constexpr int kKilled = 256 + SIGKILL;

// name -> bytes of every file below a directory.
std::map<std::string, std::string> files_below(const fs::path& directory) {
  std::map<std::string, std::string> out;
  std::error_code code;
  for (const auto& entry : fs::recursive_directory_iterator(directory, code)) {
    if (!entry.is_regular_file()) continue;
    std::ostringstream bytes;
    bytes << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    out[fs::relative(entry.path(), directory).string()] = bytes.str();
  }
  return out;
}

bool is_temporary(const std::string& name) {
  return name.find(".partial") != std::string::npos;
}

std::map<std::string, std::string> finished(std::map<std::string, std::string> files) {
  std::erase_if(files, [](const auto& file) { return is_temporary(file.first); });
  return files;
}

// Runs the command in a fresh directory each time, killed at call 1, 2, … (further apart later on).
void kill_at_calls(const std::vector<std::string>& arguments, const std::string& option) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's runtime must be loaded before anything else";
#endif
  const auto run = [&](const Scratch& scratch, long kill_at) {
    Launch launch;
    launch.arguments = arguments;
    launch.arguments.insert(launch.arguments.end(), {option, scratch.file("place/made"), "--json", "-q"});
    launch.environment = {{"LD_PRELOAD", paths::kill_shim()}, {"RHAPSODE_KILL_AT", std::to_string(kill_at)}};
    return run_program(launch);
  };
  const Scratch clean;
  ASSERT_EQ(run(clean, 0).code, 0);
  const auto whole = files_below(clean.file("place"));
  ASSERT_FALSE(whole.empty());
  long kills = 0, left = 0;
  for (long n = 1;; n += 1 + n / 8) {
    const Scratch scratch;
    const Outcome first = run(scratch, n);
    if (first.code == 0) break;
    ASSERT_EQ(first.code, kKilled) << n << ": " << first.err;
    ++kills;
    const auto after = files_below(scratch.file("place"));
    left += static_cast<long>(after.size() - finished(after).size());
    // Whole or not there.
    if (!finished(after).empty()) {
      EXPECT_EQ(finished(after), whole) << "killed at call " << n;
    }
    const Outcome second = run(scratch, 0);
    if (option == "--out" && finished(after) == whole) {
      EXPECT_EQ(second.error_code(), "directory-not-empty") << n;
      continue;
    }
    ASSERT_EQ(second.code, 0) << n << ": " << second.err << second.out;
    EXPECT_EQ(files_below(scratch.file("place")), whole) << "killed at call " << n;
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GE(kills, 5);
  EXPECT_GT(left, 0);  // some kills do leave something, or this test says nothing
  std::cout << kills << " kills at calls that change a file, " << left << " files left by them and removed\n";
}

std::string config(const Scratch& scratch) {
  return scratch.put("tiny.yaml", tiny_yaml(fixture("golden/llama-mqa"), {"quantization: \"4bit\""}));
}

TEST(QuantizeKilled, APackedCacheIsWholeOrNotThere) {
  const Scratch scratch;
  kill_at_calls({"ppl", "-c", config(scratch), "--ids", scratch.put("ids.txt", "3 4 5 6 7 8 9")},
                "--packed-cache");
}

TEST(QuantizeKilled, AWrittenCheckpointIsWholeOrNotThere) {
  const Scratch scratch;
  kill_at_calls({"quantize", "-c", config(scratch), "--max-shard-size", "20000"}, "--out");
}

TEST(QuantizeKilled, SeveralAtOnceWriteOneCache) {
  const Scratch scratch;
  const std::string file = config(scratch), ids = scratch.put("ids.txt", "3 4 5 6 7 8 9");
  const auto run = [&] {
    return rhapsode(
        {"ppl", "-c", file, "--ids", ids, "--json", "-q", "--packed-cache", scratch.file("packed")});
  };
  std::vector<Outcome> outcomes(6);
  std::vector<std::thread> threads;
  for (Outcome& outcome : outcomes) threads.emplace_back([&] { outcome = run(); });
  for (std::thread& thread : threads) thread.join();
  for (const Outcome& outcome : outcomes) {
    EXPECT_EQ(outcome.code, 0) << outcome.err << outcome.out;
    EXPECT_EQ(outcome.out, outcomes[0].out);
  }
  const auto files = files_below(scratch.file("packed"));
  EXPECT_EQ(files.size(), 1u);
  EXPECT_EQ(finished(files).size(), 1u);
}

}  // namespace
}  // namespace rhapsode::testing
