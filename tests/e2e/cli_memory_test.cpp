// The plan beside the peak that the kernel counts, where the rows of a wide vocabulary are what a request
// takes: beams, many answers, traces, guidance. Weights are few, so that nothing hides behind them.
#include <fstream>

#include "e2e/program.h"
#include "models/made_checkpoint.h"

namespace rhapsode::testing {
namespace {

constexpr const char* kWide =
    R"({"model_type":"llama","hidden_size":64,"num_hidden_layers":1,"num_attention_heads":2,
        "num_key_value_heads":1,"intermediate_size":64,"vocab_size":98304,"hidden_act":"silu",
        "rms_norm_eps":1e-5,"max_position_embeddings":512,"tie_word_embeddings":true,
        "torch_dtype":"bfloat16"})";

class CliMemory : public ::testing::Test {
 protected:
  CliMemory() { make_checkpoint(scratch_.path().string(), kWide, 5); }

  // (peak - plan) / plan
  double excess(const std::vector<std::string>& keys, const std::vector<std::string>& more = {}) const {
    std::string yaml = "generator:\n  active_model: wide\n  models:\n    wide:\n      type: huggingface\n";
    yaml += "      model_id: \"" + scratch_.path().string() + "\"\n      torch_dtype: bfloat16\n";
    yaml += "      max_new_tokens: 4\n      min_new_tokens: 4\n";
    for (const std::string& key : keys) yaml += "      " + key + "\n";
    std::vector<std::string> arguments = {"run", "-c", scratch_.put("rag.yaml", yaml), "--json"};
    if (more.empty()) arguments.insert(arguments.end(), {"--ids", "1,2,3,4"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = rhapsode(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err << outcome.out;
    const Json memory = outcome.json().at("memory");
    const auto plan = memory.at("plan_bytes").get<double>();
    return (memory.at("peak_rss_bytes").get<double>() - plan) / plan;
  }
  std::string many_prompts(size_t count) const {
    std::string lines;
    for (size_t i = 0; i < count; ++i) lines += "{\"ids\": [1, 2, " + std::to_string(3 + i) + "]}\n";
    return scratch_.put("prompts.jsonl", lines);
  }

  Scratch scratch_;
};

TEST_F(CliMemory, ThePlanCountsWhatChoosingTokensTakes) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's own memory is no part of a plan";
#endif
  const std::vector<std::vector<std::string>> all = {
      {"do_sample: false"},
      {"do_sample: true", "top_k: 0", "top_p: 0.9"},
      {"do_sample: true", "top_k: 0", "typical_p: 0.9"},
      {"do_sample: true", "top_k: 0", "top_p: 0.9", "num_return_sequences: 24"},
      {"do_sample: true", "top_k: 0", "typical_p: 0.9", "num_return_sequences: 24"},
      {"num_beams: 24"},
      {"num_beams: 24", "do_sample: true"},
      {"num_beams: 12", "do_sample: true", "top_k: 0", "min_p: 0.01"},
      {"guidance_scale: 1.5"},
  };
  for (const std::vector<std::string>& keys : all) EXPECT_NEAR(excess(keys), 0.0, 0.03) << Json(keys).dump();
  // Rows of drafts are counted, but this answer repeats nothing that could be drafted.
  EXPECT_LT(excess({"do_sample: false", "prompt_lookup_num_tokens: 10"}), 0.03);
  EXPECT_NEAR(excess(all[1], {"--ids", "1,2,3", "--trace", "5"}), 0.0, 0.03);
  EXPECT_NEAR(excess(all[1], {"--prompts-file", many_prompts(24), "--batch", "24"}), 0.0, 0.03);
  // Answers that are finished take none.
  EXPECT_LT(excess(all[0], {"--prompts-file", many_prompts(4000), "--batch", "8", "--set", "max_new_tokens=1",
                            "--set", "min_new_tokens=1"}),
            0.03);
  // The last one: without /proc a program counts what the one that started it had in memory, and here this
  // test reads much text.
  EXPECT_NEAR(excess(all[0], {"--ids", "1,2,3", "--trace", "98304", "--set", "max_new_tokens=16"}), 0.0,
              0.03);
}

}  // namespace
}  // namespace rhapsode::testing
