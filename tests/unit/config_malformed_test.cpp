// Files that must be refused: for each the code, line and column of every error. None may crash, hang or
// pass.
#include <gtest/gtest.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "config/config.h"
#include "models/paths.h"

namespace rhapsode::config {
namespace {

std::string errors_of(const std::string& text) {
  std::string found;
  for (const Finding& f : check_text(text, {"m.yaml", "", {}})) {
    if (f.severity != Severity::error) continue;
    if (!found.empty()) found += " ";
    found += f.code + "@" + std::to_string(f.origin.line) + ":" + std::to_string(f.origin.column);
  }
  return found;
}

struct Case {
  std::string yaml;
  std::string errors;
};

void expect_all(const std::vector<Case>& cases, const std::string& before = "") {
  for (const Case& c : cases) {
    EXPECT_EQ(errors_of(before + c.yaml + "\n"), c.errors) << c.yaml;
    try {
      load_text(before + c.yaml + "\n", {"m.yaml", "", {}});
      ADD_FAILURE() << "loaded: " << c.yaml;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind, ErrorKind::config);
      EXPECT_EQ(e.code + "@" + std::to_string(e.line) + ":" + std::to_string(e.column),
                c.errors.substr(0, c.errors.find(' ')));
    }
  }
}

// The key under test stands in line 6, column 7.
const std::string kEntry = "generator:\n  active_model: m\n  models:\n    m:\n      model_id: a/b\n      ";

TEST(ConfigMalformed, WrongTypesAndAmbiguousScalars) {
  expect_all(
      {
          {"do_sample: yes", "yaml-ambiguous@6:18"},
          {"do_sample: no", "yaml-ambiguous@6:18"},
          {"do_sample: on", "yaml-ambiguous@6:18"},
          {"do_sample: Off", "yaml-ambiguous@6:18"},
          {"do_sample: 1", "wrong-type@6:18"},
          {"do_sample: 0", "wrong-type@6:18"},
          {"do_sample: \"true\"", "wrong-type@6:18"},
          {"do_sample: 'false'", "wrong-type@6:18"},
          {"do_sample: t", "wrong-type@6:18"},
          {"do_sample: [true]", "wrong-type@6:18"},
          {"do_sample: {a: true}", "wrong-type@6:18"},
          {"do_sample:", "empty-value@6:17"},
          {"top_k: 012", "yaml-ambiguous@6:14"},
          {"top_k: 08", "yaml-ambiguous@6:14"},
          {"top_k: 00", "yaml-ambiguous@6:14"},
          {"top_k: 0x10", "yaml-ambiguous@6:14"},
          {"top_k: 0o7", "yaml-ambiguous@6:14"},
          {"top_k: 0b11", "yaml-ambiguous@6:14"},
          {"top_k: 1_000", "yaml-ambiguous@6:14"},
          {"top_k: 1:30", "yaml-ambiguous@6:14"},
          {"top_k: 2024-01-31", "yaml-ambiguous@6:14"},
          {"top_k: 5.0", "wrong-type@6:14"},
          {"top_k: 5.5", "wrong-type@6:14"},
          {"top_k: 1e3", "wrong-type@6:14"},
          {"top_k: \"5\"", "wrong-type@6:14"},
          {"top_k: five", "wrong-type@6:14"},
          {"top_k: [5]", "wrong-type@6:14"},
          {"top_k: true", "wrong-type@6:14"},
          {"top_k:", "empty-value@6:13"},
          {"temperature: \"0.7\"", "wrong-type@6:20"},
          {"temperature: warm", "wrong-type@6:20"},
          {"temperature: 0,7", "wrong-type@6:20"},
          {"temperature: false", "wrong-type@6:20"},
          {"temperature: 0.7.1", "wrong-type@6:20"},
          {"temperature: 010", "yaml-ambiguous@6:20"},
          {"temperature: 1_0.5", "yaml-ambiguous@6:20"},
          {"revision: 123", "wrong-type@6:17"},
          {"revision: no", "yaml-ambiguous@6:17"},
          {"revision: 2024-01-31", "yaml-ambiguous@6:17"},
          {"revision: 2024-1-31 10:00:00", "yaml-ambiguous@6:17"},
          {"revision: 12:30:45", "yaml-ambiguous@6:17"},
          {"revision: 1e3", "wrong-type@6:17"},
          {"revision: true", "wrong-type@6:17"},
          {"revision: [main]", "wrong-type@6:17"},
          {"stop: =", "yaml-ambiguous@6:13"},
          {"stop: []", "out-of-range@6:13"},
          {"stop: [\"a\", \"\"]", "out-of-range@6:19"},
          {"stop: [\"a\", 5]", "wrong-type@6:19"},
          {"eos_token_id: two", "wrong-type@6:21"},
          {"eos_token_id: [2, -1]", "out-of-range@6:25"},
          {"eos_token_id: [2, 1.5, x]", "wrong-type@6:25 wrong-type@6:30"},
          {"eos_token_id: []", "out-of-range@6:21"},
          {"suppress_tokens: 5", "wrong-type@6:24"},
          {"bad_words_ids: [5, 6]", "wrong-type@6:23 wrong-type@6:26"},
          {"bad_words_ids: [[5], []]", "out-of-range@6:28"},
          {"sequence_bias: {5: 1.0}", "wrong-type@6:22"},
          {"sequence_bias: [[5, 1.0]]", "wrong-type@6:24"},
          {"sequence_bias: [[[5], .inf]]", "out-of-range@6:29"},
          {"exponential_decay_length_penalty: 1.2", "wrong-type@6:41"},
          {"exponential_decay_length_penalty: [1, 1.2, 3]", "wrong-type@6:41"},
          {"quantization_config: 4bit", "wrong-type@6:28"},
          {"quantization_config: {bnb_4bit_quant_type: nf5}", "unknown-value@6:50"},
          {"quantization_config: {bnb_4bit_compute_dtype: int8}", "unknown-value@6:53"},
          {"quantization_config: {llm_int8_threshold: -1}", "out-of-range@6:49"},
          {"quantization: 8bit\n      quantization_config: {llm_int8_skip_modules: [q_proj, \"(\"]}",
           "bad-skip-entry@7:52"},
          {"quantization: 4bit\n      quantization_config: {load_in_8bit_modules: \"a(?=b)\"}",
           "bad-skip-entry@7:51"},
          {"quantization: 4bit\n      accounting: weights\n      quantization_config: {load_in_8bit_modules: "
           "q}",
           "conflict@8:29"},
      },
      kEntry);
}

TEST(ConfigMalformed, ValuesOutOfRange) {
  expect_all(
      {
          {"temperature: -0.1", "out-of-range@6:20"},
          {"temperature: .nan", "out-of-range@6:20"},
          {"temperature: .inf", "out-of-range@6:20"},
          {"temperature: -.inf", "out-of-range@6:20"},
          {"temperature: 1e999", "out-of-range@6:20"},
          {"temperature: 1e-999", "out-of-range@6:20"},
          {"top_p: 1.01", "out-of-range@6:14"},
          {"top_p: -0.5", "out-of-range@6:14"},
          {"min_p: 2", "out-of-range@6:14"},
          {"typical_p: 0", "out-of-range@6:18"},
          {"epsilon_cutoff: 1", "out-of-range@6:23"},
          {"eta_cutoff: -1", "out-of-range@6:19"},
          {"top_k: -1", "out-of-range@6:14"},
          {"top_k: 9223372036854775808", "out-of-range@6:14"},
          {"seed: -1", "out-of-range@6:13"},
          {"repetition_penalty: 0", "out-of-range@6:27"},
          {"repetition_penalty: -1.2", "out-of-range@6:27"},
          {"num_beams: 0", "out-of-range@6:18"},
          {"num_beams: -4", "out-of-range@6:18"},
          {"max_tokens: 0", "out-of-range@6:19"},
          {"max_new_tokens: -1", "out-of-range@6:23"},
          {"max_tokens: 99999999999999999999", "out-of-range@6:19"},
          {"min_new_tokens: -1", "out-of-range@6:23"},
          {"no_repeat_ngram_size: -1", "out-of-range@6:29"},
          {"max_time: 0", "out-of-range@6:17"},
          {"max_context: 0", "out-of-range@6:20"},
          {"pad_token_id: -1", "out-of-range@6:21"},
          {"guidance_scale: .nan", "out-of-range@6:23"},
          {"type: openai", "unknown-value@6:13"},
          {"torch_dtype: bfloat", "unknown-value@6:20"},
          {"torch_dtype: int8", "unknown-value@6:20"},
          {"torch_dtype: half", "unknown-value@6:20"},
          {"quantization: 4", "wrong-type@6:21"},
          {"quantization: 4-bit", "unknown-value@6:21"},
          {"quantization: none", "unknown-value@6:21"},
          {"quantization: false", "wrong-type@6:21"},
          {"early_stopping: always", "unknown-value@6:23"},
          {"early_stopping: \"true\"", "unknown-value@6:23"},
          {"accounting: some", "unknown-value@6:19"},
          {"defaults: hf", "unknown-value@6:17"},
          {"repetition_penalty_scope: prompt", "unknown-value@6:33"},
          {"num_return_sequences: 0", "out-of-range@6:29"},
      },
      kEntry);
}

TEST(ConfigMalformed, SizesAndDevices) {
  expect_all(
      {
          {"max_gpu_memory: \"-1\"", "bad-size@6:23"},
          {"max_gpu_memory: -1", "bad-size@6:23"},
          {"max_gpu_memory: \"-1GB\"", "bad-size@6:23"},
          {"max_gpu_memory: 1e99GiB", "bad-size@6:23"},
          {"max_gpu_memory: 99999999999GB", "bad-size@6:23"},
          {"max_gpu_memory: 9223372036854775808", "bad-size@6:23"},
          {"max_gpu_memory: infGB", "bad-size@6:23"},
          {"max_gpu_memory: nanGB", "bad-size@6:23"},
          {"max_gpu_memory: 0x10GB", "bad-size@6:23"},
          {"max_gpu_memory: 8G", "bad-size@6:23"},
          {"max_gpu_memory: 1TB", "bad-size@6:23"},
          {"max_gpu_memory: GB", "bad-size@6:23"},
          {"max_gpu_memory: \"512\"", "bad-size@6:23"},
          {"max_gpu_memory: \"\"", "bad-size@6:23"},
          {"max_gpu_memory: 1 2GB", "bad-size@6:23"},
          {"max_gpu_memory: 3.8", "wrong-type@6:23"},
          {"max_gpu_memory: [8GB]", "wrong-type@6:23"},
          {"max_gpu_memory: \"<90% of VRAM>\"", "bad-size@6:23"},
          {"max_memory: 8GB", "wrong-type@6:19"},
          {"max_memory: {}", "wrong-type@6:19"},
          {"max_memory: {0: 8GB, gpu: 1GB}", "bad-device@6:28"},
          {"max_memory: {0: 8GB, \"0\": 9GB}", "duplicate-key@6:28"},
          {"max_memory: {-1: 8GB}", "bad-device@6:20"},
          {"max_memory: {01: 8GB}", "yaml-ambiguous@6:20"},
          {"max_memory: {99999999999: 8GB}", "bad-device@6:20"},
          {"max_memory: {0: eight}", "bad-size@6:23"},
          {"max_memory: {0: }", "empty-value@6:23"},
          {"device_map: {0: \"20GB\"}", "max-memory-in-device-map@6:19"},
          {"device_map: {0: 3.8GB, cpu: 20GiB}", "max-memory-in-device-map@6:19"},
          {"device_map: automatic", "bad-device@6:19"},
          {"device_map: gpu", "bad-device@6:19"},
          {"device_map: \"cuda:x\"", "bad-device@6:19"},
          {"device_map: \"cuda:-1\"", "bad-device@6:19"},
          {"device_map: -1", "bad-device@6:19"},
          {"device_map: 1.5", "wrong-type@6:19"},
          {"device_map: {}", "wrong-type@6:19"},
          {"device_map: [0, 1]", "wrong-type@6:19"},
          {"device_map: {lm_head: gpu1}", "bad-device@6:29"},
          {"device_map: {lm_head: -2}", "bad-device@6:29"},
          {"device_map: {lm_head: [0]}", "wrong-type@6:29"},
      },
      kEntry);
}

TEST(ConfigMalformed, UnknownDuplicateAndContradictoryKeys) {
  expect_all(
      {
          {"temprature: 0.7", "unknown-key@6:7"},
          {"Temperature: 0.7", "unknown-key@6:7"},
          {"loading: {torch_dtype: auto}", "unknown-key@6:7"},
          {"generation:\n        top_k: 5", "unknown-key@6:7"},
          {"include: other.yaml", "unknown-key@6:7"},
          {"bnb_4bit_quant_type: nf4", "unknown-key@6:7"},
          {"quantization_config: {top_k: 5}", "unknown-key@6:29"},
          {"quantization_config: {bnb_4bit_quant: nf4}", "unknown-key@6:29"},
          {"5: 6", "unknown-key@6:7"},
          {"? [a, b]\n      : 5", "yaml-key@6:9"},
          {"\"<<\": 5", "unknown-key@6:7"},
          {"top_k: 5\n      top_k: 5", "duplicate-key@7:7"},
          {"top_k: 5\n      \"top_k\": 6", "duplicate-key@7:7"},
          {"model_id: c/d", "duplicate-key@6:7"},
          {"max_tokens: 5\n      max_new_tokens: 6", "synonyms-differ@7:7"},
          {"max_new_tokens: 5\n      top_k: 3\n      max_tokens: 6", "synonyms-differ@8:7"},
          {"dtype: bfloat16\n      torch_dtype: float16", "synonyms-differ@7:7"},
          {"stop: a\n      stop_strings: [b]", "synonyms-differ@7:7"},
          {"quantization: 8bit\n      load_in_4bit: true", "quantization-conflict@7:7"},
          {"quantization: 8bit\n      load_in_8bit: false", "quantization-conflict@7:7"},
          {"load_in_4bit: true\n      quantization: null", "quantization-conflict@7:7"},
          {"load_in_4bit: true\n      load_in_8bit: true", "quantization-conflict@7:7"},
          {"quantization: 4bit\n      quantization_config: {load_in_8bit: true}",
           "quantization-conflict@7:29"},
          {"num_beams: 2\n      num_return_sequences: 3", "too-many-sequences@7:7"},
          {"num_return_sequences: 2\n      do_sample: false", "too-many-sequences@7:7"},
          {"temperature: 0\n      num_return_sequences: 2", "too-many-sequences@7:7"},
          {"suppress_tokens: [5]\n      forced_eos_token_id: 5", "forced-token-suppressed@7:7"},
          {"max_context: 100\n      max_tokens: 100", "no-room-for-prompt@7:7"},
      },
      kEntry);
}

TEST(ConfigMalformed, TheOuterLevels) {
  const std::string models = "  models:\n    m: {model_id: a/b}\n";
  expect_all({
      {"", "yaml-empty@1:1"},
      {"# only a comment\n", "yaml-empty@1:1"},
      {"---\n", "wrong-type@3:1"},
      {"generator", "wrong-type@1:1"},
      {"[generator]", "wrong-type@1:1"},
      {"generator:", "wrong-type@1:11"},
      {"generator: null", "wrong-type@1:12"},
      {"generater:\n  active_model: m\n", "unknown-key@1:1"},
      {"temperature: 0.7", "unknown-key@1:1 missing-key@1:1"},
      {"{}", "missing-key@1:1"},
      {"generator: {}", "missing-key@1:12 missing-key@1:12"},
      {"generator:\n  active_model: m", "missing-key@2:3"},
      {"generator:\n  active_model: m\n  models:", "wrong-type@3:10"},
      {"generator:\n  active_model: m\n  models: {}", "no-models@3:11"},
      {"generator:\n  active_model: m\n  models: [m]", "wrong-type@3:11"},
      {"generator:\n  active_model: m\n  models: {m: 5}", "wrong-type@3:15"},
      {"generator:\n  active_model: m\n  models: {m: }", "wrong-type@3:15"},
      {"generator:\n  active_model: m\n  models: {m: {}}", "missing-key@3:15"},
      {"generator:\n  active_model: m\n  models:\n    m:\n      type: huggingface", "missing-key@5:7"},
      {"generator:\n  active_model: m\n  models:\n    m:\n      model_di: a/b", "unknown-key@5:7"},
      {"generator:\n  active_model: m\n  models:\n    m:\n      model_id: ''", "out-of-range@5:17"},
      {"generator:\n  active_model: m\n  models:\n    m:\n      model_id: null", "wrong-type@5:17"},
      {"generator:\n  active_model: mm\n" + models, "unknown-model@2:17"},
      {"generator:\n  active_model: \"\"\n" + models, "unknown-model@2:17"},
      {"generator:\n  active_model:\n" + models, "empty-value@2:16"},
      {"generator:\n  active_model: no\n" + models, "yaml-ambiguous@2:17"},
      {"generator:\n  active_model: 7\n" + models, "wrong-type@2:17"},
      {"generator:\n  active_model: [m]\n" + models, "wrong-type@2:17"},
      {"generator:\n  active: m\n" + models, "unknown-key@2:3 missing-key@2:3"},
      {"generator:\n" + models, "missing-key@2:3"},
      {"generator:\n  active_model: m\n  top_k: 5\n" + models, "unknown-key@3:3"},
      {"retriever: {}\ngenerator:\n  active_model: m\n" + models, "unknown-key@1:1"},
      {"generator:\n  active_model: m\n  models:\n    m: {model_id: a/b}\n    no: {model_id: a/b}",
       "yaml-ambiguous@5:5"},
      {"generator:\n  active_model: m\n  models:\n    m: {model_id: a/b}\n    7: {model_id: a/b}",
       "wrong-type@5:5"},
      {"generator:\n  active_model: m\n  models:\n    m: {model_id: a/b}\n    n: {top_k: x}",
       "missing-key@5:8 wrong-type@5:16"},
  });
}

TEST(ConfigMalformed, SyntaxTagsAliasesAndBytes) {
  expect_all({
      {"generator:\n\tactive_model: m", "yaml-tab@2:1"},
      {"generator:\n  active_model: m\n\tmodels: {}", "yaml-tab@3:1"},
      {"generator: [", "yaml-syntax@2:1"},
      {"generator: {a: b", "yaml-syntax@2:1"},
      {"generator: \"m", "yaml-syntax@2:1"},
      {"generator: 'm", "yaml-syntax@2:1"},
      {"a: b: c", "yaml-syntax@1:5"},
      {"generator: @m", "yaml-syntax@1:12"},
      {"generator: `m", "yaml-syntax@1:12"},
      {"generator: %m", "yaml-syntax@1:12"},
      {"generator:\n  a: 1\n b: 2", "yaml-syntax@3:2"},
      {"generator: }", "yaml-syntax@1:12"},
      {"- a\nb: c", "yaml-syntax@2:1"},
      {"generator: \"\\q\"", "yaml-syntax@1:13"},
      {"generator: !!python/object/apply:os.system [ls]", "yaml-tag@1:12"},
      {"generator: !include other.yaml", "yaml-tag@1:12"},
      {"generator: !!str text", "yaml-tag@1:12"},
      {"generator: !!map {}", "yaml-tag@1:12"},
      {"!!set {a}", "yaml-tag@1:1"},
      {"generator: !foo!bar x", "yaml-syntax@1:12"},
      {"generator: *m", "yaml-unknown-alias@1:12"},
      {"generator: &m [*m]", "yaml-alias-loop@1:16"},
      {"generator: &m\n  <<: *m", "yaml-alias-loop@2:7"},
      {"generator:\n  <<: 5", "yaml-merge-key@2:7"},
      {"generator:\n  <<: [{a: b}, 5]", "yaml-merge-key@2:16"},
      {"generator: {}\n---\ngenerator: {}", "yaml-documents@2:1"},
      {"generator: {}\n...\ngenerator: {}", "yaml-syntax@3:1"},
      {"%YAML 3.0\n---\ngenerator: {}", "yaml-syntax@1:1"},
      {"generator: caf\xe9", "yaml-encoding@1:15"},
      {"a: \xc3\xa9\nb: \xff", "yaml-encoding@2:4"},
      {"a: \xc0\x80", "yaml-encoding@1:4"},
      {"a: \xed\xa0\x80", "yaml-encoding@1:4"},
      {"a: \xf4\x90\x80\x80", "yaml-encoding@1:4"},
      {"a: \xe2\x82", "yaml-encoding@1:4"},
      {std::string("a: b\0c", 6), "yaml-character@1:5"},
      {"a: \x1b[0m", "yaml-character@1:4"},
      {"a: b\xe2\x80\xa8", "yaml-character@1:5"},
      {"\xff\xfeg", "yaml-encoding@1:1"},
      {"\xc3\xa9: 1", "unknown-key@1:1 missing-key@1:1"},
      {"{\xc3\xa9: 1, x: 2}", "missing-key@1:1 unknown-key@1:2 unknown-key@1:8"},
  });
}

TEST(ConfigMalformed, Limits) {
  std::string deep = "a: " + std::string(100, '[') + std::string(100, ']');
  EXPECT_EQ(errors_of(deep), "yaml-too-deep@1:67");
  EXPECT_EQ(errors_of(std::string(1000000, '[')), "yaml-too-deep@1:65");
  EXPECT_EQ(errors_of(std::string(1 << 20, '{')), "yaml-too-deep@1:65");
  EXPECT_EQ(errors_of(std::string((1 << 20) + 1, '#')), "yaml-too-large@1:1");
  std::string wide = "a:\n";
  for (int i = 0; i < 10000; ++i) wide += "- 1\n";
  EXPECT_EQ(errors_of(wide), "yaml-too-many-nodes@9999:3");
  std::string dashes;
  for (int i = 0; i < 1000; ++i) dashes += "- ";
  EXPECT_EQ(errors_of(dashes + "a"), "yaml-too-deep@1:129");
  // One long text, named again and again: few nodes, much text.
  std::string text = "a: &a \"" + std::string(500000, 'x') + "\"\nb: [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n";
  EXPECT_EQ(errors_of(text).substr(0, 14), "yaml-too-large");
  EXPECT_EQ(errors_of(std::string(1000000, '\n') + "a: b"), "unknown-key@1000001:1 missing-key@1000001:1");
  std::string tower = "a0: &a0 [1]\n";
  for (int i = 1; i < 80; ++i)
    tower += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) + "]\n";
  EXPECT_EQ(errors_of(tower).substr(0, 13), "yaml-too-deep");
}

