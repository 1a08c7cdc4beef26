// lm_head_screening changes what is read, never what is said.
#include "program.h"

namespace rhapsode::testing {
namespace {

class CliScreening : public ::testing::Test {
 protected:
  Json run(const std::string& screening, const std::vector<std::string>& sets) const {
    std::vector<std::string> arguments{"run",   "-c",           config_,
                                       "--ids", prompt_,        "--json",
                                       "-q",    "--set",        "lm_head_screening=" + screening,
                                       "--set", "max_tokens=40"};
    for (const std::string& set : sets) {
      arguments.push_back("--set");
      arguments.push_back(set);
    }
    return rhapsode(arguments).json();
  }

  Scratch scratch_;
  std::string config_ = scratch_.put("tiny.yaml", tiny_yaml(fixture("golden/llama-tied")));
  std::string prompt_ = "5,9,14,22,9,14,22,31,7,9,14";
};

TEST_F(CliScreening, TheSameTokensByEveryRule) {
  const std::vector<std::vector<std::string>> cases = {
      {"do_sample=false"},
      {"do_sample=false", "repetition_penalty=1.4"},
      {"do_sample=false", "repetition_penalty=0.7"},
      {"do_sample=false", "no_repeat_ngram_size=2"},
      {"do_sample=false", "prompt_lookup_num_tokens=4"},
      {"do_sample=false", "num_beams=3"},
      {"do_sample=true", "top_k=5", "seed=1"},
      {"do_sample=true", "top_k=5", "temperature=2.5", "top_p=0.8", "repetition_penalty=1.2", "seed=2"},
      {"do_sample=true", "top_k=5", "prompt_lookup_num_tokens=3", "seed=3"},
      {"do_sample=true", "top_k=0", "seed=4"},
      {"do_sample=true", "top_k=7", "num_return_sequences=3", "seed=5"},
      {"do_sample=true", "top_k=5", "min_new_tokens=20", "seed=6"},
  };
  for (const auto& sets : cases) {
    const Json with = run("true", sets), without = run("false", sets);
    EXPECT_EQ(with.at("sequences"), without.at("sequences")) << ::testing::PrintToString(sets);
    EXPECT_FALSE(with.at("sequences").empty());
  }
}

TEST_F(CliScreening, ThePlanCountsTheCopyAndSaysWhatStandsAgainstIt) {
  const auto plan = [&](const std::string& file, const std::string& screening) {
    return rhapsode({"plan", "-c", file, "--json", "--set", "lm_head_screening=" + screening});
  };
  const Json with = plan(config_, "true").json(), without = plan(config_, "false").json();
  const uint64_t bytes = with.at("lm_head_screening_bytes");
  EXPECT_GT(bytes, 0u);
  EXPECT_EQ(without.at("lm_head_screening_bytes"), 0u);
  EXPECT_EQ(with.at("devices")[0].at("workspace_bytes").get<uint64_t>(),
            without.at("devices")[0].at("workspace_bytes").get<uint64_t>() + bytes);
  const std::string capped = scratch_.put("capped.yaml", tiny_yaml(fixture("golden/gemma2-caps")));
  const Outcome refused = plan(capped, "true");
  EXPECT_NE(refused.code, 0);
  EXPECT_NE(refused.out.find("final_logit_softcapping"), std::string::npos) << refused.out;
}

}  // namespace
}  // namespace rhapsode::testing
