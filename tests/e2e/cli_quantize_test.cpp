// `quantize`: what it writes is what transformers with bitsandbytes writes, and loads as the same model.
#include <set>

#include "checkpoint/checkpoint.h"
#include "program.h"
#include "support/tensor_hash.h"

namespace rhapsode::testing {
namespace {

// The entry of tiny_yaml in another dtype.
std::string yaml_in(const std::string& dtype, const std::string& checkpoint,
                    const std::vector<std::string>& keys) {
  std::string text = tiny_yaml(checkpoint, keys);
  const size_t at = text.find("torch_dtype:"), end = text.find('\n', at);
  return text.replace(at, end - at, "torch_dtype: " + dtype);
}

class CliQuantize : public ::testing::Test {
 protected:
  std::string config(const std::string& checkpoint, const std::vector<std::string>& keys = {},
                     const std::string& dtype = "float32") const {
    return scratch_.put("q" + std::to_string(++files_) + ".yaml", yaml_in(dtype, checkpoint, keys));
  }
  double nll(const std::string& config_file) const {
    std::string ids;
    for (int i = 0; i < 90; ++i) ids += std::to_string(3 + i * 7 % 80) + " ";
    const Outcome outcome =
        rhapsode({"ppl", "-c", config_file, "--ids", scratch_.put("ids.txt", ids), "--json", "-q"});
    EXPECT_EQ(outcome.code, 0) << outcome.err << outcome.out;
    return outcome.json().at("nll").get<double>();
  }
  Scratch scratch_;
  mutable int files_ = 0;
};

std::map<std::string, std::string> hashes(const std::string& directory) {
  const Checkpoint checkpoint = Checkpoint::open(directory);
  std::map<std::string, std::string> out;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    std::vector<std::byte> bytes(tensor.length_bytes);
    checkpoint.read(tensor, 0, bytes);
    EXPECT_EQ(tensor.offset_bytes % dtype_bytes(tensor.dtype), 0u) << name << " is not aligned";
    out[name] = tensor_hash(tensor.dtype, bytes);
  }
  return out;
}

std::vector<std::string> keys_of(const std::string& setting) {
  std::vector<std::string> keys;
  if (setting == "int8") {
    keys.push_back("quantization: \"8bit\"");
    return keys;
  }
  keys.push_back("quantization: \"4bit\"");
  keys.push_back("quantization_config:");
  keys.push_back("  bnb_4bit_compute_dtype: float32");
  keys.push_back("  bnb_4bit_quant_type: " + setting.substr(0, 3));
  keys.push_back(std::string("  bnb_4bit_use_double_quant: ") +
                 (setting.ends_with("nested") ? "true" : "false"));
  return keys;
}

// Of double quantization the library's own look-up may give a neighbour of the nearest code.
bool is_nested_scale(const std::string& name) {
  for (const char* end : {".absmax", ".nested_absmax", ".nested_quant_map", ".quant_state.bitsandbytes__nf4"})
    if (name.ends_with(end)) return true;
  return false;
}

TEST_F(CliQuantize, WritesTheLibrarysTensors) {
  const Json written = read_json_file(fixture("golden/bnb_values.json")).at("written");
  for (const auto& [source, settings] : written.items()) {
    const std::string dtype = settings.at("dtype").get<std::string>();
    for (const auto& [setting, expected] : settings.items()) {
      if (setting == "dtype") continue;
      const std::string out = scratch_.file(source + "-" + setting);
      const Outcome outcome =
          rhapsode({"quantize", "-c", config(fixture("golden/" + source), keys_of(setting), dtype), "--out",
                    out, "--json"});
      ASSERT_EQ(outcome.code, 0) << outcome.err << outcome.out;
      const auto found = hashes(out);
      const Json& tensors = expected.at("tensors");
      std::set<std::string> names, wanted;
      for (const auto& [name, hash] : found) names.insert(name);
      for (const auto& [name, hash] : tensors.items()) wanted.insert(name);
      EXPECT_EQ(names, wanted) << source << " " << setting;
      const bool nested = setting.ends_with("nested");
      size_t equal = 0;
      for (const auto& [name, hash] : tensors.items()) {
        if (nested && is_nested_scale(name)) continue;
        EXPECT_EQ(found.at(name), hash) << source << " " << setting << " " << name;
        ++equal;
      }
      EXPECT_GT(equal, 10u);
      EXPECT_EQ(read_json_file(out + "/config.json").at("quantization_config"), expected.at("config"));
    }
  }
}

TEST_F(CliQuantize, WhatIsWrittenLoadsAsWhatWasQuantizedWhileLoading) {
  for (const char* setting : {"nf4", "fp4", "nf4-nested", "int8"})
    for (const char* source : {"llama-mqa", "phi3-full"}) {
      const std::string checkpoint = fixture(std::string("golden/") + source);
      const std::string on_load = config(checkpoint, keys_of(setting));
      const std::string out = scratch_.file(std::string(source) + setting);
      ASSERT_EQ(rhapsode({"quantize", "-c", on_load, "--out", out, "-q"}).code, 0);
      EXPECT_EQ(nll(config(out)), nll(on_load)) << source << " " << setting;
    }
}

TEST_F(CliQuantize, AStoredCheckpointGoesThroughUnchanged) {
  for (const char* source : {"llama-bnb-nf4-nested", "llama-bnb-int8", "llama-bnb-fp4-bf16-storage"}) {
    const std::string from = fixture(std::string("golden/") + source), out = scratch_.file(source);
    const Outcome outcome = rhapsode({"quantize", "-c", config(from), "--out", out, "--json"});
    ASSERT_EQ(outcome.code, 0) << outcome.err << outcome.out;
    EXPECT_EQ(hashes(out), hashes(from));
    EXPECT_EQ(read_file(out + "/config.json"), read_file(from + "/config.json"));
    EXPECT_EQ(outcome.json().at("formats").size(), 14u);
  }
}

TEST_F(CliQuantize, ShardsHaveAnIndexAndLoad) {
  const std::string from = fixture("golden/llama-mqa"), out = scratch_.file("sharded");
  const std::string on_load = config(from, keys_of("nf4-nested"));
  ASSERT_EQ(rhapsode({"quantize", "-c", on_load, "--out", out, "--max-shard-size", "40KB", "-q"}).code, 0);
  EXPECT_TRUE(std::filesystem::exists(out + "/model.safetensors.index.json"));
  EXPECT_GT(Checkpoint::open(out).shards().size(), 2u);
  EXPECT_EQ(nll(config(out)), nll(on_load));
}

TEST_F(CliQuantize, NothingIsOverwrittenAndNothingStaysOfAFailure) {
  const std::string from = fixture("golden/llama-mqa");
  const std::string taken = scratch_.path() / "taken";
  scratch_.put("taken/mine.txt", "x");
  const std::string quantized = config(from, {"quantization: \"4bit\""});
  const Outcome again = rhapsode({"quantize", "-c", quantized, "--out", taken, "--json"});
  EXPECT_EQ(again.code, 2);
  EXPECT_EQ(again.error_code(), "directory-not-empty");
  const Outcome plain = rhapsode({"quantize", "-c", config(from), "--out", scratch_.file("new"), "--json"});
  EXPECT_EQ(plain.code, 3);
  EXPECT_EQ(plain.error_code(), "nothing-to-quantize");
  EXPECT_FALSE(std::filesystem::exists(scratch_.path() / "new"));
  const Outcome no_out = rhapsode({"quantize", "-c", quantized, "--json"});
  EXPECT_EQ(no_out.code, 2);
}

TEST_F(CliQuantize, AConfigThatContradictsTheCheckpointIsRefused) {
  const struct {
    const char* fixture;
    std::vector<std::string> keys;
  } cases[] = {
      {"llama-bnb-nf4", {"quantization: \"8bit\""}},
      {"llama-bnb-int8", {"quantization: \"4bit\""}},
      {"llama-bnb-nf4", {"quantization: \"4bit\"", "quantization_config: {bnb_4bit_quant_type: fp4}"}},
      {"llama-bnb-nf4", {"quantization: \"4bit\"", "quantization_config: {bnb_4bit_use_double_quant: true}"}},
      {"llama-bnb-nf4", {"quantization: \"4bit\"", "quantization_config: {llm_int8_skip_modules: [q_proj]}"}},
  };
  for (const auto& c : cases) {
    const Outcome outcome =
        rhapsode({"plan", "-c", config(fixture(std::string("golden/") + c.fixture), c.keys), "--json"});
    EXPECT_EQ(outcome.code, 3) << c.keys.back();
    EXPECT_EQ(outcome.error_code(), "already-quantized") << c.keys.back();
  }
  for (const char* name : {"llama-bnb-nf4-nested", "llama-bnb-nf4"}) {
    const std::string file = config(fixture(std::string("golden/") + name), {"quantization: \"4bit\""});
    EXPECT_EQ(rhapsode({"plan", "-c", file, "--json"}).code, 0) << name;
  }
}

// What the entry says is what transformers reads: a threshold as it is written, a skip list that names the
// head once.
TEST_F(CliQuantize, TheConfigSaysWhatTheEntrySays) {
  const auto written = [&](const std::string& threshold, const std::string& skip) {
    const std::string out = scratch_.file("said" + std::to_string(++files_));
    const Outcome outcome =
        rhapsode({"quantize", "-c",
                  config(fixture("golden/llama-bias"),
                         {"quantization: \"8bit\"", "quantization_config: {llm_int8_threshold: " + threshold +
                                                        ", llm_int8_skip_modules: " + skip + "}"}),
                  "--out", out, "--json"});
    EXPECT_EQ(outcome.code, 0) << outcome.err << outcome.out;
    return read_json_file(out + "/config.json").at("quantization_config");
  };
  EXPECT_EQ(written("3.3", "[o_proj]").at("llm_int8_threshold"), 3.3);
  EXPECT_EQ(written("0", "[o_proj]").at("llm_int8_threshold"), 0.0);
  EXPECT_EQ(written("6.0", "[o_proj]").at("llm_int8_skip_modules"), (Json{"o_proj", "lm_head"}));
  EXPECT_EQ(written("6.0", "[lm_head, o_proj]").at("llm_int8_skip_modules"), (Json{"lm_head", "o_proj"}));
  EXPECT_EQ(written("6.0", "[head, o_proj]").at("llm_int8_skip_modules"), (Json{"head", "o_proj"}));
}

// transformers leaves Falcon's linears as they are: it could not read them quantized.
TEST_F(CliQuantize, AFamilyThatTransformersNeverQuantizesIsNotWritten) {
  const std::string entry = config(fixture("golden/falcon-sequential"), {"quantization: \"4bit\""});
  const Outcome outcome = rhapsode({"quantize", "-c", entry, "--out", scratch_.file("falcon"), "--json"});
  EXPECT_EQ(outcome.code, 8) << outcome.err;
  EXPECT_EQ(outcome.error_code(), "not-portable");
  EXPECT_FALSE(std::filesystem::exists(scratch_.file("falcon")));
  EXPECT_EQ(rhapsode({"plan", "-c", entry, "--json"}).code, 0);  // it still loads quantized
}

}  // namespace
}  // namespace rhapsode::testing