TEST(ConfigMalformed, BillionLaughsEndsAtOnce) {
  std::string bomb = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
  for (int i = 1; i < 12; ++i) {
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 9; ++j) bomb += (j > 0 ? ", *a" : "*a") + std::to_string(i - 1);
    bomb += "]\n";
  }
  const std::clock_t start = std::clock();  // processor time: other work on the machine must not decide
  EXPECT_EQ(errors_of(bomb).substr(0, 19), "yaml-too-many-nodes");
  EXPECT_LT(std::clock() - start, CLOCKS_PER_SEC / 2);
}

// A file cut anywhere is refused with a place, or is a whole file that says less: then it must load.
TEST(ConfigMalformed, FilesCutAtEveryByte) {
  const std::string folder = paths::fixtures() + "/config/guide/";
  for (const char* name : {"56-beginner-stable.yaml", "58-advanced-multi-gpu-quality.yaml",
                           "33-5-phi-2-2-7b-code-reasoning.yaml"}) {
    std::ifstream in(folder + name);
    const std::string text(std::istreambuf_iterator<char>(in), {});
    ASSERT_GT(text.size(), 200u);
    uint64_t refused = 0;
    for (size_t cut = 0; cut < text.size(); ++cut) {
      const auto findings = check_text(text.substr(0, cut), {name, "", {}});
      bool bad = false;
      for (const Finding& f : findings) {
        EXPECT_GE(f.origin.line, 1u);
        EXPECT_GE(f.origin.column, 1u);
        bad = bad || f.severity == Severity::error;
      }
      refused += bad ? 1 : 0;
      if (bad)
        EXPECT_THROW(load_text(text.substr(0, cut), {name, "", {}}), Error);
      else
        EXPECT_NO_THROW(load_text(text.substr(0, cut), {name, "", {}}));
    }
    EXPECT_GT(refused, 100u) << name;
  }
}

}  // namespace
}  // namespace rhapsode::config
