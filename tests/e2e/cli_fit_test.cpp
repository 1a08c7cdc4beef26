// `quantize --fit`: the recipe that it writes is planned and run as it says; what it refuses and why.
#include "program.h"

namespace rhapsode::testing {
namespace {

class CliFit : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string ids;
    for (int i = 0; i < 60; ++i) ids += std::to_string(3 + i * 7 % 120) + " ";
    ids_ = scratch_.put("ids.txt", ids);
    config_ = config({});
  }
  std::string config(const std::vector<std::string>& keys, const std::string& name = "tiny.yaml") const {
    std::string text = "# the first line\n" + tiny_yaml(fixture("golden/phi-mqa"), keys);
    return scratch_.put(name, text.replace(text.find("float32"), 7, "bfloat16"));
  }
  Outcome fit(const std::string& config, const std::string& size,
              const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"quantize", "-c", config,  "--ids", ids_,
                                       "--json",   "-q", "--fit", size};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return rhapsode(arguments);
  }
  // What a refusal names; it leaves room for a process that is measured anew.
  uint64_t nearest(const std::string& config, const std::vector<std::string>& more = {}) const {
    const Outcome refused = fit(config, "1MB", more);
    EXPECT_EQ(refused.code, 7) << refused.out << refused.err;
    const std::string help = refused.json().at("error").at("help").get<std::string>();
    EXPECT_TRUE(help.starts_with("--fit ")) << help;
    return std::stoull(help.substr(6));
  }
  Scratch scratch_;
  std::string ids_, config_;
};

TEST_F(CliFit, WhatARefusalNamesWorksAndIsWrittenIntoTheConfig) {
  const std::string size = std::to_string(nearest(config_));
  const std::string emitted = scratch_.file("fitting.yaml");
  const Outcome done = fit(config_, size, {"--emit-config", emitted});
  ASSERT_EQ(done.code, 0) << done.err << done.out;
  const Json said = done.json();
  EXPECT_EQ(said.at("path"), emitted);
  EXPECT_LE(said.at("bytes").get<uint64_t>(), std::stoull(size));
  EXPECT_EQ(said.at("groups").size(), 4u);
  EXPECT_EQ(said.at("uniform").size(), 3u);
  for (const Json& row : said.at("uniform"))
    if (row.at("fits") && !row.at("kl").is_null()) {
      EXPECT_LE(said.at("kl"), row.at("kl"));
    }
  const std::string text = read_file(emitted);
  EXPECT_TRUE(text.starts_with("# the first line\n"));
  const Json plan = rhapsode({"plan", "-c", emitted, "--json"}).json();
  EXPECT_TRUE(plan.at("fits"));
  const Json& device = plan.at("devices")[0];
  EXPECT_EQ(device.at("weights_bytes").get<uint64_t>() + device.at("quant_metadata_bytes").get<uint64_t>(),
            said.at("weights_bytes"));
  EXPECT_EQ(rhapsode({"check", "-c", emitted}).code, 0);
  const Json ours = rhapsode({"run", "-c", emitted, "--ids", "1,2,3", "--json"}).json();
  std::vector<std::string> arguments{"run", "-c", config_, "--ids", "1,2,3", "--json"};
  for (const Json& set : said.at("set")) arguments.insert(arguments.end(), {"--set", set});
  EXPECT_EQ(rhapsode(arguments).json().at("output_ids"), ours.at("output_ids"));
}

TEST_F(CliFit, TwoFormatsAreNoCheckpointOfBitsandbytes) {
  const std::string mixed =
      config({"quantization: \"4bit\"", "quantization_config: {load_in_8bit_modules: [mlp]}"}, "mixed.yaml");
  const Outcome refused = rhapsode({"quantize", "-c", mixed, "--out", scratch_.file("out"), "--json"});
  EXPECT_EQ(refused.code, 3);
  EXPECT_EQ(refused.error_code(), "not-portable");
  const std::string counted = config(
      {"quantization: \"4bit\"", "accounting: weights", "quantization_config: {load_in_8bit_modules: [fc1]}"},
      "counted.yaml");
  EXPECT_EQ(rhapsode({"plan", "-c", counted, "--json"}).code, 3);
}

TEST_F(CliFit, OptionsThatDoNotGoTogether) {
  EXPECT_EQ(rhapsode({"quantize", "-c", config_}).code, 2);
  EXPECT_EQ(rhapsode({"quantize", "-c", config_, "--fit", "1GB", "--out", "x"}).code, 2);
  EXPECT_EQ(rhapsode({"quantize", "-c", config_, "--out", "x", "--portable"}).code, 2);
  EXPECT_EQ(rhapsode({"quantize", "-c", config_, "--fit", "much", "--ids", ids_}).code, 2);
  EXPECT_EQ(rhapsode({"quantize", "-c", config_, "--fit", "1GB", "--ids", scratch_.put("few", "1 2 3")}).code,
            2);
  EXPECT_EQ(rhapsode({"quantize", "-c", config_, "--fit", "1GB"}).code, 5);  // no tokenizer for the text
}

}  // namespace
}  // namespace rhapsode::testing
