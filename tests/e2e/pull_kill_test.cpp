// `pull` killed at every call that changes a file, then run again: nothing wrong ever has a final name, and
// what was there is taken up.
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <sstream>

#include "e2e/program.h"
#include "hub/hub_server.h"
#include "models/paths.h"

namespace rhapsode::testing {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMostRefetched = 8 << 20;
constexpr size_t kWeightBytes = 17 << 20;  // two stretches of 8 MiB whose hashes are noted down, and a rest
constexpr int kKilled = 256 + SIGKILL;

std::string pattern(size_t bytes) {
  std::string out(bytes, '\0');
  uint32_t state = 7;
  for (char& c : out) c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return out;
}

std::string bytes_of(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

class KilledPull {
 public:
  KilledPull()
      : server_({{"config.json", {"{\"model_type\":\"llama\"}", false}},
                 {"tokenizer.json", {"{}", false}},
                 {"model.safetensors", {pattern(kWeightBytes), true}}}) {}

  Outcome pull(const Scratch& cache, long kill_at) const {
    Launch launch;
    launch.arguments = {"pull", "org/name", "--json", "--quiet"};
    launch.environment = {{"HF_ENDPOINT", server_.endpoint()},
                          {"HF_HUB_CACHE", cache.path().string()},
                          {"LD_PRELOAD", paths::kill_shim()},
                          {"RHAPSODE_KILL_AT", std::to_string(kill_at)}};
    return run_program(launch);
  }

  // Whatever has a final name is right. Returns the bytes of the weights that are on disk.
  uint64_t expect_nothing_wrong(const Scratch& cache, const std::string& what) const {
    const fs::path root = cache.path() / "models--org--name";
    uint64_t there = 0;
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(root / "blobs", code)) {
      const std::string name = entry.path().filename().string();
      const std::string bytes = bytes_of(entry.path());
      if (name.size() == 64) {
        EXPECT_EQ(sha256_of(bytes), name) << what;
      }
      if (name.size() == 40) {
        EXPECT_EQ(git_blob_of(bytes), name) << what;
      }
      if (name.starts_with(server_.etag("model.safetensors")) && !name.ends_with("-notes"))
        there = std::max<uint64_t>(there, bytes.size());
    }
    const fs::path ref = root / "refs/main";
    if (fs::exists(ref)) {
      EXPECT_EQ(bytes_of(ref), HubServer::commit()) << what;
    }
    for (const auto& entry : fs::directory_iterator(root / "snapshots" / HubServer::commit(), code)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with(".")) continue;  // a link on its way to its name
      EXPECT_TRUE(server_.files.contains(name)) << what << ": " << name;
      if (server_.files.contains(name)) {
        EXPECT_EQ(bytes_of(entry.path()), server_.files.at(name).bytes) << what << ": " << name;
      }
    }
    return there;
  }

 private:
  HubServer server_;
};

TEST(PullKilled, AtEveryCallThatChangesAFile) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's runtime must be loaded before anything else";
#endif
  const KilledPull killed;
  long calls = 0;
  uint64_t most_refetched = 0;
  for (long n = 1;; ++n) {
    const Scratch cache;
    const std::string what = fmt::format("killed at call {}", n);
    const Outcome first = killed.pull(cache, n);
    if (first.code == 0) break;
    ASSERT_EQ(first.code, kKilled) << what << ": " << first.err;
    ++calls;
    const uint64_t there = killed.expect_nothing_wrong(cache, what);
    const Outcome second = killed.pull(cache, 0);
    ASSERT_EQ(second.code, 0) << what << ": " << second.err;
    EXPECT_EQ(killed.expect_nothing_wrong(cache, what), kWeightBytes) << what;
    const Json pulled = second.json();
    EXPECT_EQ(pulled.at("files").size(), 3u) << what;
    const uint64_t fetched = pulled.at("bytes_downloaded").get<uint64_t>();
    const uint64_t missing = kWeightBytes - std::min<uint64_t>(there, kWeightBytes);
    const uint64_t refetched = fetched - std::min(fetched, missing);
    EXPECT_LE(refetched, kMostRefetched) << what;
    most_refetched = std::max(most_refetched, refetched);
    if (HasFatalFailure()) return;
  }
  EXPECT_GE(calls, 40);
  std::cout << calls
            << " calls that change a file, killed at each: nothing wrong under a final name, at most "
            << most_refetched << " bytes fetched again\n";
}

}  // namespace
}  // namespace rhapsode::testing
