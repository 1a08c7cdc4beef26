// What a good file becomes: typed values, --set, sources of values, and the published schema and reference.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "config/config.h"
#include "config/table.h"
#include "models/paths.h"

namespace rhapsode::config {
namespace {

const std::string kEntry = "generator:\n  active_model: m\n  models:\n    m:\n      model_id: a/b\n";

Config with(const std::string& keys, std::vector<std::string> sets = {}) {
  return load_text(kEntry + keys, {"t.yaml", "", std::move(sets)});
}

std::string codes(const std::string& keys, std::vector<std::string> sets = {}) {
  std::string text;
  for (const Finding& f : check_text(kEntry + keys, {"t.yaml", "", std::move(sets)}))
    text += (text.empty() ? "" : " ") + f.code;
  return text;
}

TEST(Config, GenerationKeysAreTyped) {
  const Config config = with(R"(      max_tokens: 9
      temperature: 1
      top_p: 1e-3
      top_k: 0
      do_sample: True
      early_stopping: "never"
      length_penalty: -0.5
      eos_token_id: [2, 17]
      pad_token_id: 0
      stop: "###"
      max_time: 1.5
      seed: 9223372036854775807
      bad_words_ids: [[5], [6, 7]]
      sequence_bias: [[[5, 6], -2.5], [[7], 1]]
      exponential_decay_length_penalty: [10, 1.05]
      forced_eos_token_id: 2
      guidance_scale: 1.5
)");
  const Generation& g = config.active().generation;
  EXPECT_EQ(g.max_new_tokens->value, 9);
  EXPECT_EQ(g.temperature->value, 1.0);
  EXPECT_EQ(g.top_p->value, 0.001);
  EXPECT_EQ(g.top_k->value, 0);
  EXPECT_TRUE(g.do_sample->value);
  EXPECT_EQ(g.early_stopping->value, EarlyStopping::never);
  EXPECT_EQ(g.length_penalty->value, -0.5);
  EXPECT_EQ(g.eos_token_id->value, (Ids{2, 17}));
  EXPECT_EQ(g.pad_token_id->value, 0);
  EXPECT_EQ(g.stop_strings->value, (Texts{"###"}));
  EXPECT_EQ(g.max_time->value, 1.5);
  EXPECT_EQ(g.seed->value, 9223372036854775807);
  EXPECT_EQ(g.bad_words_ids->value, (IdLists{{5}, {6, 7}}));
  EXPECT_EQ(g.sequence_bias->value, (SequenceBias{{{5, 6}, -2.5}, {{7}, 1.0}}));
  EXPECT_EQ(g.exponential_decay_length_penalty->value, (LengthDecay{10, 1.05}));
  EXPECT_EQ(g.forced_eos_token_id->value, (Ids{2}));
  EXPECT_EQ(g.guidance_scale->value, 1.5);
  EXPECT_FALSE(g.min_p);
  EXPECT_EQ(g.top_p->origin.file, "t.yaml");
  EXPECT_EQ(g.top_p->origin.line, 8u);
  EXPECT_EQ(g.top_p->origin.column, 14u);
}

TEST(Config, DtypeSpellings) {
  for (const char* text : {"bfloat16", "bf16", "torch.bfloat16", "\"bfloat16\""})
    EXPECT_EQ(with(std::string("      torch_dtype: ") + text).active().dtype->value, Dtype::bf16) << text;
  EXPECT_EQ(with("      dtype: fp16").active().dtype->value, Dtype::f16);
  EXPECT_EQ(with("      dtype: torch.float32\n      torch_dtype: fp32").active().dtype->value, Dtype::f32);
  EXPECT_FALSE(with("      torch_dtype: auto").active().dtype);
}

TEST(Config, DeviceMaps) {
  const auto map = [](const std::string& text) {
    return with("      device_map: " + text).active().device_map->value;
  };
  EXPECT_EQ(std::get<Strategy>(map("auto")), Strategy::automatic);
  EXPECT_EQ(std::get<Strategy>(map("balanced_low_0")), Strategy::balanced_low_0);
  EXPECT_EQ(std::get<DeviceName>(map("0")), (DeviceName{DeviceName::Kind::gpu, 0}));
  EXPECT_EQ(std::get<DeviceName>(map("\"cuda:1\"")), (DeviceName{DeviceName::Kind::gpu, 1}));
  EXPECT_EQ(std::get<DeviceName>(map("cpu")).to_text(), "cpu");
  EXPECT_EQ(std::get<DeviceName>(map("disk")).to_text(), "disk");
  const auto manual = std::get<2>(map("{model.embed_tokens: 0, model.layers.1: cpu, lm_head: \"1\"}"));
  ASSERT_EQ(manual.size(), 3u);
  EXPECT_EQ(manual[0].first, "model.embed_tokens");
  EXPECT_EQ(manual[1].second.kind, DeviceName::Kind::cpu);
  EXPECT_EQ(manual[2].second.index, 1u);
}

TEST(Config, QuantizationSwitchesAgreeOnOneAnswer) {
  const auto q = [](const std::string& keys) { return with(keys).active().quantization; };
  EXPECT_EQ(q("      quantization: 8bit")->value, Quantization::int8);
  EXPECT_EQ(q("      quantization: 4bit")->value, Quantization::nf4);
  EXPECT_EQ(q("      quantization: null")->value, Quantization::none);
  EXPECT_EQ(q("      quantization: ~")->value, Quantization::none);
  EXPECT_FALSE(q(""));
  EXPECT_EQ(q("      load_in_8bit: true")->value, Quantization::int8);
  EXPECT_EQ(q("      quantization_config: {load_in_4bit: true}")->value, Quantization::nf4);
  EXPECT_EQ(q("      quantization: 4bit\n      quantization_config: {bnb_4bit_quant_type: fp4}")->value,
            Quantization::fp4);
  EXPECT_EQ(q("      quantization: 8bit\n      load_in_8bit: true\n      load_in_4bit: false")->value,
            Quantization::int8);
  EXPECT_EQ(q("      load_in_8bit: false\n      load_in_4bit: true")->value, Quantization::nf4);
  EXPECT_FALSE(q("      load_in_4bit: false"));
  const auto config =
      with(
          "      quantization: 4bit\n      quantization_config: {bnb_4bit_compute_dtype: bfloat16, "
          "llm_int8_skip_modules: [lm_head, x]}")
          .active()
          .quantization_config;
  EXPECT_EQ(config.bnb_4bit_compute_dtype->value, Dtype::bf16);
  EXPECT_EQ(config.llm_int8_skip_modules->value, (Texts{"lm_head", "x"}));
}

TEST(Config, AnchorsAliasesAndMergeKeys) {
  const std::string text =
      "generator:\n  active_model: b\n  models:\n    a: &base\n      model_id: x/y\n      top_k: 5\n"
      "    b:\n      <<: *base\n      top_k: 6\n    c: *base\n";
  const Config config = load_text(text, {"t.yaml", "", {}});
  EXPECT_EQ(config.active().model_id.value, "x/y");
  EXPECT_EQ(config.active().model_id.origin.line, 5u);
  EXPECT_EQ(config.active().generation.top_k->value, 6);
  EXPECT_EQ(config.models.at("c").generation.top_k->value, 5);
}

TEST(Config, NullLeavesAKeyOut) {
  const Config config =
      with("      top_k: null\n      eos_token_id: ~\n      max_memory: null\n      device_map: null\n");
  EXPECT_FALSE(config.active().generation.top_k);
  EXPECT_FALSE(config.active().generation.eos_token_id);
  EXPECT_TRUE(config.active().max_memory.empty());
  EXPECT_FALSE(config.active().device_map);
}

TEST(Config, SetReplacesBeforeValidation) {
  const Config config =
      with("      max_tokens: 5\n      torch_dtype: float16\n      max_memory: {0: 1GB}\n",
           {"max_new_tokens=7", "dtype=bf16", "max_memory.cpu=2GB", "eos_token_id=[2, 17]",
            "quantization=4bit", "quantization_config.bnb_4bit_quant_type=fp4", "stop=\"a=b\""});
  const ModelEntry& m = config.active();
  EXPECT_EQ(m.generation.max_new_tokens->value, 7);
  EXPECT_EQ(m.generation.max_new_tokens->origin.set, "max_new_tokens=7");
  EXPECT_EQ(m.generation.max_new_tokens->origin.line, 0u);
  EXPECT_EQ(m.dtype->value, Dtype::bf16);
  ASSERT_EQ(m.max_memory.size(), 2u);
  EXPECT_EQ(m.max_memory[0].second.value, 1'000'000'000u);
  EXPECT_EQ(m.generation.eos_token_id->value, (Ids{2, 17}));
  EXPECT_EQ(m.quantization->value, Quantization::fp4);
  EXPECT_EQ(m.generation.stop_strings->value, (Texts{"a=b"}));
  EXPECT_EQ(config.sets.size(), 7u);
  EXPECT_EQ(config.sets[0], (std::pair<std::string, std::string>{"max_new_tokens", "7"}));
}

TEST(Config, SetFromTheRootMayChooseTheModel) {
  const std::string text =
      "generator:\n  active_model: a\n  models:\n    a: {model_id: x}\n    org/b: {model_id: y}\n";
  Config config = load_text(text, {"t.yaml", "", {"top_k=3", "/generator/active_model=org/b"}});
  EXPECT_EQ(config.active().model_id.value, "y");
  EXPECT_EQ(config.active().generation.top_k->value, 3);
  config = load_text(text, {"t.yaml", "", {"/generator/models/org~1b/top_k=4"}});
  EXPECT_EQ(config.models.at("org/b").generation.top_k->value, 4);
  config = load_text(text, {"t.yaml", "org/b", {"top_k=5"}});
  EXPECT_EQ(config.active_model, "org/b");
  EXPECT_EQ(config.active().generation.top_k->value, 5);
}

TEST(Config, WrongSetsNameTheirText) {
  const auto error = [](const std::string& set) {
    try {
      with("      top_k: 5\n", {set});
    } catch (const Error& e) {
      EXPECT_EQ(e.line, 0u);
      EXPECT_NE(e.message.find("--set " + set), std::string::npos) << e.message;
      return e.code;
    }
    return std::string("loaded");
  };
  EXPECT_EQ(error("top_k=-1"), "out-of-range");
  EXPECT_EQ(error("temprature=1"), "unknown-key");
  EXPECT_EQ(error("top_k=[1"), "yaml-syntax");
  EXPECT_EQ(error("top_k="), "yaml-empty");
  EXPECT_EQ(error("top_k"), "bad-set");
  EXPECT_EQ(error("=5"), "bad-set");
  EXPECT_EQ(error("top_k.x=5"), "bad-set");
  EXPECT_EQ(error("a..b=5"), "bad-set");
  EXPECT_EQ(error("/generator/active_model=x"), "unknown-model");
  EXPECT_EQ(error("max_tokens=no"), "yaml-ambiguous");
}

TEST(Config, ErrorsNameTheNearestKey) {
  try {
    with("      temprature: 0.7\n");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code, "unknown-key");
    EXPECT_EQ(e.path, "generator.models.m.temprature");
    EXPECT_EQ(e.expected, "temperature");
    EXPECT_EQ(e.help, "did you mean `temperature`?");
    EXPECT_EQ(e.file, "t.yaml");
  }
}

TEST(Config, AMissingFileIsNotFound) {
  const LoadRequest request{"/nowhere/at/all.yaml", "", {}};
  for (int call = 0; call < 2; ++call) {
    try {
      call == 0 ? (void)load(request) : (void)check(request);
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.kind, ErrorKind::not_found);
    }
  }
}

TEST(ConfigRules, DeadAndSurprisingKnobs) {
  EXPECT_EQ(codes("      do_sample: false\n      temperature: 0.7\n      top_p: 1.0\n      top_k: 50\n"),
            "dead-sampling-key");
  EXPECT_EQ(codes("      do_sample: false\n      temperature: 0\n"), "");
  EXPECT_EQ(codes("      do_sample: true\n      temperature: 0\n      top_p: 0.9\n      top_k: 5\n"), "");
  EXPECT_EQ(codes("      num_beams: 4\n      min_p: 0.1\n"), "beams-without-sampling dead-sampling-key");
  EXPECT_EQ(codes("      num_beams: 4\n      do_sample: false\n"), "");
  EXPECT_EQ(codes("      num_beams: 4\n      do_sample: true\n"), "beam-sample");
  EXPECT_EQ(codes("      early_stopping: false\n      length_penalty: 1\n"), "");
  EXPECT_EQ(codes("      early_stopping: true\n      length_penalty: 2\n"), "dead-beam-key dead-beam-key");
  EXPECT_EQ(codes("      top_p: 0.9\n      top_k: 0\n"), "");
  EXPECT_EQ(codes("      max_length: 10\n      max_tokens: 5\n"), "max-length-ignored");
  EXPECT_EQ(codes("      min_new_tokens: 10\n      max_tokens: 5\n"), "min-above-max");
  EXPECT_EQ(codes("      prompt_lookup_num_tokens: 3\n      num_beams: 2\n      do_sample: false\n"),
            "dead-lookup-key");
  EXPECT_EQ(codes("      max_matching_ngram_size: 3\n"), "dead-lookup-key");
  EXPECT_EQ(codes("      num_return_sequences: 3\n"), "");
  EXPECT_EQ(codes("      num_beams: 3\n      do_sample: false\n      num_return_sequences: 3\n"), "");
  EXPECT_EQ(codes("      temperature: 1e-3\n"), "float-spelling");
}

// What the guide's troubleshooting chapter complains about, where the file alone explains it.
TEST(ConfigRules, ValuesThatExplainPoorOrAlwaysEqualAnswers) {
  EXPECT_EQ(codes("      temperature: 2.5\n"), "high-temperature");
  EXPECT_EQ(codes("      temperature: 2.0\n"), "");
  EXPECT_EQ(codes("      temperature: 2.5\n      do_sample: false\n"), "dead-sampling-key");
  EXPECT_EQ(codes("      top_k: 1\n"), "one-candidate");
  EXPECT_EQ(codes("      top_p: 0.0\n"), "one-candidate");
  EXPECT_EQ(codes("      top_k: 1\n      temperature: 0\n"), "");
  EXPECT_EQ(codes("      top_k: 1\n      do_sample: false\n"), "dead-sampling-key");
  EXPECT_EQ(codes("      repetition_penalty: 0.9\n"), "repetition-penalty-formula repetition-rewarded");
  EXPECT_EQ(codes("      repetition_penalty: 1.6\n"), "repetition-penalty-formula strong-repetition-penalty");
  EXPECT_EQ(codes("      repetition_penalty: 1.5\n"), "repetition-penalty-formula");
}

TEST(ConfigRules, Loading) {
  EXPECT_EQ(codes("      use_flash_attention_2: true\n"), "flash-attention");
  EXPECT_EQ(codes("      use_flash_attention_2: false\n"), "flash-attention");
  EXPECT_EQ(codes("      max_gpu_memory: 3.8Gb\n"), "size-in-bits");
  EXPECT_EQ(with("      max_gpu_memory: 3.8Gb\n").active().max_gpu_memory->value, 475'000'000u);
  EXPECT_EQ(codes("      max_gpu_memory: 4\n"), "size-in-bytes");
  EXPECT_EQ(codes("      max_gpu_memory: 4000000000\n"), "");
  EXPECT_EQ(codes("      max_memory: {0: 3GB}\n"), "no-cpu-entry");
  EXPECT_EQ(codes("      max_memory: {0: 3GB, cpu: 1GB}\n"), "");
  EXPECT_EQ(codes("      max_memory: {0: 3GB}\n      device_map: {\"\": 0}\n"), "");
  EXPECT_EQ(codes("      quantization_config: {bnb_4bit_quant_type: nf4}\n"), "dead-quantization-key");
  EXPECT_EQ(codes("      quantization: 8bit\n      quantization_config: {bnb_4bit_quant_type: nf4, "
                  "llm_int8_threshold: 6}\n"),
            "dead-quantization-key");
  EXPECT_EQ(codes("      quantization: 4bit\n", {"model_id=microsoft/bitnet-b1.58-2B-4T"}),
            "quantization-on-bitnet");
  EXPECT_EQ(codes("      torch_dtype: float16\n", {"model_id=google/gemma-2-9b-it"}), "float16-overflow");
  EXPECT_EQ(codes("      torch_dtype: bfloat16\n", {"model_id=google/gemma-2-9b-it"}), "");
}

TEST(ConfigExplain, TheFirstSourceWins) {
  CheckpointFacts facts;
  facts.generation_config = {{"temperature", 0.6}, {"top_p", 0.95}, {"eos_token_id", {2, 7}}};
  facts.config = {{"torch_dtype", "bfloat16"}, {"eos_token_id", 2}, {"pad_token_id", 9}};
  facts.tokenizer_config = {{"eos_token", "<end>"},
                            {"added_tokens_decoder", {{"11", {{"content", "<end>"}}}}}};
  const Config config = with("      temperature: 0.9\n", {"temperature=0.2"});
  Explanation e = explain(config, "temperature", facts);
  EXPECT_EQ(e.source, "command line");
  EXPECT_EQ(e.value, 0.2);
  ASSERT_EQ(e.candidates.size(), 4u);
  EXPECT_EQ(e.candidates[1].source, "yaml");
  EXPECT_EQ(e.candidates[1].value, 0.9);
  EXPECT_EQ(e.candidates[2].value, 0.6);
  EXPECT_EQ(e.candidates[3].source, "default");
  EXPECT_EQ(e.candidates[3].value, 0.7);
  EXPECT_EQ(explain(config, "top_p", facts).source, "generation_config");
  e = explain(config, "max_tokens", facts);
  EXPECT_EQ(e.key, "max_new_tokens");
  EXPECT_EQ(e.source, "default");
  EXPECT_EQ(e.value, 250);
  e = explain(config, "eos_token_id", facts);
  EXPECT_EQ(e.value, Json({2, 7, 11}));
  EXPECT_EQ(e.source, "generation_config");
  EXPECT_EQ(explain(config, "pad_token_id", facts).value, 9);
  EXPECT_EQ(explain(config, "pad_token_id", {}).source, "default");
  EXPECT_EQ(explain(config, "dtype", facts).value, "bfloat16");
  EXPECT_EQ(explain(config, "dtype", facts).source, "config");
  EXPECT_EQ(explain(config, "model_id", facts).value, "a/b");
  EXPECT_EQ(explain(config, "quantization_config.bnb_4bit_quant_type", facts).value, "nf4");
  try {
    explain(config, "temprature", facts);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::usage);
    EXPECT_EQ(error.code, "unknown-key");
    EXPECT_EQ(error.expected, "temperature");
  }
}

