// The issues of the guide's troubleshooting chapter, one by one, against the real binary: the symptom is
// made, and what the program says must name the cause and a next step that works. docs/troubleshooting.md is
// the same walk in words.
#include <sstream>

#include "e2e/program.h"
#include "hub/hub_server.h"
#include "models/paths.h"

namespace rhapsode::testing {
namespace {

namespace fs = std::filesystem;

class Troubleshooting : public ::testing::Test {
 protected:
  Troubleshooting() : checkpoint_(talking_checkpoint(scratch_)) {}

  std::string config(const std::vector<std::string>& keys = {}) const {
    std::string yaml = "generator:\n  active_model: tiny\n  models:\n    tiny:\n      type: huggingface\n";
    yaml += "      model_id: \"" + checkpoint_ + "\"\n";
    for (const std::string& key : keys) yaml += "      " + key + "\n";
    return scratch_.put("rag.yaml", yaml);
  }
  // Facts and commands of an issue, a line each.
  static std::string said(const Outcome& doctor, const std::string& issue) {
    EXPECT_EQ(doctor.code, 0) << doctor.err << doctor.out;
    const Json all = doctor.json().at("troubleshooting");
    std::string lines;
    for (const Json& answer : all) {
      if (answer.at("issue") != issue) continue;
      for (const char* part : {"facts", "commands"})
        for (const Json& line : answer.at(part)) lines += line.get<std::string>() + "\n";
    }
    return lines;
  }
  std::string doctor(const std::string& issue, const std::vector<std::string>& keys,
                     const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"doctor", "-c", config(keys), "--json", "--offline"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return said(rhapsode(arguments), issue);
  }
  // As pasted into a shell.
  static int pasted(const std::string& command) {
    const std::string directory = fs::path(paths::binary()).parent_path().string();
    FILE* shell = ::popen(("PATH=" + directory + ":$PATH; " + command + " >/dev/null 2>&1").c_str(), "r");
    return shell == nullptr ? -1 : WEXITSTATUS(::pclose(shell));
  }

