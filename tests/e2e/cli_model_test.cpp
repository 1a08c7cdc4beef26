// plan, run, ppl and chat on the tiny golden checkpoints: what transformers computed, the JSON of the
// contract, exit codes.
#include <algorithm>
#include <cmath>
#include <fstream>

#include "program.h"

namespace rhapsode::testing {
namespace {

class Tiny : public ::testing::Test {
 protected:
  std::string config(const std::vector<std::string>& keys = {},
                     const std::string& checkpoint = fixture("golden/llama-mqa")) const {
    return scratch_.put("tiny.yaml", tiny_yaml(checkpoint, keys));
  }
  // A copy of llama-mqa to damage.
  std::string copy(const char* name) const {
    const std::filesystem::path to = scratch_.path() / name;
    std::filesystem::create_directories(to);
    for (const char* file : {"config.json", "model.safetensors"})
      std::filesystem::copy_file(fixture("golden/llama-mqa/" + std::string(file)), to / file);
    return to.string();
  }
  Scratch scratch_;
};
using CliPlan = Tiny;
using CliRun = Tiny;
using CliPpl = Tiny;
using CliChat = Tiny;

std::string joined(const Json& ids) {
  std::string out;
  for (const Json& id : ids) out += (out.empty() ? "" : ",") + std::to_string(id.get<uint32_t>());
  return out;
}

TEST_F(CliPlan, HasTheFieldsOfTheContract) {
  const Outcome outcome = rhapsode({"plan", "-c", config(), "--json"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const Json plan = outcome.json();
  EXPECT_EQ(plan.at("fits"), true);
  EXPECT_EQ(plan.at("bytes_short"), 0);
  EXPECT_EQ(plan.at("max_context"), 512);
  const Json& cpu = plan.at("devices").at(0);
  EXPECT_EQ(cpu.at("name"), "cpu");
  EXPECT_EQ(cpu.at("kind"), "cpu");
  uint64_t sum = 0;
  for (const char* part :
       {"weights_bytes", "quant_metadata_bytes", "kv_bytes", "workspace_bytes", "process_bytes"})
    sum += cpu.at(part).get<uint64_t>();
  EXPECT_EQ(cpu.at("total_bytes"), sum);
  EXPECT_GT(cpu.at("limit_bytes"), sum);
  const Json map = {{"model.embed_tokens", "cpu"}, {"model.layers.0", "cpu"}, {"model.layers.1", "cpu"},
                    {"model.layers.2", "cpu"},     {"model.norm", "cpu"},     {"lm_head", "cpu"}};
  EXPECT_EQ(plan.at("device_map"), map);
  EXPECT_TRUE(plan.at("downgrades").is_array());
  EXPECT_TRUE(plan.at("changes").is_array());
  const std::string text = rhapsode({"plan", "-c", config()}).out;
  EXPECT_NE(text.find("model.layers.0-2 -> cpu"), std::string::npos) << text;
  EXPECT_NE(text.find("largest context that fits: 512 tokens"), std::string::npos) << text;
}

TEST_F(CliPlan, AMisfitIsToldWholeWithExitCodeSeven) {
  const Outcome outcome = rhapsode({"plan", "-c", config({"max_memory: {cpu: \"1MB\"}"}), "--json"});
  EXPECT_EQ(outcome.code, 7);
  const Json plan = outcome.json();
  EXPECT_EQ(plan.at("fits"), false);
  const Json& cpu = plan.at("devices").at(0);
  EXPECT_EQ(cpu.at("limit_bytes"), 1'000'000);
  EXPECT_EQ(plan.at("bytes_short"), cpu.at("total_bytes").get<uint64_t>() - 1'000'000);
  const Outcome run =
      rhapsode({"run", "-c", config({"max_memory: {cpu: \"1MB\"}"}), "--ids", "1,2", "--json"});
  EXPECT_EQ(run.code, 7);
  EXPECT_EQ(run.error_code(), "does-not-fit");
}

TEST_F(CliPlan, AnEightBitCacheIsCountedToTheByte) {
  const Json whole = rhapsode({"plan", "-c", config(), "--json"}).json();
  const Json small = rhapsode({"plan", "-c", config({"kv_cache_dtype: int8"}), "--json"}).json();
  const Json shape = read_json_file(fixture("golden/llama-mqa/config.json"));
  const uint64_t heads =
      2 * shape.at("num_hidden_layers").get<uint64_t>() * shape.at("num_key_value_heads").get<uint64_t>();
  const uint64_t dims = shape.at("head_dim").get<uint64_t>();
  EXPECT_EQ(whole.at("devices").at(0).at("kv_bytes"), 512 * heads * dims * 4);
  EXPECT_EQ(small.at("devices").at(0).at("kv_bytes"), 512 * heads * (dims + 4));
  const Json run =
      rhapsode({"run", "-c", config({"kv_cache_dtype: int8"}), "--ids", "1,2,3", "--json"}).json();
  EXPECT_FALSE(run.at("output_ids").empty());
  EXPECT_EQ(rhapsode({"plan", "-c", config({"kv_cache_dtype: int4"})}).code, 3);
}

// The roofline takes 512 MiB a thread: fewer rounds are no fewer bytes, so one call holds all that is asked.
TEST_F(CliPlan, BenchExplainsEveryMillisecondOfAToken) {
  const Outcome outcome = rhapsode({"bench", "-c", config(), "--prompt-tokens", "24", "--new-tokens", "12",
                                    "--rounds", "1", "--explain", "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.out;
  const Json result = outcome.json();
  EXPECT_EQ(result.at("prompt_peak"), "fp32 multiply-add");
  for (const char* phase : {"decode", "prompt"}) {
    const Json& part_of = result.at("explain").at(phase);
    double sum = 0, largest = 0;
    for (const Json& part : part_of.at("parts")) {
      sum += part.at("ms").get<double>();
      largest = std::max(largest, part.at("ms").get<double>());
      if (part.at("name") == "linear qkv" || part.at("name") == "attention") {
        EXPECT_GT(part.at("ms"), 0.0) << phase;
      }
    }
    const double token_ms = part_of.at("token_ms");
    EXPECT_NEAR(sum, token_ms, 1e-6 * token_ms) << phase;
    EXPECT_LT(largest, token_ms) << phase;
    double before = token_ms;
    for (const Json& knob : part_of.at("knobs")) {
      EXPECT_LE(knob.at("saves_ms"), before) << phase;
      before = knob.at("saves_ms");
    }
  }
}

TEST_F(CliPlan, BenchOfKernelsRefusesWhatItDoesNotMeasure) {
  EXPECT_EQ(rhapsode({"bench", "tensors", "--json"}).error_code(), "unknown-bench");
  EXPECT_EQ(rhapsode({"bench", "kernels", "--explain", "--json"}).error_code(), "contradicting-options");
  EXPECT_EQ(rhapsode({"bench", "kernels", "--isa", "none", "--json"}).error_code(), "unknown-isa");
  EXPECT_EQ(rhapsode({"bench", "-c", config(), "--quick", "--json"}).error_code(), "contradicting-options");
}

TEST_F(CliPlan, EmitsAConfigThatSaysWhatWasResolved) {
  const std::string out = scratch_.file("fitting.yaml");
  const Outcome outcome = rhapsode({"plan", "-c", config({"# kept", "top_k: 7"}), "--emit-config", out,
                                    "--set", "temperature=0.5", "--json"});
  EXPECT_EQ(outcome.code, 0) << outcome.out;
  EXPECT_EQ(outcome.json().at("emitted"), out);
  const std::string text = read_file(out);
  for (const char* line : {"      torch_dtype: float32\n", "      # kept\n", "      top_k: 7\n",
                           "      temperature: 0.5\n", "      max_context: 512\n"})
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  EXPECT_EQ(rhapsode({"plan", "-c", out, "--json"}).json().at("context_source"), "max_context");
}

TEST_F(CliPlan, EmitsAConfigInTheStyleOfTheGivenOne) {
  const std::string out = scratch_.file("fitting.yaml");
  const std::string entry = "{\"model_id\": \"" + fixture("golden/llama-mqa") +
                            "\", torch_dtype: 'float32', max_memory: {cpu: 9GB}}";
  const std::string given =
      scratch_.put("flow.yaml", "generator:\n  active_model: tiny\n  models: {tiny: " + entry + "} # mine\n");
  const Outcome outcome = rhapsode({"plan", "-c", given, "--emit-config", out, "--set", "max_memory.cpu=8GB",
                                    "--set", "temperature=0.5", "--json"});
  EXPECT_EQ(outcome.code, 0) << outcome.out;
  EXPECT_EQ(
      read_file(out),
      "generator:\n  active_model: tiny\n  models: {tiny: {\"model_id\": \"" + fixture("golden/llama-mqa") +
          "\", torch_dtype: float32, max_memory: {cpu: 8GB}, temperature: 0.5, max_context: 512}} # mine\n");
  EXPECT_EQ(rhapsode({"plan", "-c", out}).code, 0);
}

TEST_F(CliPlan, ALayoutThatCannotBeEditedIsToldWithItsPlace) {
  const std::string given = scratch_.put(
      "flow.yaml", "generator:\n  active_model: tiny\n  models:\n    tiny: {\n      model_id: \"" +
                       fixture("golden/llama-mqa") + "\"}\n");
  const Outcome outcome =
      rhapsode({"plan", "-c", given, "--emit-config", scratch_.file("fitting.yaml"), "--json"});
  EXPECT_EQ(outcome.code, 3) << outcome.out;
  EXPECT_EQ(outcome.error_code(), "cannot-edit");
  EXPECT_EQ(outcome.json().at("error").at("line"), 4);
  EXPECT_FALSE(std::filesystem::exists(scratch_.file("fitting.yaml")));
}

TEST_F(CliPlan, EmitsAConfigThatFitsWhereTheGivenOneDoesNot) {
  const Json small = rhapsode({"plan", "-c", config(), "--set", "max_context=64", "--json"}).json();
  const uint64_t limit = small.at("devices").at(0).at("total_bytes").get<uint64_t>() + 60'000;
  const std::string given = config({"max_memory:", "  cpu: " + std::to_string(limit)});
  const std::string out = scratch_.file("fitting.yaml");
  // The process itself varies by some pages from run to run, so the limit leaves only a little room.
  const Outcome outcome =
      rhapsode({"plan", "-c", given, "--emit-config", out, "--set", "max_context=512", "--json"});
  if (outcome.code == 0) GTEST_SKIP() << "512 tokens fit as well";
  EXPECT_EQ(outcome.code, 7) << outcome.out;
  bool known = false;
  const Json told = outcome.json();  // named: a loop over a part of it keeps no whole alive
  for (const Json& change : told.at("changes")) known = known || change.at("fits") == true;
  EXPECT_EQ(std::filesystem::exists(out), known);
}

TEST_F(CliRun, GreedyIdsAreThoseOfTransformers) {
  const Json golden = read_json_file(fixture("golden/llama-mqa/golden.json")).at("float32").at("p7");
  uint32_t unused = 0;
  while (std::find(golden.at("greedy").begin(), golden.at("greedy").end(), Json(unused)) !=
         golden.at("greedy").end())
    ++unused;
  const Outcome outcome =
      rhapsode({"run", "-c", config(), "--ids", joined(golden.at("ids")), "--json", "--set",
                "max_new_tokens=64", "--set", "eos_token_id=" + std::to_string(unused)});
  ASSERT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  const Json json = outcome.json();
  EXPECT_EQ(json.at("output_ids"), golden.at("greedy"));
  EXPECT_EQ(json.at("prompt_ids"), golden.at("ids"));
}

TEST_F(CliRun, HasTheFieldsOfTheContract) {
  const Outcome outcome = rhapsode({"run", "-c", config(), "--ids", "5, 6,7", "--json", "--trace", "4"});
  ASSERT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  const Json json = outcome.json();
  EXPECT_EQ(json.at("model"), "tiny");
  EXPECT_TRUE(json.at("text").is_null());
  EXPECT_EQ(json.at("prompt_ids"), Json({5, 6, 7}));
  EXPECT_TRUE(json.at("finish_reason") == "length" || json.at("finish_reason") == "stop");
  const size_t tokens = json.at("output_ids").size();
  EXPECT_EQ(json.at("usage"), Json({{"prompt_tokens", 3}, {"completion_tokens", tokens}}));
  EXPECT_EQ(json.at("sequences").at(0).at("ids"), json.at("output_ids"));
  for (const char* field : {"load_ms", "prompt_ms", "decode_ms"})
    EXPECT_TRUE(json.at("timings").at(field).is_number()) << field;
  for (const char* field : {"prompt_tokens_per_s", "decode_tokens_per_s"})
    EXPECT_TRUE(json.at("timings").contains(field)) << field;
  const Json& memory = json.at("memory");
  EXPECT_GT(memory.at("plan_bytes"), 0);
  EXPECT_GT(memory.at("peak_rss_bytes"), 0);
  const Json& device = memory.at("devices").at(0);
  EXPECT_EQ(device.at("name"), "cpu");
  EXPECT_GT(device.at("peak_bytes"), 0);
  EXPECT_GE(device.at("limit_bytes"), device.at("peak_bytes"));
  ASSERT_EQ(json.at("steps").size(), tokens);
  const Json& step = json.at("steps").at(0);
  EXPECT_EQ(step.at("id"), json.at("output_ids").at(0));
  ASSERT_EQ(step.at("top").size(), 4u);
  EXPECT_EQ(step.at("top").at(0).at(0), step.at("id"));
  EXPECT_GE(step.at("top").at(0).at(1), step.at("top").at(1).at(1));
  EXPECT_EQ(step.at("probs").size(), 4u);
}

TEST_F(CliRun, TheAnswerDoesNotDependOnThreadsOrKernels) {
  const std::vector<std::string> base = {"run",           "-c",
                                         config(),        "--ids",
                                         "9,8,7,6,5,4,3", "--json",
                                         "--set",         "max_new_tokens=24",
                                         "--set",         "min_new_tokens=24"};
  const Json expected = rhapsode(base).json().at("output_ids");
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{"--threads", "1"}, {"--threads", "3"}, {"--isa", "reference"}}) {
    std::vector<std::string> arguments = base;
    arguments.insert(arguments.end(), more.begin(), more.end());
    EXPECT_EQ(rhapsode(arguments).json().at("output_ids"), expected) << more[1];
  }
}

TEST_F(CliRun, SeedsDecideWhatIsSampled) {
  const auto sampled = [&](const char* seed) {
    return rhapsode({"run", "-c", config(), "--ids", "3,4", "--json", "--seed", seed, "--set",
                     "do_sample=true", "--set", "temperature=3.0", "--set", "max_new_tokens=16", "--set",
                     "min_new_tokens=16"})
        .json()
        .at("output_ids");
  };
  EXPECT_EQ(sampled("1"), sampled("1"));
  EXPECT_NE(sampled("1"), sampled("2"));
}

// Who asks for no seed gets another answer each time, and the seed to have it again.
TEST_F(CliRun, WithoutASeedEachAnswerIsDrawnAnewAndCanBeHadAgain) {
  const std::vector<std::string> sampling = {"run",    "-c",     config(),         "--ids", "3,4",
                                             "--json", "--set",  "do_sample=true", "--set", "temperature=2.0",
                                             "--set",  "top_k=0"};
  const Json one = rhapsode(sampling).json(), other = rhapsode(sampling).json();
  EXPECT_NE(one.at("seed"), other.at("seed"));
  EXPECT_NE(one.at("output_ids"), other.at("output_ids"));
  std::vector<std::string> again = sampling;
  again.insert(again.end(), {"--seed", one.at("seed").dump()});
  EXPECT_EQ(rhapsode(again).json().at("output_ids"), one.at("output_ids"));
  const std::string file = scratch_.put("twice.jsonl", "{\"ids\": [3, 4]}\n{\"ids\": [3, 4]}\n");
  std::vector<std::string> twice = sampling;
  twice[3] = "--prompts-file";
  twice[4] = file;
  const Json results = rhapsode(twice).json().at("results");
  EXPECT_NE(results.at(0).at("output_ids"), results.at(1).at("output_ids"));
  const Json greedy = rhapsode({"run", "-c", config(), "--ids", "3,4", "--json"}).json();
  EXPECT_EQ(greedy.at("seed"), 0);
}

TEST_F(CliRun, IdsWithoutJsonArePrintedAsIds) {
  const Outcome plain = rhapsode({"run", "-c", config(), "--ids", "5,6,7"});
  const Json json = rhapsode({"run", "-c", config(), "--ids", "5,6,7", "--json"}).json();
  EXPECT_EQ(plain.out, joined(json.at("output_ids")) + "\n");
  EXPECT_NE(plain.err.find("tokens"), std::string::npos);
  EXPECT_EQ(rhapsode({"run", "-c", config(), "--ids", "5,6,7", "-q"}).err, "");
}

// max_new_tokens wins over max_length whoever sets either; max_length counts the prompt.
// What is missing beside a comma may have been an id that was meant.
TEST_F(CliRun, AnEmptyEntryAmongIdsIsRefused) {
  for (const char* ids : {"1,,2", ",1", "1,2,", "1, ,2", ","}) {
    const Outcome outcome = rhapsode({"run", "-c", config(), "--ids", ids, "--json"});
    EXPECT_EQ(outcome.code, 2) << ids;
    EXPECT_EQ(outcome.error_code(), "empty-id") << ids;
  }
  const Json error = rhapsode({"run", "-c", config(), "--ids", "1,,2", "--json"}).json().at("error");
  EXPECT_EQ(error.at("found"), "nothing where entry 2 should be");
  EXPECT_EQ(rhapsode({"run", "-c", config(), "--ids", " ", "--json"}).error_code(), "no-ids");
  EXPECT_EQ(rhapsode({"run", "-c", config(), "--ids", "1, 2 3", "--json"}).json().at("prompt_ids"),
            Json({1, 2, 3}));
}

TEST_F(CliRun, LengthsAreThoseOfGenerate) {
  const std::string model = scratch_.file("model");
  std::filesystem::copy(fixture("golden/llama-mqa"), model);
  const auto tokens = [&](const std::string& generation_config, const std::string& keys,
                          const std::string& ids) {
    std::ofstream(model + "/generation_config.json") << generation_config;
    const std::string yaml = scratch_.put(
        "lengths.yaml",
        "generator:\n  active_model: tiny\n  models:\n    tiny:\n      type: huggingface\n      model_id: "
        "\"" +
            model + "\"\n      torch_dtype: float32\n      do_sample: false\n      eos_token_id: 100\n" +
            keys);
    const Outcome outcome = rhapsode({"run", "-c", yaml, "--ids", ids, "--json"});
    return outcome.code == 0 ? outcome.json().at("usage").at("completion_tokens").dump()
                             : outcome.error_code();
  };
  const std::string three = "5,6,7";
  EXPECT_EQ(tokens("{}", "      max_length: 10\n", three), "7");
  EXPECT_EQ(tokens(R"({"max_length": 9})", "", three), "6");
  EXPECT_EQ(tokens(R"({"max_length": 9})", "      max_length: 10\n", three), "7");
  EXPECT_EQ(tokens(R"({"max_length": 9})", "      max_tokens: 2\n", three), "2");
  EXPECT_EQ(tokens(R"({"max_new_tokens": 4})", "      max_length: 10\n", three), "4");
  EXPECT_EQ(tokens("{}", "      max_length: 3\n", three), "prompt-too-long");
  EXPECT_EQ(tokens("{}", "      defaults: transformers\n", three), "20");
  // The default length ends at the model's last position; an asked one need not.
  std::string many = "5";
  const uint64_t positions =
      read_json_file(model + "/config.json").at("max_position_embeddings").get<uint64_t>();
  for (uint64_t i = 1; i < positions - 3; ++i) many += ",6";
  EXPECT_EQ(tokens("{}", "      defaults: transformers\n", many), "3");
  many += ",7,7,7";
  EXPECT_EQ(tokens("{}", "      defaults: transformers\n", many), "prompt-too-long");
  EXPECT_EQ(tokens("{}", "      defaults: transformers\n      max_new_tokens: 2\n", many), "2");
}

// Rules that only the checkpoint's file gives are those of the YAML; the YAML wins; what is not implemented
// is refused by name.
TEST_F(CliRun, RulesOfTheCheckpointsGenerationConfig) {
  const std::string model = scratch_.file("model");
  std::filesystem::copy(fixture("golden/llama-mqa"), model);
  const auto answer = [&](const Json& generation_config, const std::string& keys) {
    std::ofstream(model + "/generation_config.json") << generation_config.dump();
    const std::string yaml = scratch_.put(
        "rules.yaml",
        "generator:\n  active_model: tiny\n  models:\n    tiny:\n      model_id: \"" + model +
            "\"\n      torch_dtype: float32\n      do_sample: false\n      eos_token_id: 100\n      "
            "max_new_tokens: 12\n" +
            keys);
    return rhapsode({"run", "-c", yaml, "--ids", "5,6,7", "--json"});
  };
  const Json plain = answer(Json::object(), "").json().at("output_ids");
  const auto first = plain.at(0).get<int64_t>(), second = plain.at(1).get<int64_t>();
  const Json rules = {{"bad_words_ids", Json::array({Json::array({first}), Json::array({7, second})})},
                      {"sequence_bias", Json::array({Json::array({Json::array({7, 9}), 30.0})})},
                      {"forced_eos_token_id", 3},
                      {"exponential_decay_length_penalty", {9, 1.5}},
                      {"suppress_tokens", {second}},
                      {"prompt_lookup_num_tokens", 3}};
  for (const auto& [key, value] : rules.items()) {
    const Json by_file = answer({{key, value}}, "").json().at("output_ids");
    EXPECT_EQ(by_file,
              answer(Json::object(), "      " + key + ": " + value.dump() + "\n").json().at("output_ids"))
        << key;
    const bool changes = key != "prompt_lookup_num_tokens" && key != "exponential_decay_length_penalty";
    EXPECT_TRUE(!changes || by_file != plain) << key;
  }
  EXPECT_EQ(answer({{"suppress_tokens", {first}}}, "      suppress_tokens: [99]\n").json().at("output_ids"),
            plain);
  const Json without_counterpart = {{"top_h", 0.4},
                                    {"encoder_repetition_penalty", 1.2},
                                    {"penalty_alpha", 0.6},
                                    {"num_beam_groups", 2},
                                    {"watermarking_config", Json::object()}};
  for (const auto& [key, value] : without_counterpart.items()) {
    const Outcome refused = answer({{key, value}}, "");
    EXPECT_EQ(refused.code, 8) << key;
    EXPECT_EQ(refused.json().at("error").at("path"), "/" + key);
  }
  EXPECT_EQ(answer({{"num_beam_groups", 1}, {"diversity_penalty", 0.0}, {"top_h", nullptr}}, "").code, 0);
  const Outcome broken = answer({{"bad_words_ids", 3.5}}, "");
  EXPECT_EQ(broken.code, 9);
}

TEST_F(CliRun, ExitCodes) {
  EXPECT_EQ(rhapsode({"run", "-c", config(), "--ids", "1,115"}).code, 2);
  EXPECT_EQ(rhapsode({"run", "-c", config(), "--ids", "1,x"}).code, 2);
  EXPECT_EQ(rhapsode({"run", "-c", config(), "--ids", ","}).code, 2);
  EXPECT_EQ(rhapsode({"run", "-c", config(), "--ids", "1", "--threads", "0"}).code, 2);
  EXPECT_EQ(rhapsode({"run", "-c", config(), "--ids", "1", "--seed", "-1"}).code, 2);
  EXPECT_EQ(rhapsode({"run", "-c", config(), "--ids", "1", "--isa", "sse9"}).code, 2);
  EXPECT_EQ(rhapsode({"run", "-c", config({"top_kk: 1"}), "--ids", "1"}).code, 3);
  EXPECT_EQ(rhapsode({"run", "-c", config(), "--ids", "1", "--model", "other"}).code, 3);
  EXPECT_EQ(rhapsode({"run", "-c", config(), "--ids", "1", "--set", "nonsense"}).code, 2);
  EXPECT_EQ(rhapsode({"run", "-c", scratch_.file("none.yaml"), "--ids", "1"}).code, 5);
  EXPECT_EQ(rhapsode({"run", "-c", config({}, scratch_.file("nowhere")), "--ids", "1"}).code, 5);
  EXPECT_EQ(rhapsode({"run", "-c", config({}, "nobody/nothing"), "--ids", "1", "--offline"}).code, 6);
  const Outcome untold = rhapsode({"run", "-c", config(), "--prompt", "hello", "--json"});
  EXPECT_EQ(untold.code, 5);
  EXPECT_EQ(untold.error_code(), "no-tokenizer");
}

TEST_F(CliRun, UnsupportedAndDamagedCheckpoints) {
  const std::string strange = copy("strange");
  std::string json = read_file(strange + "/config.json");
  json.replace(json.find("\"llama\""), 7, "\"lamma\"");
  scratch_.put("strange/config.json", json);
  EXPECT_EQ(rhapsode({"run", "-c", config({}, strange), "--ids", "1"}).code, 8);
  EXPECT_EQ(rhapsode({"plan", "-c", config({}, strange)}).code, 8);
  const std::string cut = copy("cut");
  std::filesystem::resize_file(cut + "/model.safetensors", 5000);
  const Outcome damaged = rhapsode({"run", "-c", config({}, cut), "--ids", "1", "--json"});
  EXPECT_EQ(damaged.code, 9);
  EXPECT_EQ(damaged.json().at("error").at("file"), cut + "/model.safetensors");
  const std::string garbled = copy("garbled");
  scratch_.put("garbled/config.json", "{\"model_type\": ");
  EXPECT_EQ(rhapsode({"plan", "-c", config({}, garbled)}).code, 9);
}

// What only the model can refuse: the place is still that of the YAML, or the file of the checkpoint that
// says it.
TEST_F(CliRun, ParametersThatTheModelRefusesHaveTheirPlace) {
  const auto error = [&](const std::string& yaml, int code) {
    const Outcome outcome = rhapsode({"run", "-c", yaml, "--ids", "1", "--json"});
    EXPECT_EQ(outcome.code, code) << outcome.out;
    return outcome.json().at("error");
  };
  const Json yaml = error(config({"suppress_tokens: [999]"}), 3);
  EXPECT_EQ(yaml.at("line"), 10);
  EXPECT_EQ(yaml.at("column"), 24);
  EXPECT_EQ(yaml.at("path"), "generator.models.tiny.suppress_tokens");
  const Json id = error(config({}, "a//b"), 3);
  EXPECT_EQ(id.at("line"), 6);
  const std::string checkpoint = copy("said");
  scratch_.put("said/generation_config.json", R"({"suppress_tokens": [999]})");
  const Json said = error(config({}, checkpoint), 9);
  EXPECT_EQ(said.at("file"), checkpoint + "/generation_config.json");
  EXPECT_EQ(said.at("path"), "/suppress_tokens");
  scratch_.put("said/generation_config.json", "[]");
  EXPECT_EQ(error(config({}, checkpoint), 9).at("file"), checkpoint + "/generation_config.json");
  scratch_.put("said/generation_config.json",
               R"({"eos_token_id": -1, "pad_token_id": -1})");  // some write it for none
  EXPECT_EQ(rhapsode({"run", "-c", config({}, checkpoint), "--ids", "1"}).code, 0);
}

TEST_F(CliRun, AnAnswerEndsWhereMaxContextIsFull) {
  const Json run = rhapsode({"run", "-c", config({"max_context: 9"}), "--ids", "1,2,3", "--json"}).json();
  EXPECT_EQ(run.at("usage").at("completion_tokens"), 6);
  EXPECT_EQ(run.at("finish_reason"), "length");
  const Outcome told = rhapsode({"run", "-c", config({"max_context: 9"}), "--ids", "1,2,3"});
  EXPECT_NE(told.err.find("6 tokens"), std::string::npos) << told.err;
  const Outcome full =
      rhapsode({"run", "-c", config({"max_context: 9"}), "--ids", "1,2,3,4,5,6,7,8,9", "--json"});
  EXPECT_EQ(full.code, 2);
  EXPECT_EQ(full.json().at("error").at("line"), 10);
}

// transformers 5.23.0: the same best three for 130 beams, more than the vocabulary of 115 has tokens.
TEST_F(CliRun, MoreBeamsThanTheVocabularyHasTokens) {
  const Json run = rhapsode({"run", "-c", config({"num_beams: 130", "num_return_sequences: 3"}), "--ids",
                             "1,2,3", "--set", "max_new_tokens=4", "--json"})
                       .json();
  const Json ids = {{48, 104, 49, 79}, {48, 51, 82, 58}, {48, 51, 82, 48}};
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(run.at("sequences").at(i).at("ids"), ids.at(i));
}

TEST_F(CliRun, PromptsGoThroughTheTemplateUnlessRaw) {
  const std::string yaml = config({"system_prompt: be short"}, talking_checkpoint(scratch_));
  const Json chat = rhapsode({"run", "-c", yaml, "--prompt", "why is the sky blue", "--json"}).json();
  EXPECT_EQ(chat.at("prompt_ids"), Json({1, 6, 10, 41, 4, 68, 24, 48, 42, 11, 5}));
  EXPECT_TRUE(chat.at("text").is_string());
  const Json raw = rhapsode({"run", "-c", yaml, "--prompt", "why is the sky blue", "--raw", "--json"}).json();
  EXPECT_EQ(raw.at("prompt_ids"), Json({1, 68, 24, 48, 42, 11}));
  const Json piped =
      rhapsode({"run", "-c", yaml, "--prompt-file", "-", "--raw", "--json"}, "why is the sky blue").json();
  EXPECT_EQ(piped.at("output_ids"), raw.at("output_ids"));
  const Json messages =
      rhapsode(
          {"run", "-c", yaml, "--messages", "-", "--json"},
          R"([{"role": "system", "content": "be short"}, {"role": "user", "content": "why is the sky blue"}])")
          .json();
  EXPECT_EQ(messages.at("output_ids"), chat.at("output_ids"));
  const Outcome streamed = rhapsode({"run", "-c", yaml, "--prompt", "why is the sky blue", "-q"});
  EXPECT_EQ(streamed.out, chat.at("text").get<std::string>() + "\n");
  EXPECT_EQ(rhapsode({"run", "-c", yaml, "--messages", "-"}, "{}").code, 2);
  const std::string settings = read_file(scratch_.file("talking/tokenizer_config.json"));
  ASSERT_NE(settings.find("\"chat_template\""), std::string::npos);
  scratch_.put("talking/tokenizer_config.json", "{}");
  EXPECT_EQ(
      rhapsode({"run", "-c", yaml, "--messages", "-"}, "[{\"role\":\"user\",\"content\":\"sky\"}]").code, 5);
}

TEST_F(CliRun, PromptsOfAFileAreAnsweredAsEachAlone) {
  const std::string yaml = config({}, talking_checkpoint(scratch_));
  const std::string file = scratch_.put("prompts.jsonl",
                                        "\"why is the sky blue\"\n\n"
                                        "{\"ids\": [1, 68, 24, 48]}\n"
                                        "{\"prompt\": \"hello\"}\n"
                                        "{\"messages\": [{\"role\": \"user\", \"content\": \"hello\"}]}\n");
  const Outcome outcome = rhapsode({"run", "-c", yaml, "--prompts-file", file, "--batch", "3", "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  const Json results = outcome.json().at("results");
  ASSERT_EQ(results.size(), 4u);
  const Json sky = rhapsode({"run", "-c", yaml, "--prompt", "why is the sky blue", "--json"}).json();
  const Json ids = rhapsode({"run", "-c", yaml, "--ids", "1,68,24,48", "--json"}).json();
  const Json hello = rhapsode({"run", "-c", yaml, "--prompt", "hello", "--json"}).json();
  const Json* alone[] = {&sky, &ids, &hello, &hello};
  for (size_t i = 0; i < 4; ++i)
    for (const char* key :
         {"prompt_ids", "output_ids", "text", "finish_reason", "sequences", "usage", "seed"})
      EXPECT_EQ(results[i].at(key), alone[i]->at(key)) << i << " " << key;
  const Outcome plain = rhapsode({"run", "-c", yaml, "--prompts-file", file, "-q"});
  EXPECT_TRUE(plain.out.starts_with(sky.at("text").get<std::string>() + "\n---\n")) << plain.out;
  for (const char* bad : {"", "7", "{}", "{\"prompt\": 1}", "{\"ids\": []}", "{\"ids\": [-1]}",
                          "{\"idz\": [1]}", "{\"messages\": {}}", "{\"prompt\": \"a\", \"ids\": [1]}", "\"a"})
    EXPECT_EQ(rhapsode({"run", "-c", yaml, "--prompts-file", "-"}, std::string(bad) + "\n").code, 2) << bad;
  EXPECT_EQ(rhapsode({"run", "-c", yaml, "--prompt", "a", "--batch", "2"}).code, 2);
  EXPECT_EQ(rhapsode({"run", "-c", yaml, "--prompts-file", file, "--batch", "0"}).code, 2);
}

// The second prompt's token has no numbers: what was answered before it is there, and so is the error.
TEST_F(CliRun, AnErrorKeepsTheAnswersOfAFileThatAreThere) {
  const std::string checkpoint = copy("nan");
  {
    constexpr int kHeaderLength = 8, kEmbeddings = 9660, kRowBytes = 84;
    std::fstream file(checkpoint + "/model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
    uint64_t header = 0;
    file.read(reinterpret_cast<char*>(&header), kHeaderLength);
    file.seekp(static_cast<std::streamoff>(kHeaderLength + header + kEmbeddings + 7 * kRowBytes));
    for (int i = 0; i < kRowBytes / 2; ++i) file.write("\xc0\x7f", 2);
  }
  const std::string prompts =
      scratch_.put("three.jsonl", "{\"ids\": [3, 4]}\n{\"ids\": [7]}\n{\"ids\": [5]}\n");
  const std::string yaml = config({}, checkpoint);
  const Json first = rhapsode({"run", "-c", yaml, "--ids", "3,4", "--json"}).json();
  const Outcome outcome = rhapsode({"run", "-c", yaml, "--prompts-file", prompts, "--batch", "1", "--json"});
  EXPECT_NE(outcome.code, 0);
  const Json all = outcome.json();
  ASSERT_EQ(all.at("results").size(), 1u) << outcome.out;
  EXPECT_EQ(all.at("results").at(0).at("output_ids"), first.at("output_ids"));
  EXPECT_FALSE(all.at("error").at("message").get<std::string>().empty());
  EXPECT_EQ(all.at("model"), "tiny");
  EXPECT_TRUE(all.contains("memory"));
}

// Answers are printed as they are finished, not kept until the end.
TEST_F(CliRun, AnInterruptKeepsTheAnswersOfAFileThatAreThere) {
  std::string prompts;
  for (int i = 0; i < 2000; ++i) prompts += "{\"ids\": [3, 4]}\n";
  const Outcome outcome =
      run_program({{"run", "-c", config({"max_context: 512"}), "--prompts-file",
                    scratch_.put("many.jsonl", prompts), "--batch", "1", "--json", "--threads", "1", "--isa",
                    "reference", "--set", "max_new_tokens=200", "--set", "min_new_tokens=200"},
                   "",
                   {},
                   SIGINT});
  EXPECT_EQ(outcome.code, 130) << outcome.err;
  const Json all = outcome.json();
  EXPECT_LT(all.at("results").size(), 2000u);
  EXPECT_FALSE(all.contains("error"));
}

TEST_F(CliRun, AnInterruptStopsTheAnswerAndKeepsWhatIsThere) {
  const std::string yaml = config({"max_context: 512"}, talking_checkpoint(scratch_));
  const Outcome outcome =
      run_program({{"run", "-c", yaml, "--prompt", "hello", "--threads", "1", "--isa", "reference", "--set",
                    "max_new_tokens=480", "--set", "min_new_tokens=480"},
                   "",
                   {},
                   SIGINT});
  EXPECT_TRUE(outcome.code == 130 || outcome.code == 0) << outcome.code;
  EXPECT_FALSE(outcome.out.empty());
  if (outcome.code == 130) {
    EXPECT_NE(outcome.err.find("cancelled"), std::string::npos) << outcome.err;
  }
}

TEST_F(CliPpl, IsTheSameForAWindowThatHoldsAll) {
  const std::string ids = scratch_.put("ids.txt", "5, 6 7\n8,9,10 11 12\n");
  const Outcome outcome = rhapsode({"ppl", "-c", config(), "--ids", ids, "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.out;
  const Json json = outcome.json();
  EXPECT_EQ(json.at("tokens"), 7);
  EXPECT_NEAR(std::exp(json.at("nll").get<double>()), json.at("ppl").get<double>(),
              1e-9 * json.at("ppl").get<double>());
  EXPECT_EQ(rhapsode({"ppl", "-c", config(), "--ids", ids, "--window", "8", "--json"}).json().at("nll"),
            json.at("nll"));
  const Json strided =
      rhapsode({"ppl", "-c", config(), "--ids", ids, "--window", "4", "--stride", "1", "--json"}).json();
  EXPECT_EQ(strided.at("tokens"), 7);
  EXPECT_NE(strided.at("nll"), json.at("nll"));
  EXPECT_EQ(rhapsode({"ppl", "-c", config(), "--ids", ids, "--window", "4", "--stride", "5"}).code, 2);
  EXPECT_EQ(rhapsode({"ppl", "-c", config(), "--ids", ids, "--window", "1"}).code, 2);
  // Beyond the model's positions, as transformers takes it.
  EXPECT_EQ(rhapsode({"ppl", "-c", config(), "--ids", ids, "--window", "513", "--json"}).json().at("nll"),
            json.at("nll"));
  EXPECT_EQ(rhapsode({"ppl", "-c", config(), "--ids", "-"}, "5").code, 2);
  EXPECT_EQ(rhapsode({"ppl", "-c", config(), "--ids", "-"}, "5 115").code, 2);
}

TEST_F(CliPpl, OfATextIsThatOfItsIds) {
  const std::string yaml = config({}, talking_checkpoint(scratch_));
  const Json text = rhapsode({"ppl", "-c", yaml, "--text", "-", "--json"}, "why is the sky blue").json();
  const Json ids = rhapsode({"ppl", "-c", yaml, "--ids", "-", "--json"}, "1 68 24 48 42 11").json();
  EXPECT_EQ(text, ids);
}

TEST_F(CliChat, AnswersEachLineAndKeepsTheConversation) {
  const std::string yaml = config({}, talking_checkpoint(scratch_));
  const std::string saved = scratch_.file("chat.json");
  const Outcome outcome = rhapsode({"chat", "-c", yaml, "--json"},
                                   "hello\n\nwhy is the sky blue\n/save " + saved + "\n/quit\nnever asked\n");
  ASSERT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  const size_t first_end = outcome.out.find('\n');
  const Json first = parse_json(outcome.out.substr(0, first_end), "stdout");
  const Json second = parse_json(outcome.out.substr(first_end + 1), "stdout");
  const Json messages = read_json_file(saved);
  ASSERT_EQ(messages.size(), 4u);
  EXPECT_EQ(messages.at(0), Json({{"role", "user"}, {"content", "hello"}}));
  EXPECT_EQ(messages.at(1).at("content"), first.at("text"));
  EXPECT_EQ(messages.at(3).at("content"), second.at("text"));
  Json asked = messages;
  asked.erase(3);
  const Json alone = rhapsode({"run", "-c", yaml, "--messages", "-", "--json"}, asked.dump()).json();
  EXPECT_EQ(alone.at("output_ids"), second.at("output_ids"));
  EXPECT_EQ(alone.at("usage").at("prompt_tokens"), second.at("usage").at("prompt_tokens"));
  // What the first turn left in the cache is not computed again.
  EXPECT_EQ(first.at("usage").at("reused_tokens"), 0);
  EXPECT_GE(second.at("usage").at("reused_tokens"), first.at("usage").at("prompt_tokens"));
}

TEST_F(CliChat, CommandsAndErrors) {
  const std::string yaml = config({}, talking_checkpoint(scratch_));
  const Outcome outcome =
      rhapsode({"chat", "-c", yaml, "-q"}, "/help\n/system be short\nhello\n/stats\n/regenerate\n/clear\n");
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  for (const char* text :
       {"/regenerate", "system prompt is set", "last answer:", "context:", "conversation is empty"})
    EXPECT_NE(outcome.err.find(text), std::string::npos) << text << outcome.err;
  EXPECT_EQ(rhapsode({"chat", "-c", yaml}, "/nonsense\n").code, 2);
  EXPECT_EQ(rhapsode({"chat", "-c", yaml}, "/regenerate\n").code, 2);
  const Outcome full = rhapsode({"chat", "-c", yaml, "--set", "max_context=9", "--json"},
                                "why is the sky blue and the sea green\n");
  EXPECT_EQ(full.code, 2);
  EXPECT_EQ(full.error_code(), "context-full");
  EXPECT_EQ(rhapsode({"chat", "-c", config(), "--json"}, "hello\n").error_code(), "no-tokenizer");
}

}  // namespace
}  // namespace rhapsode::testing