TEST(ConfigExplain, EosOfTheUserReplacesTheUnion) {
  CheckpointFacts facts;
  facts.generation_config = {{"eos_token_id", {2, 7}}};
  EXPECT_EQ(explain(with("      eos_token_id: 5\n"), "eos_token_id", facts).value, Json({5}));
}

TEST(ConfigExplain, BothTablesOfDefaultsAndWhatFollowsFromThem) {
  EXPECT_EQ(explain(with(""), "do_sample", {}).value, true);
  EXPECT_EQ(explain(with("      defaults: transformers\n"), "do_sample", {}).value, false);
  EXPECT_EQ(explain(with("      defaults: transformers\n"), "temperature", {}).value, 1.0);
  EXPECT_EQ(explain(with("      defaults: transformers\n"), "max_new_tokens", {}).value, 20);
  CheckpointFacts facts;
  facts.generation_config = {{"do_sample", true}};
  EXPECT_EQ(explain(with("      num_beams: 3\n"), "do_sample", facts).value, false);
  EXPECT_EQ(explain(with("      num_beams: 3\n"), "do_sample", facts).source, "yaml");
  EXPECT_EQ(explain(with("      num_beams: 3\n      do_sample: true\n"), "do_sample", facts).value, true);
  EXPECT_EQ(explain(with("      do_sample: true\n", {"temperature=0"}), "do_sample", facts).value, false);
  EXPECT_EQ(explain(with("      do_sample: true\n", {"temperature=0"}), "do_sample", facts).source,
            "command line");
  EXPECT_EQ(explain_generation(with(""), {}).size(), generation_keys().size());
}

std::string text_of(const std::string& file) {
  std::ifstream in(paths::source() + "/" + file);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

TEST(ConfigDocs, ThePublishedSchemaAndReferenceAreTheTables) {
  EXPECT_EQ(text_of("docs/config.schema.json"), json_schema().dump(2) + "\n");
  EXPECT_EQ(text_of("docs/config.md"), reference_markdown());
}

TEST(ConfigDocs, EveryKeyIsInTheSchemaWithADefaultOfItsOwnType) {
  const OrderedJson schema = json_schema();
  const auto& properties =
      schema["properties"]["generator"]["properties"]["models"]["additionalProperties"]["properties"];
  EXPECT_EQ(properties.size(), entry_key_names().size());
  for (const std::string& name : entry_key_names()) ASSERT_TRUE(properties.contains(name)) << name;
  // A default that the table states must be one that the reader takes.
  for (const Key& key : generation_keys())
    for (const bool transformers : {false, true}) {
      const Json value = default_of(key, transformers);
      if (value.is_null()) continue;
      const Config config = with("      " + std::string(key.name) + ": " + value.dump() + "\n");
      EXPECT_EQ(slot_value(config.active(), key), value) << key.name;
    }
}

}  // namespace
}  // namespace rhapsode::config
