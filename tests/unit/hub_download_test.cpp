// The download client against a hub that misbehaves. Every case ends with the right bytes or with an error
// and nothing wrong under a final name.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "base/json.h"
#include "hub/answers.h"
#include "hub/cache.h"
#include "hub/hub_server.h"
#include "hub/pull.h"
#include "hub/url.h"
#include "support/scratch.h"

namespace rhapsode::hub {
namespace {

namespace fs = std::filesystem;
using testing::error_of;
using testing::HubServer;
using testing::Scratch;
using Reply = HubServer::Reply;
using Request = HubServer::Request;

const std::string kToken = "hf_canary0123456789";

std::string pattern(size_t bytes, uint32_t seed) {
  std::string out(bytes, '\0');
  for (char& c : out) c = static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
  return out;
}

std::string bytes_of(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

std::map<std::string, HubServer::File> small_model(size_t weight_bytes = 300'000) {
  return {{"config.json", {"{\"model_type\":\"llama\"}", false}},
          {"model.safetensors", {pattern(weight_bytes, 7), true}},
          {"README.md", {"not wanted", false}}};
}

struct Hub {
  HubServer server;
  Scratch cache;
  HubSettings settings;
  PullHooks hooks;
  std::vector<uint64_t> waits_ms;
  std::mutex mutex;

  explicit Hub(std::map<std::string, HubServer::File> files = small_model()) : server(std::move(files)) {
    settings.cache_directory = cache.path().string();
    settings.endpoint = server.endpoint();
    settings.stall_timeout_s = settings.answer_timeout_s = 1;
    hooks.sleep = [this](std::chrono::milliseconds wait) {
      const std::lock_guard lock(mutex);
      waits_ms.push_back(static_cast<uint64_t>(wait.count()));
    };
  }
  Pulled run(const std::string& revision = "main", bool verify = false) {
    return pull({"org/name", revision, verify}, settings, hooks);
  }
  fs::path root() const { return cache.path() / "models--org--name"; }
  // Whatever stands under a final name is what its name says.
  void expect_nothing_wrong() const {
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(root() / "blobs", code)) {
      const std::string name = entry.path().filename().string();
      if (name.size() == 64) {
        EXPECT_EQ(testing::sha256_of(bytes_of(entry.path())), name);
      }
      if (name.size() == 40) {
        EXPECT_EQ(testing::git_blob_of(bytes_of(entry.path())), name);
      }
    }
  }
  void expect_whole(const Pulled& pulled) const {
    expect_nothing_wrong();
    for (const char* name : {"config.json", "model.safetensors"})
      EXPECT_EQ(bytes_of(fs::path(pulled.directory) / name), server.files.at(name).bytes) << name;
    EXPECT_EQ(bytes_of(root() / "refs/main"), HubServer::commit());
    EXPECT_FALSE(fs::exists(fs::path(pulled.directory) / "README.md"));
    for (const auto& entry : fs::directory_iterator(root() / "blobs"))
      EXPECT_EQ(entry.path().filename().string().find("rhapsode"), std::string::npos) << entry.path();
  }
  std::optional<Error> failure() {
    const auto error = error_of([&] { run(); });
    EXPECT_TRUE(error);
    expect_nothing_wrong();
    EXPECT_FALSE(fs::exists(root() / "refs/main"));
    if (error) {
      EXPECT_EQ(error->to_text().find(kToken), std::string::npos);
    }
    return error;
  }
  // Twists the first `times` bodies of the weights.
  void twist_weights(int times, std::function<void(Reply&)> how) {
    server.twist = [this, how, left = std::make_shared<std::atomic<int>>(times)](const Request& request) {
      std::optional<Reply> reply;
      if (!request.cdn || !request.is_get() || left->fetch_sub(1) <= 0) return reply;
      reply = server.good(request);
      how(*reply);
      return reply;
    };
  }
};

TEST(HubDownload, FetchesWhatIsWantedIntoTheSharedLayout) {
  Hub hub;
  const Pulled pulled = hub.run();
  hub.expect_whole(pulled);
  EXPECT_EQ(pulled.commit, HubServer::commit());
  EXPECT_EQ(fs::read_symlink(fs::path(pulled.directory) / "config.json"),
            "../../blobs/" + hub.server.etag("config.json"));
  EXPECT_TRUE(fs::exists(hub.root() / ".no_exist" / HubServer::commit() / "tokenizer.json"));
  EXPECT_TRUE(fs::exists(hub.root() / "trees" / (HubServer::commit() + ".json")));
  EXPECT_TRUE(fs::exists(hub.cache.path() / "CACHEDIR.TAG"));
  const Pulled again = hub.run();
  EXPECT_EQ(again.bytes_downloaded, 0u);
  for (const PulledFile& file : again.files) EXPECT_EQ(file.source, Source::cache);
}

TEST(HubDownload, AWholeCommitAndOfflineOpenNoConnection) {
  Hub hub;
  hub.run();
  const size_t before = hub.server.requests().size();
  hub.run(HubServer::commit());
  hub.settings.offline = true;
  EXPECT_EQ(hub.run().files.size(), 2u);
  EXPECT_EQ(hub.server.requests().size(), before);
  fs::remove_all(hub.root());
  const auto error = error_of([&] { hub.run(); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind, ErrorKind::network);
  EXPECT_EQ(hub.server.requests().size(), before);
}

TEST(HubDownload, ListingsOfManyPages) {
  Hub hub;
  hub.server.page = 1;
  hub.expect_whole(hub.run());
}

TEST(HubDownload, ShardsComeInParallelAndTheIndexDecides) {
  auto files = small_model();
  files.erase("model.safetensors");
  files["model.safetensors.index.json"] = {
      R"({"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors","c":"model-3.safetensors"}})",
      false};
  for (uint32_t i = 1; i <= 3; ++i)
    files[fmt::format("model-{}.safetensors", i)] = {pattern(100'000, i), true};
  files["consolidated.safetensors"] = {pattern(100'000, 9), true};
  Hub hub(files);
  const Pulled pulled = hub.run();
  EXPECT_EQ(pulled.files.size(), 5u);
  EXPECT_FALSE(fs::exists(fs::path(pulled.directory) / "consolidated.safetensors"));
  hub.expect_nothing_wrong();
}

TEST(HubDownload, BrokenBodiesAreTakenUpWhereTheyBroke) {
  const std::vector<std::function<void(Reply&)>> ways{
      [](Reply& r) { r.announced_bytes = r.body.size(), r.sent_bytes = r.body.size() / 2; },
      [](Reply& r) { r.announced_bytes = r.body.size(), r.sent_bytes = r.body.size() / 2, r.reset = true; },
      [](Reply& r) { r.announced_bytes = r.body.size(), r.sent_bytes = 100'000, r.stall_ms = 4000; },
      [](Reply& r) { r.body.resize(r.body.size() / 2); }};  // shorter, and says so
  for (const auto& way : ways) {
    Hub hub;
    hub.twist_weights(1, way);
    hub.expect_whole(hub.run());
    EXPECT_LE(hub.server.body_bytes(), 300'000u + 100u + 22u + 65'536u);
  }
}

TEST(HubDownload, IgnoredAndRefusedRangesStartAgain) {
  for (const int how : {200, 416, 206}) {
    Hub hub;
    hub.twist_weights(1, [](Reply& r) { r.announced_bytes = r.body.size(), r.sent_bytes = 150'000; });
    const auto first = hub.server.twist;
    hub.server.twist = [&hub, first, how](const Request& request) -> std::optional<Reply> {
      if (auto reply = first(request)) return reply;
      if (!request.cdn || !request.fields.contains("range")) return std::nullopt;
      if (how == 416) return Reply{416, {}, "", {}, {}, false, 0};
      if (how == 206)  // another stretch than the one asked for
        return Reply{206,
                     {"Content-Range: bytes 0-299999/300000"},
                     hub.server.files.at("model.safetensors").bytes,
                     {},
                     {},
                     false,
                     0};
      Request whole = request;
      whole.fields.erase("range");
      return hub.server.good(whole);
    };
    hub.expect_whole(hub.run());
  }
}

TEST(HubDownload, RateLimitsAndStormsAreWaitedOut) {
  Hub hub;
  std::atomic<int> left = 3;
  hub.server.twist = [&](const Request& request) -> std::optional<Reply> {
    if (request.target.find("/revision/") == std::string::npos || left-- <= 0) return std::nullopt;
    if (left == 2) return Reply{429, {"Retry-After: 7"}, "", {}, {}, false, 0};
    if (left == 1) return Reply{429, {"RateLimit: \"api\";r=0;t=21", "Retry-After: 7"}, "", {}, {}, false, 0};
    return Reply{503, {}, "", {}, {}, false, 0};
  };
  hub.expect_whole(hub.run());
  EXPECT_EQ(hub.waits_ms, (std::vector<uint64_t>{8000, 22000, 4000}));
}

TEST(HubDownload, AnEndlessStormEndsAsANetworkError) {
  for (const int status : {429, 500, 502, 503, 504, 408}) {
    Hub hub;
    hub.server.twist = [&](const Request&) { return Reply{status, {}, "", {}, {}, false, 0}; };
    const auto error = hub.failure();
    EXPECT_EQ(error->kind, ErrorKind::network);
    EXPECT_EQ(error->code, status == 429 ? "rate-limited" : "hub-unavailable");
    EXPECT_EQ(hub.waits_ms, (std::vector<uint64_t>{1000, 2000, 4000, 8000}));
  }
}

TEST(HubDownload, WrongBytesNeverGetAFinalName) {
  struct Case {
    std::function<void(Reply&)> how;
    const char* code;
  };
  for (const Case& wrong : {Case{[](Reply& r) { r.body[1000] ^= 1; }, "hash-mismatch"},
                            Case{[](Reply& r) { r.body += "more"; }, "wrong-size"}}) {
    Hub hub;
    hub.twist_weights(1000, wrong.how);
    const auto error = hub.failure();
    EXPECT_EQ(error->kind, ErrorKind::integrity);
    EXPECT_EQ(error->code, wrong.code);
    EXPECT_FALSE(fs::exists(hub.root() / "blobs" / hub.server.etag("model.safetensors")));
  }
  Hub hub;  // once damaged on the way: the second try is right
  hub.twist_weights(1, [](Reply& r) { r.body[1000] ^= 1; });
  hub.expect_whole(hub.run());
}

TEST(HubDownload, AFileOfAnotherHashThanListedIsRefused) {
  for (const char* field : {"X-Linked-Etag: \"0000\"", "X-Linked-Size: 5", "X-Repo-Commit: 1234"}) {
    Hub hub;
    hub.server.twist = [&](const Request& request) -> std::optional<Reply> {
      if (request.target.find("/model.safetensors") == std::string::npos) return std::nullopt;
      Reply reply = hub.server.good(request);
      reply.fields.emplace_back(field);
      return reply;
    };
    EXPECT_EQ(hub.failure()->code, "hub-disagrees");
  }
}

TEST(HubDownload, TheTokenStaysWithTheHub) {
  Hub hub;
  hub.settings.token = {kToken, "HF_TOKEN"};
  hub.expect_whole(hub.run());
  uint64_t to_hub = 0;
  for (const Request& request : hub.server.requests()) {
    if (request.cdn) {
      for (const auto& [name, value] : request.fields)
        EXPECT_EQ(value.find(kToken), std::string::npos) << name;
    }
    to_hub += request.fields.contains("authorization") ? 1 : 0;
  }
  EXPECT_GE(to_hub, 4u);
  for (const auto& entry : fs::recursive_directory_iterator(hub.cache.path()))
    if (entry.is_regular_file()) {
      EXPECT_EQ(bytes_of(entry.path()).find(kToken), std::string::npos);
    }
}

TEST(HubDownload, TheTokenStaysWhenTheHubSendsRequestsElsewhere) {
  Hub hub;
  hub.settings.token = {kToken, "HF_TOKEN"};
  hub.server.twist = [&](const Request& request) -> std::optional<Reply> {
    if (request.cdn) return std::nullopt;
    if (request.target.find("/tree/") == std::string::npos) return std::nullopt;
    Reply reply = hub.server.good(request);
    reply.fields.push_back("Link: <" + hub.server.cdn() + "/tree>; rel=\"next\"");
    return reply;
  };
  EXPECT_EQ(hub.failure()->code, "bad-hub-answer");
  for (const Request& request : hub.server.requests()) EXPECT_FALSE(request.cdn);
}

TEST(HubDownload, RedirectsEnd) {
  Hub hub;
  hub.server.twist = [&](const Request& request) -> std::optional<Reply> {
    if (!request.cdn) return std::nullopt;
    return Reply{302, {"Location: " + hub.server.cdn() + request.target}, "", {}, {}, false, 0};
  };
  EXPECT_EQ(hub.failure()->code, "bad-redirect");
}

TEST(HubDownload, RefusalsAreToldApart) {
  struct Case {
    int status;
    std::vector<std::string> fields;
    bool token;
    ErrorKind kind;
    const char* code;
  };
  const std::string bad_credentials = "X-Error-Message: Invalid credentials in Authorization header";
  for (const Case& refusal : std::vector<Case>{
           {401, {"X-Error-Code: GatedRepo"}, false, ErrorKind::auth, "gated-not-logged-in"},
           {403, {"X-Error-Code: GatedRepo"}, true, ErrorKind::auth, "gated-not-granted"},
           {401, {bad_credentials}, true, ErrorKind::auth, "bad-token"},
           {401, {"X-Error-Code: RepoNotFound"}, false, ErrorKind::not_found, "repo-not-found"},
           {401, {}, false, ErrorKind::not_found, "repo-not-found"},
           {404, {"X-Error-Code: RepoNotFound"}, true, ErrorKind::not_found, "repo-not-found"},
           {404, {"X-Error-Code: RevisionNotFound"}, false, ErrorKind::not_found, "revision-not-found"},
           {403,
            {"X-Error-Message: Access to this resource is disabled."},
            true,
            ErrorKind::auth,
            "repo-disabled"},
           {403, {}, true, ErrorKind::auth, "forbidden"},
           {418, {}, false, ErrorKind::network, "bad-hub-answer"}}) {
    Hub hub;
    if (refusal.token) hub.settings.token = {kToken, "HF_TOKEN"};
    hub.server.twist = [&](const Request&) {
      return Reply{refusal.status, refusal.fields, "", {}, {}, false, 0};
    };
    const auto error = hub.failure();
    EXPECT_EQ(error->code, refusal.code) << refusal.status;
    EXPECT_EQ(error->kind, refusal.kind) << refusal.code;
    EXPECT_TRUE(hub.waits_ms.empty());
  }
}

TEST(HubDownload, AnswersThatAreNoHubsAreNetworkErrors) {
  for (const char* body :
       {"", "<html>log in to the hotel</html>", "[]", "{\"sha\":5}", "{\"sha\":\"../../x\"}", "{"}) {
    Hub hub;
    hub.server.twist = [&](const Request& request) -> std::optional<Reply> {
      if (request.target.find("/revision/") == std::string::npos) return std::nullopt;
      return Reply{200, {}, body, {}, {}, false, 0};
    };
    EXPECT_EQ(hub.failure()->kind, ErrorKind::network) << body;
  }
  Hub hub;
  hub.server.twist = [&](const Request& request) -> std::optional<Reply> {
    if (request.method != "HEAD") return std::nullopt;
    return Reply{200, {}, "", {}, {}, false, 0};
  };
  EXPECT_EQ(hub.failure()->code, "not-a-hub");
}

TEST(HubDownload, NamesThatLeadOutOfTheRepositoryAreRefused) {
  for (const char* name :
       {"../x", "/etc/x", "a/../../x", "a//b", "a/./b", "..", "a\\\\b", "a\\u0000b", "a/", ""}) {
    Hub hub;
    hub.server.twist = [&](const Request& request) -> std::optional<Reply> {
      if (request.target.find("/tree/") == std::string::npos) return std::nullopt;
      return Reply{
          200,
          {},
          fmt::format(R"([{{"type":"file","path":"{}","size":1,"oid":"{}"}}])", name, std::string(40, 'a')),
          {},
          {},
          false,
          0};
    };
    EXPECT_EQ(hub.failure()->code, "bad-file-name") << name;
  }
}

TEST(HubDownload, RepositoriesWithoutSafetensorsAreRefusedBeforeAnythingIsFetched) {
  Hub hub({{"config.json", {"{}", false}}, {"pytorch_model.bin", {"pickle", true}}});
  const auto error = hub.failure();
  EXPECT_EQ(error->code, "no-safetensors");
  EXPECT_EQ(error->kind, ErrorKind::unsupported);
  EXPECT_EQ(hub.server.body_bytes(), 0u);
}

TEST(HubDownload, TheModelMayBeRefusedBeforeItsWeights) {
  Hub hub;
  hub.hooks.before_weights = [](const std::string& directory) {
    EXPECT_TRUE(fs::exists(fs::path(directory) / "config.json"));
    throw Error(ErrorKind::unsupported, "no", "no");
  };
  EXPECT_EQ(hub.failure()->code, "no");
  EXPECT_LT(hub.server.body_bytes(), 100u);
}

TEST(HubDownload, AnotherProcessTakesUpWhatOneLeft) {
  constexpr size_t kBytes = 20'000'000;
  Hub hub(small_model(kBytes));
  hub.settings.attempts = 1;
  hub.settings.stall_timeout_s = hub.settings.answer_timeout_s = 60;  // a busy machine is no failure
  hub.twist_weights(1, [](Reply& r) { r.announced_bytes = r.body.size(), r.sent_bytes = 18'000'000; });
  EXPECT_EQ(hub.failure()->kind, ErrorKind::network);
  const uint64_t before = hub.server.body_bytes();
  const Pulled pulled = hub.run();
  hub.expect_whole(pulled);
  EXPECT_EQ(pulled.files.back().source, Source::resumed);
  EXPECT_EQ(hub.server.body_bytes() - before, kBytes - 2 * kMarkBytes);
}

TEST(HubDownload, APartialFileThatIsNotWhatItsNotesSayIsNotTakenUp) {
  constexpr size_t kBytes = 20'000'000;
  for (const size_t damaged_at : {size_t{5}, size_t{9'000'000}}) {
    Hub hub(small_model(kBytes));
    hub.settings.attempts = 1;
    hub.settings.stall_timeout_s = hub.settings.answer_timeout_s = 60;  // a busy machine is no failure
    hub.twist_weights(1, [](Reply& r) { r.announced_bytes = r.body.size(), r.sent_bytes = 18'000'000; });
    hub.failure();
    const std::string partial =
        partial_file((hub.root() / "blobs" / hub.server.etag("model.safetensors")).string());
    {
      std::fstream file(partial, std::ios::binary | std::ios::in | std::ios::out);
      file.seekp(static_cast<std::streamoff>(damaged_at));
      file.put(static_cast<char>(~hub.server.files.at("model.safetensors").bytes[damaged_at]));
    }
    const uint64_t before = hub.server.body_bytes();
    hub.expect_whole(hub.run());
    EXPECT_EQ(hub.server.body_bytes() - before, damaged_at == 5 ? kBytes : kBytes - kMarkBytes);
  }
}

TEST(HubDownload, PullWithVerifyFetchesDamagedFilesAgain) {
  Hub hub;
  hub.run();
  const fs::path blob = hub.root() / "blobs" / hub.server.etag("model.safetensors");
  std::fstream(blob, std::ios::binary | std::ios::in | std::ios::out).put('x');
  hub.run();
  EXPECT_NE(testing::sha256_of(bytes_of(blob)), hub.server.etag("model.safetensors"));
  hub.expect_whole(hub.run("main", true));
}

TEST(HubDownload, NothingIsWrittenWhereNothingIsMissing) {
  Hub hub;
  const Pulled pulled = hub.run();
  std::map<std::string, fs::file_time_type> before;
  for (const auto& entry : fs::recursive_directory_iterator(hub.cache.path()))
    before[entry.path().string()] = fs::last_write_time(entry.path());
  hub.run();
  for (const auto& entry : fs::recursive_directory_iterator(hub.cache.path()))
    EXPECT_EQ(fs::last_write_time(entry.path()), before[entry.path().string()]) << entry.path();
}

TEST(HubDownload, RoomForAllShardsIsThereBeforeTheFirstOne) {
  auto files = small_model();
  files.erase("model.safetensors");
  files["model.safetensors.index.json"] = {R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})",
                                           false};
  for (const char* name : {"one.safetensors", "two.safetensors"}) files[name] = {pattern(100'000, 3), true};
  Hub hub(files);
  const uint64_t most = fs::space(hub.cache.path()).available / 10 * 6;  // room for one, not for two
  hub.server.twist = [&](const Request& request) -> std::optional<Reply> {
    if (request.target.find("/tree/") == std::string::npos) return std::nullopt;
    Reply reply = hub.server.good(request);
    for (size_t at; (at = reply.body.find("\"size\":100000")) != std::string::npos;)
      reply.body.replace(at, 13, fmt::format("\"size\":{}", most));
    return reply;
  };
  const auto error = hub.failure();
  EXPECT_EQ(error->code, "disk-full");
  for (const Request& request : hub.server.requests())
    EXPECT_EQ(request.target.find("one.safetensors"), std::string::npos) << request.target;
}

// Where links cannot be, blobs move into their snapshot.
TEST(HubDownload, WithoutSymbolicLinksAFileIsFetchedOnceToo) {
  Hub hub;
  hub.settings.symlinks = false;
  const Pulled pulled = hub.run();
  hub.expect_whole(pulled);
  const fs::path weights = fs::path(pulled.directory) / "model.safetensors";
  EXPECT_FALSE(fs::is_symlink(weights));
  const Pulled again = hub.run();
  EXPECT_EQ(again.bytes_downloaded, 0u);
  for (const PulledFile& file : again.files) EXPECT_EQ(file.source, Source::cache) << file.name;
  std::fstream(weights, std::ios::binary | std::ios::in | std::ios::out).put('x');
  hub.expect_whole(hub.run("main", true));
}

TEST(HubDownload, WithoutSymbolicLinksTwoMayFetchTheSameModelAtOnce) {
  for (int round = 0; round < 8; ++round) {
    Hub hub;
    hub.settings.symlinks = false;
    std::vector<std::optional<Error>> errors(3);
    std::vector<std::thread> threads;
    for (std::optional<Error>& error : errors)
      threads.emplace_back([&] {
        error = error_of([&] { pull({"org/name", "main", false}, hub.settings, {}); });
      });
    for (std::thread& thread : threads) thread.join();
    for (const std::optional<Error>& error : errors) EXPECT_FALSE(error) << error->to_text();
    for (const char* name : {"config.json", "model.safetensors"})
      EXPECT_EQ(bytes_of(hub.root() / "snapshots" / HubServer::commit() / name),
                hub.server.files.at(name).bytes);
  }
}

TEST(HubDownload, HeadersAloneAreASmallPart) {
  std::string header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[250000],\"data_offsets\":[0,1000000]}}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::string file(8, '\0');
  file[0] = static_cast<char>(header.size());
  file += header + pattern(1'000'000, 3);
  Hub hub({{"config.json", {"{}", false}}, {"model.safetensors", {file, true}}});
  const Scratch out;
  const uint64_t bytes = fetch_headers({"org/name", "main"}, hub.settings, hub.hooks, out.path().string());
  EXPECT_EQ(bytes, 2 + 8 + header.size());
  EXPECT_EQ(hub.server.body_bytes(), bytes);
  EXPECT_EQ(fs::file_size(out.path() / "model.safetensors"), file.size());
  EXPECT_EQ(bytes_of(out.path() / "model.safetensors").substr(0, 8 + header.size()),
            file.substr(0, 8 + header.size()));
  EXPECT_TRUE(fs::is_empty(hub.cache.path()));
}

TEST(HubAnswers, HeaderValues) {
  EXPECT_EQ(plain_etag("W/\"abc\""), "abc");
  EXPECT_EQ(next_page("<http://a/1>; rel=\"prev\", <http://a/2>; rel=\"next\""), "http://a/2");
  EXPECT_EQ(next_page("<http://a/1>; rel=\"prev\""), "");
  EXPECT_EQ(seconds_to_wait("30", ""), 30u);
  EXPECT_EQ(seconds_to_wait("30", "\"api\";r=0;t=55"), 55u);
  EXPECT_EQ(seconds_to_wait("", "\"api\";r=3;t=55"), std::nullopt);
  EXPECT_EQ(seconds_to_wait("Wed, 21 Oct 2026 07:28:00 GMT", ""), std::nullopt);
  EXPECT_EQ(parse_content_range("bytes 5-9/10")->first, 5u);
  for (const char* bad :
       {"bytes 5-9/9", "bytes 9-5/10", "5-9/10", "bytes */10", "bytes 5-/10", "bytes -5-9/10"})
    EXPECT_FALSE(parse_content_range(bad)) << bad;
}

TEST(HubAddresses, NoDowngradeAndNoUser) {
  const Url hub = parse_url("https://hub.example");
  EXPECT_EQ(redirect_target(hub, hub, "https://cdn.example/x?sig=1").shown(), "https://cdn.example/x");
  EXPECT_TRUE(redirect_target(hub, hub, "/x").same_origin(hub));
  for (const char* other :
       {"https://hub.example:444/", "https://a.hub.example/", "https://hub.example.evil/"})
    EXPECT_FALSE(parse_url(other).same_origin(hub)) << other;
  for (const char* bad : {"http://hub.example/x", "file:///etc/passwd", "https://user:pw@hub.example/",
                          "ftp://a/", "gopher://a/", "https://"})
    EXPECT_TRUE(error_of([&] { redirect_target(hub, hub, bad); })) << bad;
}

}  // namespace
}  // namespace rhapsode::hub
