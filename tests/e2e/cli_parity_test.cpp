// `parity` of the real binary: a trace of its own is equal, a doctored one differs where it was doctored,
// others are refused.
#include <cstring>

#include "program.h"

namespace rhapsode::testing {
namespace {

class CliParity : public ::testing::Test {
 protected:
  std::string config() const { return scratch_.put("tiny.yaml", tiny_yaml(fixture("golden/llama-mqa"))); }
  // A greedy trace of eight steps.
  Json trace() const {
    return rhapsode({"run", "-c", config(), "--ids", "5,9,2,40", "--set", "eos_token_id=0", "--trace", "4",
                     "--json"})
        .json();
  }
  Outcome parity(const Json& trace) const {
    return rhapsode(
        {"parity", "-c", config(), "--against", scratch_.put("trace.json", trace.dump()), "--json"});
  }
  Scratch scratch_;
};

TEST_F(CliParity, OfItsOwnTrace) {
  const Outcome outcome = parity(trace());
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const Json result = outcome.json();
  EXPECT_EQ(result.at("equal"), true);
  EXPECT_EQ(result.at("within_noise"), true);
  EXPECT_EQ(result.at("steps"), 8);
  EXPECT_EQ(result.at("first_difference"), nullptr);
  EXPECT_EQ(result.at("largest_logit_error"), 0.0);
}

TEST_F(CliParity, NamesTheStepThatDiffers) {
  Json doctored = trace();
  const uint32_t second_best = doctored.at("steps").at(3).at("top").at(1).at(0).get<uint32_t>();
  const uint32_t best = doctored.at("output_ids").at(3).get<uint32_t>();
  doctored["output_ids"][3] = doctored["steps"][3]["id"] = second_best;
  const Outcome outcome = parity(doctored);
  EXPECT_EQ(outcome.code, 1);
  const Json difference = outcome.json().at("first_difference");
  EXPECT_EQ(difference.at("step"), 3);
  EXPECT_EQ(difference.at("expected"), second_best);
  EXPECT_EQ(difference.at("found"), best);
  EXPECT_GT(difference.at("gap").get<double>(), 0.0);
  EXPECT_EQ(outcome.json().at("equal"), false);
}

// trace_llama-mqa.json: tools/export_trace.py on the checkpoint, six prompt ids, twelve new tokens.
TEST_F(CliParity, OfATraceOfTransformers) {
  const Outcome outcome =
      rhapsode({"parity", "-c", config(), "--against", fixture("cli/trace_llama-mqa.json"), "--json"});
  EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  EXPECT_EQ(outcome.json().at("equal"), true);
  EXPECT_EQ(outcome.json().at("within_noise"), true);
  EXPECT_EQ(outcome.json().at("steps"), 12);
}

TEST_F(CliParity, NamesTheLayerWhereHiddenStatesSplit) {
  const std::string damaged = (scratch_.path() / "damaged").string();
  std::filesystem::create_directories(damaged);
  std::filesystem::copy_file(fixture("golden/llama-mqa/config.json"), damaged + "/config.json");
  std::string bytes = read_file(fixture("golden/llama-mqa/model.safetensors"));
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  const Json header = parse_json(bytes.substr(8, header_bytes), "header");
  const Json& range = header.at("model.layers.1.mlp.down_proj.weight").at("data_offsets");
  const auto begin = range.at(0).get<uint64_t>(), end = range.at(1).get<uint64_t>();
  bytes.replace(8 + header_bytes + begin, end - begin, end - begin, '\0');
  scratch_.put("damaged/model.safetensors", bytes);
  const std::string yaml = scratch_.put("damaged.yaml", tiny_yaml(damaged));
  const Outcome outcome =
      rhapsode({"parity", "-c", yaml, "--against", fixture("cli/trace_llama-mqa.json"), "--json"});
  EXPECT_EQ(outcome.code, 1) << outcome.out << outcome.err;
  // 0 is the embedding, 1 what the first layer gives: the second layer's is wrong.
  EXPECT_EQ(outcome.json().at("first_difference").at("layer"), 2) << outcome.out;
  EXPECT_EQ(outcome.json().at("within_noise"), false);
}

// A difference too small to change a choice: the ids are equal, the logits are not, and the layer is named.
TEST_F(CliParity, NamesTheLayerThoughEveryIdIsEqual) {
  Json trace = read_json_file(fixture("cli/trace_llama-mqa.json"));
  for (Json& number : trace["hidden"][1]) number = number.get<double>() * 1.01;
  for (Json& step : trace["steps"])
    for (Json& entry : step["top"]) entry[1] = entry[1].get<double>() + 0.05;
  const Outcome outcome = parity(trace);
  EXPECT_EQ(outcome.code, 1) << outcome.out << outcome.err;
  EXPECT_EQ(outcome.json().at("equal"), true);
  EXPECT_EQ(outcome.json().at("first_difference"), nullptr);
  EXPECT_EQ(outcome.json().at("layer"), 1);
  EXPECT_EQ(outcome.json().at("within_noise"), false);
}

TEST_F(CliParity, RefusesWhatIsNoTrace) {
  Json narrow = read_json_file(fixture("cli/trace_llama-mqa.json"));
  narrow["hidden"][0].erase(0);
  EXPECT_EQ(parity(narrow).error_code(), "bad-trace");
  Json broken = trace();
  broken["steps"].erase(broken["steps"].size() - 1);
  const Outcome outcome = parity(broken);
  EXPECT_EQ(outcome.code, 9);
  EXPECT_EQ(outcome.error_code(), "bad-trace");
  Json foreign = trace();
  foreign["prompt_ids"][0] = 1u << 30;
  EXPECT_EQ(parity(foreign).code, 9);
}

}  // namespace
}  // namespace rhapsode::testing
