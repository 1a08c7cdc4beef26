// The hub's commands by the real binary against a hub on loopback: pull, cache, login, doctor, and what run,
// plan and tokenize fetch of a model that is not on this machine. --machine as a user types it.
#include <algorithm>
#include <fstream>
#include <sstream>

#include "e2e/program.h"
#include "hub/hub_server.h"

namespace rhapsode::testing {
namespace {

namespace fs = std::filesystem;

std::string bytes_of(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

std::map<std::string, HubServer::File> served_files(const std::string& directory) {
  std::map<std::string, HubServer::File> files;
  for (const auto& entry : fs::directory_iterator(directory))
    files[entry.path().filename().string()] = {bytes_of(entry.path()),
                                               entry.path().extension() == ".safetensors"};
  return files;
}

class CliHub : public ::testing::Test {
 protected:
  CliHub() : server_(served_files(talking_checkpoint(scratch_))) {}

  Outcome program(std::vector<std::string> arguments, const std::string& input = "",
                  std::map<std::string, std::string> environment = {}) const {
    environment.emplace("HF_ENDPOINT", server_.endpoint());
    environment.emplace("HF_HOME", scratch_.file("home"));
    return run_program({std::move(arguments), input, std::move(environment), 0});
  }
  std::string config(const std::vector<std::string>& keys = {}) const {
    return scratch_.put("hub.yaml", tiny_yaml("org/name", keys));
  }
  fs::path cached() const { return scratch_.path() / "home/hub/models--org--name"; }
  size_t requests_for(const std::string& name) const {
    const auto requests = server_.requests();
    return static_cast<size_t>(std::count_if(requests.begin(), requests.end(), [&](const auto& request) {
      return request.target.ends_with("/" + name) || (name == "model.safetensors" && request.cdn);
    }));
  }

  Scratch scratch_;
  HubServer server_;
};

TEST_F(CliHub, PullFetchesOnceAndTellsWhatItDid) {
  const Outcome first = program({"pull", "org/name", "--json"});
  ASSERT_EQ(first.code, 0) << first.err;
  const Json pulled = first.json();
  EXPECT_EQ(pulled.at("id"), "org/name");
  EXPECT_EQ(pulled.at("commit"), HubServer::commit());
  EXPECT_GT(pulled.at("bytes_downloaded"), 0);
  bool weights = false;
  for (const Json& file : pulled.at("files")) {
    const std::string name = file.at("name");
    EXPECT_EQ(file.at("bytes"), server_.files.at(name).bytes.size());
    EXPECT_EQ(file.at("sha256"), sha256_of(server_.files.at(name).bytes));
    EXPECT_EQ(file.at("source"), "hub");
    EXPECT_EQ(bytes_of(fs::path(pulled.at("path").get<std::string>()) / name), server_.files.at(name).bytes);
    weights = weights || name == "model.safetensors";
  }
  EXPECT_TRUE(weights);
  const Json again = program({"pull", "org/name", "--json"}).json();
  EXPECT_EQ(again.at("bytes_downloaded"), 0);
  EXPECT_EQ(again.at("files").at(0).at("source"), "cache");
}

TEST_F(CliHub, OfflineListsTheSameFilesByTheirNames) {
  program({"pull", "org/name"});
  const size_t before = server_.requests().size();
  const Json offline = program({"pull", "org/name", "--json", "--offline"}).json();
  EXPECT_EQ(offline.at("files").size(), server_.files.size());
  for (const Json& file : offline.at("files")) {
    const std::string name = file.at("name");
    ASSERT_TRUE(server_.files.contains(name)) << name;
    EXPECT_EQ(file.at("sha256"), sha256_of(server_.files.at(name).bytes));
  }
  EXPECT_EQ(server_.requests().size(), before);
}

TEST_F(CliHub, FailuresHaveTheirExitCodes) {
  const Outcome offline = program({"pull", "org/name", "--json", "--offline"});
  EXPECT_EQ(offline.code, 6);
  EXPECT_EQ(offline.error_code(), "model-not-cached");
  EXPECT_EQ(server_.requests().size(), 0u);
  EXPECT_EQ(program({"pull", "org/other", "--json"}).code, 5);
  EXPECT_EQ(program({"pull", "no good id", "--json"}).code, 3);
  server_.files.at("model.safetensors").bytes[100] ^=
      1;  // listed and served alike: another model, right bytes
  server_.twist = [this](const HubServer::Request& request) {
    std::optional<HubServer::Reply> reply;
    if (!request.cdn) return reply;
    reply = server_.good(request);
    if (!reply->body.empty()) reply->body.back() ^= 1;
    return reply;
  };
  const Outcome wrong = program({"pull", "org/name", "--json"});
  EXPECT_EQ(wrong.code, 9);
  EXPECT_EQ(wrong.error_code(), "hash-mismatch");
  EXPECT_FALSE(fs::exists(cached() / "blobs" / server_.etag("model.safetensors")));
}

TEST_F(CliHub, RunFetchesAModelThatIsNotHere) {
  const Outcome local = program({"run", "-c", scratch_.put("here.yaml", tiny_yaml(scratch_.file("talking"))),
                                 "--ids", "1,2,3", "--json"});
  const Outcome fetched = program({"run", "-c", config(), "--ids", "1,2,3", "--json"});
  ASSERT_EQ(fetched.code, 0) << fetched.err;
  EXPECT_EQ(fetched.json().at("output_ids"), local.json().at("output_ids"));
  EXPECT_NE(fetched.err.find("fetching"), std::string::npos) << fetched.err;
  const size_t before = server_.requests().size();
  EXPECT_EQ(program({"run", "-c", config(), "--ids", "1,2,3"}).code, 0);
  EXPECT_EQ(server_.requests().size(), before);
}

TEST_F(CliHub, TokenizeFetchesTheTokenizerAlone) {
  const std::string here = scratch_.file("talking");
  const Outcome local = program({"tokenize", "--tokenizer", here, "--text", "hello", "--json"});
  ASSERT_EQ(local.code, 0) << local.err;
  const Outcome fetched = program({"tokenize", "-c", config(), "--text", "hello", "--json"});
  ASSERT_EQ(fetched.code, 0) << fetched.err;
  EXPECT_EQ(fetched.out, local.out);
  EXPECT_EQ(requests_for("model.safetensors"), 0u);
  EXPECT_EQ(requests_for("tokenizer.json"), 2u);  // HEAD and GET
  const size_t before = server_.requests().size();
  const std::string messages = scratch_.put("messages.json", R"([{"role":"user","content":"hello"}])");
  EXPECT_EQ(program({"template", "-c", config(), "--messages", messages, "--json"}).out,
            program({"template", "--tokenizer", here, "--messages", messages, "--json"}).out);
  EXPECT_EQ(server_.requests().size(), before);
  // What is there without its weights is no whole model: it is fetched when it is to run.
  EXPECT_EQ(program({"run", "-c", config(), "--ids", "1,2"}).code, 0);
  EXPECT_GT(requests_for("model.safetensors"), 0u);
  EXPECT_EQ(program({"tokenize", "-c", config(), "--text", "hello", "--offline"}).code, 0);
}

TEST_F(CliHub, TokenizeOfflineNamesWhatIsMissing) {
  const Outcome outcome = program({"tokenize", "-c", config(), "--text", "hello", "--json", "--offline"});
  EXPECT_EQ(outcome.code, 6);
  EXPECT_EQ(outcome.error_code(), "model-not-cached");
}

TEST_F(CliHub, PlanReadsHeadersAlone) {
  const Outcome plan = program({"plan", "-c", config(), "--json"});
  ASSERT_EQ(plan.code, 0) << plan.err;
  EXPECT_FALSE(fs::exists(cached()));
  const Json here =
      program({"plan", "-c", scratch_.put("here.yaml", tiny_yaml(scratch_.file("talking"))), "--json"})
          .json();
  EXPECT_EQ(plan.json().at("devices").at(0).at("weights_bytes"),
            here.at("devices").at(0).at("weights_bytes"));
  EXPECT_LT(server_.body_bytes(), server_.files.at("model.safetensors").bytes.size());
}

TEST_F(CliHub, CacheListsVerifiesPrunesAndRemoves) {
  program({"pull", "org/name"});
  const Json listed = program({"cache", "ls", "--json"}).json();
  ASSERT_EQ(listed.at("models").size(), 1u);
  EXPECT_EQ(listed.at("models").at(0).at("id"), "org/name");
  EXPECT_EQ(listed.at("models").at(0).at("revisions").at(0).at("whole"), true);
  EXPECT_EQ(program({"cache", "verify", "--json"}).json().at("ok"), true);
  const fs::path blob = cached() / "blobs" / server_.etag("model.safetensors");
  std::string bytes = bytes_of(blob);
  bytes.back() ^= 1;
  std::ofstream(blob, std::ios::binary) << bytes;
  const Outcome damaged = program({"cache", "verify", "org/name", "--json"});
  EXPECT_EQ(damaged.code, 9);
  EXPECT_EQ(damaged.json().at("ok"), false);
  EXPECT_EQ(program({"pull", "org/name", "--verify"}).code, 0);
  EXPECT_EQ(program({"cache", "verify"}).code, 0);
  std::ofstream(cached() / "blobs" / std::string(40, 'f')) << "orphan";
  EXPECT_EQ(program({"cache", "prune", "--dry-run", "--json"}).json().at("removed").size(), 1u);
  EXPECT_EQ(program({"cache", "prune", "--json"}).json().at("removed").size(), 1u);
  EXPECT_FALSE(fs::exists(cached() / "blobs" / std::string(40, 'f')));
  EXPECT_EQ(program({"cache", "rm", "org/name", "--revision", "main"}).code, 0);
  EXPECT_FALSE(fs::exists(cached()));
  program({"pull", "org/name"});
  EXPECT_EQ(program({"cache", "rm", "org/name"}).code, 0);
  EXPECT_EQ(program({"cache", "ls", "--json"}).json().at("models").size(), 0u);
  EXPECT_EQ(program({"cache", "rm", "org/name", "--json"}).code, 5);
  EXPECT_EQ(program({"cache", "sweep"}).code, 2);
}

TEST_F(CliHub, LoginKeepsATokenThatTheHubKnows) {
  const std::string token = "hf_canary0123456789";
  const Outcome outcome = program({"login", "--json"}, token + "\n");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.json().at("name"), "someone");
  EXPECT_EQ((outcome.out + outcome.err).find(token), std::string::npos);
  const fs::path file = outcome.json().at("path").get<std::string>();
  EXPECT_EQ(bytes_of(file), token);
  EXPECT_EQ(fs::status(file).permissions() & (fs::perms::group_all | fs::perms::others_all), fs::perms::none);
  program({"pull", "org/name"});
  for (const HubServer::Request& request : server_.requests()) {
    const auto sent = request.fields.find("authorization");
    EXPECT_EQ(sent != request.fields.end(), !request.cdn) << request.target;
  }
  EXPECT_EQ(program({"login"}, "\n").code, 2);
  EXPECT_EQ(program({"login", "--offline"}, token + "\n").code, 6);
  server_.twist = [](const HubServer::Request& request) -> std::optional<HubServer::Reply> {
    if (request.target != "/api/whoami-v2") return std::nullopt;
    return HubServer::Reply{
        401, {"X-Error-Message: Invalid credentials in Authorization header"}, "", {}, {}, false, 0};
  };
  const Outcome refused = program({"login", "--json"}, "hf_wrong\n");
  EXPECT_EQ(refused.code, 4) << refused.err;
  EXPECT_EQ(bytes_of(file), token);
}

TEST_F(CliHub, DoctorAnswersEveryIssueOfTheGuideWithoutASocket) {
  const Outcome outcome = program({"doctor", "-c", config(), "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json doctor = outcome.json();
  EXPECT_EQ(server_.requests().size(), 0u);
  for (const char* key : {"cores", "isa", "ram_bytes", "available_bytes", "read_gb_per_s"})
    EXPECT_TRUE(doctor.at("machine").contains(key)) << key;
  EXPECT_EQ(doctor.at("hub").at("endpoint"), server_.endpoint());
  std::vector<std::string> issues;
  for (const Json& answer : doctor.at("troubleshooting")) {
    issues.push_back(answer.at("issue"));
    EXPECT_FALSE(answer.at("facts").empty()) << issues.back();
    EXPECT_FALSE(answer.at("commands").empty()) << issues.back();
  }
  EXPECT_EQ(issues, (std::vector<std::string>{"Out of Memory (OOM)", "Slow Generation", "Poor Quality Output",
                                              "Deterministic Output", "Model Not Loading"}));
}

TEST_F(CliHub, ACacheThatIsNoDirectoryIsSaid) {
  const std::map<std::string, std::string> file = {{"HF_HUB_CACHE", scratch_.put("cache", "a file")}};
  for (const char* action : {"ls", "verify", "prune"}) {
    const Outcome outcome = program({"cache", action, "--json"}, "", file);
    EXPECT_EQ(outcome.code, 3) << action;
    EXPECT_EQ(outcome.error_code(), "bad-environment") << action;
  }
  const Json doctor = program({"doctor", "--json"}, "", file).json();
  EXPECT_EQ(doctor.at("ok"), false);
  bool said = false;
  for (const Json& finding : doctor.at("findings"))
    said = said || finding.at("code") == "cache-not-a-directory";
  EXPECT_TRUE(said) << doctor.dump();
  const Outcome none = program({"cache", "ls"}, "", {{"HF_HUB_CACHE", scratch_.file("none")}});
  EXPECT_NE(none.out.find("not there yet"), std::string::npos) << none.out;
}

TEST_F(CliHub, APathIsNothingToPull) {
  const Json error = program({"pull", "./model", "--json"}).json().at("error");
  EXPECT_EQ(error.at("code"), "bad-model-id");
  EXPECT_EQ(error.at("help").get<std::string>().rfind("this is a path", 0), 0u) << error.dump();
}

class CliMachine : public ::testing::Test {
 protected:
  std::string config(const std::vector<std::string>& keys = {}) const {
    return scratch_.put("tiny.yaml", tiny_yaml(fixture("golden/llama-mqa"), keys));
  }
  Scratch scratch_;
};

TEST_F(CliMachine, RunReallyUsesTheDevicesThatPlanShows) {
  const Json alone = rhapsode({"run", "-c", config(), "--ids", "1,2,3", "--json"}).json();
  const Outcome plan = rhapsode({"plan", "-c", config(), "--machine", "2x8MB,cpu=20MB", "--json"});
  ASSERT_EQ(plan.code, 0) << plan.err;
  EXPECT_EQ(plan.json().at("virtual_devices"), true);
  EXPECT_EQ(plan.json().at("device_map").at("model.layers.0"), "0");
  EXPECT_EQ(plan.json().at("device_map").at("lm_head"), "1");
  const Outcome run =
      rhapsode({"run", "-c", config(), "--machine", "2x8MB,cpu=20MB", "--ids", "1,2,3", "--json"});
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(run.json().at("output_ids"), alone.at("output_ids"));
  const Json devices = run.json().at("memory").at("devices");
  ASSERT_EQ(devices.size(), 3u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(devices.at(i).at("limit_bytes"), 8'000'000);
    EXPECT_GT(devices.at(i).at("peak_bytes"), 0);
    EXPECT_LE(devices.at(i).at("peak_bytes"), devices.at(i).at("limit_bytes"));
  }
}

TEST_F(CliMachine, OffloadsWhereItIsAllowedAndRefusesElsewhere) {
  const auto with = [&](const std::string& command, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {command, "-c", config(), "--json", "--set", "max_context=512"};
    if (command == "run") arguments.insert(arguments.end(), {"--ids", "1,2,3"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return rhapsode(arguments);
  };
  const uint64_t all =
      with("plan", {"--machine", "8MB"}).json().at("devices").at(0).at("total_bytes").get<uint64_t>();
  const std::string size = std::to_string(all / 1000 - 20) + "KB";
  const std::vector<std::string> machine = {"--machine", size + ",cpu=20MB"};
  const Outcome refused = with("plan", machine);
  EXPECT_EQ(refused.code, 7);
  EXPECT_EQ(refused.json().at("workable_limits").at("0"), all);
  EXPECT_EQ(refused.json().at("changes").at(0).at("fits"), true);
  std::vector<std::string> listed = machine;
  listed.insert(listed.end(), {"--set", "max_memory={0: " + size + ", cpu: 20MB}"});
  const Json plan = with("plan", listed).json();
  EXPECT_EQ(plan.at("fits"), true);
  EXPECT_EQ(plan.at("device_map").at("lm_head"), "cpu");
  EXPECT_GT(plan.at("devices").at(0).at("staging_bytes"), 0);
  const Outcome offloaded = with("run", listed);
  ASSERT_EQ(offloaded.code, 0) << offloaded.err;
  EXPECT_EQ(offloaded.json().at("output_ids"), with("run", {}).json().at("output_ids"));
  const Json device = offloaded.json().at("memory").at("devices").at(0);
  EXPECT_LE(device.at("peak_bytes"), device.at("limit_bytes"));
}

// Its tokenizer is not even read: a refusal must not need memory that is not there.
TEST_F(CliMachine, AModelThatDoesNotFitIsRefusedBeforeItsTokenizerIsRead) {
  const std::string talking = talking_checkpoint(scratch_);
  std::ofstream(talking + "/tokenizer.json") << "no tokenizer";
  const std::string config = scratch_.put("talking.yaml", tiny_yaml(talking));
  for (const char* command : {"plan", "run"}) {
    std::vector<std::string> arguments = {command, "-c", config, "--machine", "cpu=10KB", "--json"};
    if (arguments[0] == "run") arguments.insert(arguments.end(), {"--prompt", "hello"});
    EXPECT_EQ(rhapsode(arguments).code, 7) << command;
    arguments[4] = "cpu=20MB";
    EXPECT_EQ(rhapsode(arguments).code, 9) << command;
  }
}

TEST_F(CliMachine, MistakesAreToldByPiece) {
  const Outcome outcome = rhapsode({"plan", "-c", config(), "--machine", "8GB,gpu=2", "--json"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.json().at("error").at("message").get<std::string>().find("gpu=2"), std::string::npos);
}

}  // namespace
}  // namespace rhapsode::testing
