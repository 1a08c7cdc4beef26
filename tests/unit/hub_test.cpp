#include "hub/hub.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "support/scratch.h"

namespace rhapsode::hub {
namespace {

using testing::error_of;
using testing::Scratch;
namespace fs = std::filesystem;

const std::string kCommit(40, 'a');
const std::string kOther(40, 'b');

HubSettings settings_of(const std::map<std::string, std::string>& environment) {
  return hub_settings([&](const std::string& name) -> std::optional<std::string> {
    const auto at = environment.find(name);
    return at == environment.end() ? std::nullopt : std::optional(at->second);
  });
}

// A cache as the hub's client leaves it: blobs, links to them, refs.
struct Cache {
  Scratch scratch;
  HubSettings settings{scratch.path().string(), true};
  fs::path repository(const std::string& folder) const { return scratch.path() / folder; }
  void add(const std::string& folder, const std::string& commit, const std::string& blob = "etag1") const {
    scratch.put(folder + "/blobs/" + blob, "{}");
    fs::create_directories(repository(folder) / "snapshots" / commit);
    fs::create_symlink("../../blobs/" + blob, repository(folder) / "snapshots" / commit / "config.json");
  }
  std::string snapshot(const std::string& folder, const std::string& commit) const {
    return (repository(folder) / "snapshots" / commit).string();
  }
};

TEST(HubSettings, FollowTheOrderOfTheHubsClient) {
  std::map<std::string, std::string> e{{"HOME", "/h"}};
  EXPECT_EQ(settings_of(e).cache_directory, "/h/.cache/huggingface/hub");
  e["XDG_CACHE_HOME"] = "/x";
  EXPECT_EQ(settings_of(e).cache_directory, "/x/huggingface/hub");
  e["HF_HOME"] = "~/hf";
  EXPECT_EQ(settings_of(e).cache_directory, "/h/hf/hub");
  e["HUGGINGFACE_HUB_CACHE"] = "$XDG_CACHE_HOME/old";
  EXPECT_EQ(settings_of(e).cache_directory, "/x/old");
  e["HF_HUB_CACHE"] = "${HOME}/new$";
  EXPECT_EQ(settings_of(e).cache_directory, "/h/new$");
  e["HF_HUB_CACHE"] = "/a/$UNSET/${b";
  EXPECT_EQ(settings_of(e).cache_directory, "/a/$UNSET/${b");
  e["HF_HUB_CACHE"] = "";
  EXPECT_EQ(settings_of(e).cache_directory, "/x/old");
}

TEST(HubSettings, OfflineIsOneOfFourWords) {
  for (const char* word : {"1", "on", "Yes", "TRUE"}) {
    EXPECT_TRUE(settings_of({{"HOME", "/h"}, {"HF_HUB_OFFLINE", word}}).offline) << word;
    EXPECT_TRUE(settings_of({{"HOME", "/h"}, {"TRANSFORMERS_OFFLINE", word}}).offline) << word;
  }
  for (const char* word : {"0", "", "no", "2", "true "})
    EXPECT_FALSE(settings_of({{"HOME", "/h"}, {"HF_HUB_OFFLINE", word}}).offline) << word;
  EXPECT_FALSE(settings_of({{"HOME", "/h"}}).offline);
}

TEST(HubSettings, AnEndpointThatIsNoAddressIsAMistakeOfTheEnvironment) {
  EXPECT_EQ(settings_of({{"HOME", "/h"}, {"HF_ENDPOINT", "http://127.0.0.1:8080//"}}).endpoint,
            "http://127.0.0.1:8080");
  for (const char* endpoint : {"ftp://x", "http://127.0.0.1:1x", "http://", "https://a b", "https://u@h",
                               "https://h?q", "huggingface.co"}) {
    const auto error = error_of([&] { settings_of({{"HOME", "/h"}, {"HF_ENDPOINT", endpoint}}); });
    ASSERT_TRUE(error) << endpoint;
    EXPECT_EQ(error->kind, ErrorKind::config) << endpoint;
    EXPECT_EQ(error->path, "HF_ENDPOINT");
  }
}

TEST(Hub, ADirectoryIsItself) {
  const Scratch scratch;
  scratch.put("model/config.json", "{}");
  EXPECT_EQ(resolve_model(scratch.file("model"), "", {}), scratch.file("model"));
  fs::create_directory(scratch.path() / "bare");
  const auto error = error_of([&] { resolve_model(scratch.file("bare"), "", {}); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind, ErrorKind::not_found);
}

TEST(Hub, FindsSnapshotsByBranchTagCommitAndNestedRef) {
  const Cache cache;
  cache.add("models--org--name", kCommit);
  cache.add("models--org--name", kOther);
  cache.add("models--gpt2", kCommit);
  cache.scratch.put("models--org--name/refs/main", kCommit);
  cache.scratch.put("models--org--name/refs/v1.0", kOther + "\n");
  cache.scratch.put("models--org--name/refs/refs/pr/1", kOther);
  cache.scratch.put("models--gpt2/refs/main", kCommit);
  const auto resolve = [&](const std::string& id, const std::string& revision) {
    return resolve_model(id, revision, cache.settings);
  };
  EXPECT_EQ(resolve("org/name", ""), cache.snapshot("models--org--name", kCommit));
  EXPECT_EQ(resolve("org/name", "main"), cache.snapshot("models--org--name", kCommit));
  EXPECT_EQ(resolve("org/name", "v1.0"), cache.snapshot("models--org--name", kOther));
  EXPECT_EQ(resolve("org/name", "refs/pr/1"), cache.snapshot("models--org--name", kOther));
  EXPECT_EQ(resolve("org/name", kOther), cache.snapshot("models--org--name", kOther));
  EXPECT_EQ(resolve("gpt2", ""), cache.snapshot("models--gpt2", kCommit));
}

TEST(Hub, AMissNamesEveryPlaceSearched) {
  const Cache cache;
  const auto miss = [&](const std::string& id, const std::string& revision) {
    const auto error = error_of([&] { resolve_model(id, revision, cache.settings); });
    EXPECT_TRUE(error);
    EXPECT_EQ(error->kind, ErrorKind::network);
    EXPECT_EQ(error->code, "model-not-cached");
    EXPECT_FALSE(error->file.empty());
    return error->found;
  };
  EXPECT_NE(miss("org/name", "").find(cache.repository("models--org--name").string()), std::string::npos);
  EXPECT_NE(miss("org/name", "").find("org/name (no such directory)"), std::string::npos);
  cache.add("models--org--name", kCommit);
  EXPECT_NE(miss("org/name", "dev").find(cache.repository("models--org--name").string() + "/refs/dev"),
            std::string::npos);
  EXPECT_NE(miss("org/name", kOther).find(cache.snapshot("models--org--name", kOther)), std::string::npos);
  cache.scratch.put("models--org--name/refs/main", kCommit);
  fs::remove(cache.repository("models--org--name") / "blobs/etag1");  // a link whose blob is gone
  EXPECT_NE(miss("org/name", "main").find("a link to a file that is gone"), std::string::npos);
  fs::remove(cache.repository("models--org--name") / "snapshots" / kCommit / "config.json");
  EXPECT_NE(miss("org/name", "main").find("the snapshot lacks it"), std::string::npos);
}

TEST(Hub, ARefThatNamesNoCommitIsDamage) {
  const Cache cache;
  cache.add("models--org--name", kCommit);
  for (const std::string& text : {std::string("../../x"), std::string(""), std::string(39, 'a'),
                                  std::string(41, 'a'), std::string(40, 'G')}) {
    cache.scratch.put("models--org--name/refs/main", text);
    const auto error = error_of([&] { resolve_model("org/name", "", cache.settings); });
    ASSERT_TRUE(error) << text;
    EXPECT_EQ(error->kind, ErrorKind::integrity) << text;
  }
}

TEST(Hub, PathsThatAreNoDirectoryAreNotFound) {
  for (const char* id : {"/no/such/dir", "./no-such", "../no-such-dir", "~/no-such", "~"}) {
    const auto error = error_of([&] { resolve_model(id, "", {"/nowhere", true}); });
    ASSERT_TRUE(error) << id;
    EXPECT_EQ(error->kind, ErrorKind::not_found) << id;
    EXPECT_EQ(error->file, id);
  }
}

TEST(Hub, BadIdsAndRevisionsAreConfigErrors) {
  const std::string nul("a\0b", 3);
  for (const std::string& id :
       {std::string(""), std::string("a/b/c"), std::string("a--b"), std::string("a..b"), std::string("a.git"),
        std::string("-a"), std::string("a-"), std::string(".a"), std::string("a/"), std::string("a b"),
        std::string("a\nb"), std::string("a\\b"), std::string("é"), std::string("C:\\x"), nul,
        std::string("a/../b"), std::string("x/") + std::string(97, 'a'), std::string("a:b"),
        std::string("org/..")}) {
    const auto error = error_of([&] { resolve_model(id, "", {"/nowhere", true}); });
    ASSERT_TRUE(error) << id;
    EXPECT_EQ(error->kind, ErrorKind::config) << id;
    EXPECT_TRUE(is_utf8(error->to_text()));
  }
  for (const char* revision :
       {"..", "../x", "a/../b", "/a", "a/", "a//b", "a b", "a\\b", "a\tb", "./a", "a/.git", "."}) {
    const auto error = error_of([&] { resolve_model("org/name", revision, {"/nowhere", true}); });
    ASSERT_TRUE(error) << revision;
    EXPECT_EQ(error->kind, ErrorKind::config) << revision;
  }
}

TEST(Hub, ABadIdIsAnsweredWithTheOneThatWasMeant) {
  const std::pair<const char*, const char*> cases[] = {
      {"https://huggingface.co/org/name", "write org/name"},
      {"https://huggingface.co/org/name/tree/main?x=1", "write org/name"},
      {"http://hub:8000/org/name#files", "write org/name"},
      {"https://huggingface.co/gpt2", "write gpt2"},
      {"org/name/", "write org/name"},
      {" org/name ", "write org/name"},
      {"https://huggingface.co/", "a relative path"},
      {"https://huggingface.co", "a relative path"},
      {"a/b/c", "a relative path"}};
  for (const auto& [id, help] : cases) {
    const auto error = error_of([&, id = id] { resolve_model(id, "", {"/nowhere", true}); });
    ASSERT_TRUE(error) << id;
    EXPECT_TRUE(error->help.starts_with(help)) << id << ": " << error->help;
  }
}

}  // namespace
}  // namespace rhapsode::hub