  Scratch scratch_;
  std::string checkpoint_;
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(Troubleshooting, OutOfMemory) {
  const std::vector<std::string> keys = {"max_context: 512", "max_new_tokens: 8"};
  const uint64_t needed = rhapsode({"plan", "-c", config(keys), "--machine", "8MB", "--json"})
                              .json()
                              .at("devices")
                              .at(0)
                              .at("total_bytes")
                              .get<uint64_t>();
  const std::string machine = std::to_string(needed / 1000 - 20) + "KB";
  const Outcome run = rhapsode({"run", "-c", config(keys), "--ids", "1", "--machine", "200KB", "--json"});
  EXPECT_EQ(run.code, 7);
  EXPECT_TRUE(has(run.json().at("error").at("help"), "--set '")) << run.out;
  EXPECT_TRUE(has(run.json().at("error").at("help"), "rhapsode plan")) << run.out;
  const std::string answer = doctor("Out of Memory (OOM)", keys, {"--machine", machine});
  EXPECT_TRUE(has(answer, "does not fit")) << answer;
  EXPECT_TRUE(has(answer, "it fits with layers offloaded to the cpu")) << answer;
  size_t fitting = 0;
  std::istringstream lines(answer);
  for (std::string line; std::getline(lines, line);) {
    if (!has(line, "rhapsode plan") || !has(line, "--set max_") || has(line, "--emit-config")) continue;
    ++fitting;
    EXPECT_TRUE(has(line, "--machine " + machine)) << line;
    EXPECT_EQ(pasted(line), 0) << line;
  }
  EXPECT_GE(fitting, 1u) << answer;
  EXPECT_EQ(pasted("rhapsode plan -c " + config(keys) + " --machine " + machine), 7);
  EXPECT_TRUE(has(doctor("Out of Memory (OOM)", keys), "this config fits")) << answer;
  EXPECT_TRUE(has(doctor("Out of Memory (OOM)", {"quantization: null"}), "without quantization"));
  EXPECT_FALSE(has(doctor("Out of Memory (OOM)", {"quantization: 8bit"}), "without quantization"));
}

// The limits that plan names for people can be typed as they stand.
TEST_F(Troubleshooting, TheLimitsOfAMisfitFitAsTheyArePrinted) {
  const std::vector<std::string> keys = {"max_context: 512", "max_new_tokens: 8"};
  const Outcome plan = rhapsode({"plan", "-c", config(keys), "--machine", "200KB,cpu=100MB"});
  ASSERT_EQ(plan.code, 7) << plan.out;
  const std::string lead = "it would fit with ";
  const size_t at = plan.out.find(lead);
  ASSERT_NE(at, std::string::npos) << plan.out;
  const size_t begin = at + lead.size();
  const std::string size = plan.out.substr(begin, plan.out.find(' ', begin) - begin);
  EXPECT_EQ(rhapsode({"plan", "-c", config(keys), "--machine", size + ",cpu=100MB"}).code, 0) << size;
}

TEST_F(Troubleshooting, WhereNoChangeIsEnoughTheNextStepIsSaid) {
  const Outcome plan = rhapsode({"plan", "-c", config({"max_memory: {cpu: 1}"})});
  ASSERT_EQ(plan.code, 7) << plan.out;
  EXPECT_TRUE(has(plan.out, "none of these is enough: raise max_memory")) << plan.out;
  const Outcome run = rhapsode({"run", "-c", config({"max_memory: {cpu: 1}"}), "--ids", "1", "--json"});
  EXPECT_TRUE(has(run.json().at("error").at("help"), "raise max_memory")) << run.out;
}

TEST_F(Troubleshooting, SlowGeneration) {
  const std::string plain = doctor("Slow Generation", {"device_map: auto"});
  EXPECT_TRUE(has(plain, "a token of this config reads ")) << plain;
  EXPECT_FALSE(has(plain, "brought to the first device")) << plain;
  const uint64_t needed = rhapsode({"plan", "-c", config({"max_context: 512"}), "--machine", "8MB", "--json"})
                              .json()
                              .at("devices")
                              .at(0)
                              .at("total_bytes")
                              .get<uint64_t>();
  const std::string size = std::to_string(needed / 1000 - 20) + "KB";
  const std::string moved =
      doctor("Slow Generation", {"max_context: 512", "max_memory: {0: " + size + ", cpu: 20MB}"},
             {"--machine", size + ",cpu=20MB"});
  EXPECT_TRUE(has(moved, "brought to the first device at each pass")) << moved;
  EXPECT_FALSE(has(moved, "quantized anew")) << moved;
  const std::vector<std::string> on_disk = {"quantization: 8bit",
                                            "device_map: {\"\": 0, model.layers: disk}"};
  EXPECT_TRUE(has(doctor("Slow Generation", on_disk, {"--machine", "1GB,disk=1GB"}),
                  "blocks on disk are quantized anew at each pass"));
  EXPECT_TRUE(has(doctor("Slow Generation", {"num_beams: 4"}), "num_beams is 4 (yaml)"));
  EXPECT_TRUE(has(doctor("Slow Generation", {"torch_dtype: float32"}), "weights are float32"));
  EXPECT_FALSE(has(doctor("Slow Generation", {"torch_dtype: bfloat16"}), "weights are float32"));
  EXPECT_TRUE(has(plain, "rhapsode bench -c ")) << plain;
}

TEST_F(Troubleshooting, PoorQuality) {
  const char* issue = "Poor Quality Output";
  EXPECT_TRUE(has(doctor(issue, {}), "nothing holds repetition back"));
  EXPECT_FALSE(has(doctor(issue, {"no_repeat_ngram_size: 3"}), "nothing holds repetition back"));
  EXPECT_TRUE(has(doctor(issue, {"repetition_penalty: 0.9"}), "repetition is rewarded"));
  EXPECT_TRUE(has(doctor(issue, {"repetition_penalty: 2"}), "loses coherence"));
  EXPECT_TRUE(has(doctor(issue, {"temperature: 1.9"}), "temperature is 1.9 (yaml): above 1.2"));
  EXPECT_TRUE(has(doctor(issue, {"max_tokens: 20"}), "max_new_tokens is 20 (yaml): answers end early"));
  EXPECT_TRUE(has(doctor(issue, {"quantization: 4bit"}), "weights are in 4bit"));
  EXPECT_FALSE(has(doctor(issue, {"quantization: null"}), "weights are in"));
  EXPECT_FALSE(has(doctor(issue, {}), "no chat template"));
  // What nobody wrote in the YAML counts too.
  scratch_.put("talking/generation_config.json", R"({"repetition_penalty": 1.2, "max_new_tokens": 30})");
  const std::string answer = doctor(issue, {});
  EXPECT_FALSE(has(answer, "nothing holds repetition back")) << answer;
  EXPECT_TRUE(has(answer, "max_new_tokens is 30 (generation_config)")) << answer;
  scratch_.put("talking/tokenizer_config.json", "{}");
  EXPECT_TRUE(has(doctor(issue, {}), "no chat template"));
  const Outcome cut = rhapsode({"run", "-c", config({"max_tokens: 3", "min_new_tokens: 3"}), "--ids", "1,2"});
  EXPECT_TRUE(has(cut.err, "length after 3 tokens (max_new_tokens)")) << cut.err;
}

TEST_F(Troubleshooting, DeterministicOutput) {
  const char* issue = "Deterministic Output";
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{}, "each answer is drawn anew"},
      {{"do_sample: false"}, "do_sample is false (yaml): the most likely"},
      {{"temperature: 0"}, "temperature is 0.0 (yaml): the most likely"},
      {{"defaults: transformers"}, "do_sample is false (default): the most likely"},
      {{"num_beams: 3"}, "num_beams is 3 (yaml) and nothing is sampled"},
      {{"top_k: 1"}, "only one token is left"},
      {{"top_p: 0.0"}, "only one token is left"},
      {{"seed: 7"}, "seed is 7 (yaml): every run draws the same"},
      {{"temperature: 0.1"}, "answers hardly vary"}};
  for (const auto& [keys, fact] : cases) EXPECT_TRUE(has(doctor(issue, keys), fact)) << doctor(issue, keys);
  scratch_.put("talking/generation_config.json", R"({"do_sample": false})");
  EXPECT_TRUE(has(doctor(issue, {}), "do_sample is false (generation_config)")) << doctor(issue, {});
}

TEST_F(Troubleshooting, ModelNotLoadingFromADirectory) {
  const char* issue = "Model Not Loading";
  EXPECT_TRUE(has(doctor(issue, {}), "is on this machine and can be read"));
  scratch_.put("talking/config.json",
               R"({"model_type": "novel", "auto_map": {"AutoModelForCausalLM": "x.Y"}})");
  const std::string novel = doctor(issue, {"trust_remote_code: true"});
  EXPECT_TRUE(has(novel, "novel")) << novel;
  const Outcome run = rhapsode({"run", "-c", config({"trust_remote_code: true"}), "--ids", "1", "--json"});
  EXPECT_EQ(run.code, 8);
  EXPECT_FALSE(run.json().at("error").at("help").is_null()) << run.out;
  fs::remove(scratch_.path() / "talking/config.json");
  EXPECT_TRUE(has(doctor(issue, {}), "no config.json"));
  fs::copy_file(fixture("golden/llama-mqa/config.json"), scratch_.path() / "talking/config.json");
  fs::remove(scratch_.path() / "talking/model.safetensors");
  const std::string weights = doctor(issue, {});
  EXPECT_TRUE(has(weights, "cannot be loaded: ")) << weights;
  EXPECT_TRUE(has(weights, "help: ")) << weights;
  EXPECT_FALSE(has(weights, "can be read")) << weights;
}

TEST_F(Troubleshooting, ModelNotLoadingFromAHub) {
  const auto at = [&](const std::string& id, const std::string& command) {
    std::vector<std::string> arguments = {command,  "-c",    config(),
                                          "--json", "--set", "model_id='" + id + "'"};
    if (command == "run") arguments.insert(arguments.end(), {"--ids", "1"});
    return arguments;
  };
  std::vector<std::string> misspelt = at("https://hub/org/name", "doctor");
  misspelt.emplace_back("--offline");
  EXPECT_TRUE(has(said(rhapsode(misspelt), "Model Not Loading"), "write org/name"));
  EXPECT_EQ(rhapsode(at("https://hub/org/name", "run")).json().at("error").at("help"), "write org/name");
  std::vector<std::string> offline = at("org/name", "run");
  offline.emplace_back("--offline");
  EXPECT_TRUE(has(rhapsode(offline).json().at("error").at("help"), "rhapsode pull org/name"));
  HubServer server({{"config.json", {"{}", false}}});
  const std::pair<int, const char*> refusals[] = {
      {401, "GatedRepo"}, {403, "GatedRepo"}, {404, "RepoNotFound"}};
  for (const auto& [status, code] : refusals) {
    server.twist = [status = status, code = code](const HubServer::Request&) {
      return std::optional<HubServer::Reply>(
          {status, {"X-Error-Code: " + std::string(code)}, "", {}, {}, false, 0});
    };
    const Outcome run = run_program({at("org/name", "run"), "", {{"HF_ENDPOINT", server.endpoint()}}, 0});
    EXPECT_EQ(run.code, status == 404 ? 5 : 4) << run.out;
    const Json help = run.json().at("error").at("help");
    ASSERT_TRUE(help.is_string()) << run.out;
    if (status == 401) {
      EXPECT_TRUE(has(help, "rhapsode login")) << help;
    }
  }
}

}  // namespace
}  // namespace rhapsode::testing
