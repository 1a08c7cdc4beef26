// Checkpoints that say of their quantized weights what cannot be: each is an integrity error that names a
// tensor.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>

#include "arch/registry.h"
#include "base/json.h"
#include "checkpoint/bnb_state.h"
#include "models/golden_model.h"
#include "support/scratch.h"

namespace rhapsode {
namespace {

using testing::error_of;
using testing::Scratch;

struct Stored {
  Dtype dtype;
  std::vector<uint64_t> shape;
  std::string bytes;
};
using Tensors = std::map<std::string, Stored>;

Tensors read_tensors(const std::string& fixture) {
  const Checkpoint checkpoint = Checkpoint::open(golden_directory(fixture));
  Tensors out;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    std::string bytes(tensor.length_bytes, '\0');
    checkpoint.read(tensor, 0, std::as_writable_bytes(std::span(bytes)));
    out[name] = {tensor.dtype, tensor.shape, bytes};
  }
  return out;
}

std::string written(const Scratch& scratch, const std::string& fixture, const Tensors& tensors) {
  std::vector<TensorToWrite> list;
  std::vector<const std::string*> data;
  for (const auto& [name, tensor] : tensors) {
    list.push_back({name, tensor.dtype, tensor.shape});
    data.push_back(&tensor.bytes);
  }
  const std::string directory = scratch.path().string();
  write_safetensors(
      directory + "/model.safetensors", list, {{"format", "pt"}},
      [&](size_t i, std::span<std::byte> out) { std::memcpy(out.data(), data[i]->data(), out.size()); });
  scratch.put("config.json", read_file(golden_directory(fixture) + "/config.json"));
  return directory;
}

const std::string kWeight = "model.layers.1.mlp.down_proj.weight";
const std::string kState = kWeight + ".quant_state.bitsandbytes__nf4";

void put_float(std::string& bytes, size_t index, float value) {
  std::memcpy(bytes.data() + index * 4, &value, 4);
}
void put_state(Tensors& tensors, const std::string& text) {
  tensors[kState] = {Dtype::u8, {text.size()}, text};
}
std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

struct Case {
  const char* name;
  const char* fixture;
  const char* code;
  std::function<void(Tensors&)> damage;
};

std::vector<Case> cases() {
  const auto state = [](const std::string& from, const std::string& to) {
    return [from, to](Tensors& t) { put_state(t, replaced(t.at(kState).bytes, from, to)); };
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::string scb = "model.layers.1.mlp.down_proj.SCB";
  return {
      {"no absmax", "llama-bnb-nf4", "missing-tensor", [](Tensors& t) { t.erase(kWeight + ".absmax"); }},
      {"no map", "llama-bnb-nf4", "missing-tensor", [](Tensors& t) { t.erase(kWeight + ".quant_map"); }},
      {"no state", "llama-bnb-nf4", "quant-state-count", [](Tensors& t) { t.erase(kState); }},
      {"two states", "llama-bnb-nf4", "quant-state-count",
       [](Tensors& t) { t[kWeight + ".quant_state.bitsandbytes__fp4"] = t.at(kState); }},
      {"no nested map", "llama-bnb-nf4-nested", "missing-tensor",
       [](Tensors& t) { t.erase(kWeight + ".nested_quant_map"); }},
      {"no nested absmax", "llama-bnb-nf4-nested", "stored-shape",
       [](Tensors& t) { t.erase(kWeight + ".nested_absmax"); }},
      {"no weight", "llama-bnb-nf4", "missing-tensor", [](Tensors& t) { t.erase(kWeight); }},
      {"short weight", "llama-bnb-nf4", "stored-shape",
       [](Tensors& t) {
         t.at(kWeight).shape[0] -= 32;
         t.at(kWeight).bytes.resize(t.at(kWeight).bytes.size() - 32);
       }},
      {"absmax of another length", "llama-bnb-nf4", "stored-shape",
       [](Tensors& t) {
         t.at(kWeight + ".absmax").shape[0] -= 7;
         t.at(kWeight + ".absmax").bytes.resize(t.at(kWeight + ".absmax").bytes.size() - 28);
       }},
      {"absmax not finite", "llama-bnb-nf4", "stored-scale",
       [nan](Tensors& t) { put_float(t.at(kWeight + ".absmax").bytes, 3, nan); }},
      {"nested absmax not finite", "llama-bnb-nf4-nested", "stored-scale",
       [nan](Tensors& t) { put_float(t.at(kWeight + ".nested_absmax").bytes, 0, nan); }},
      {"another code", "llama-bnb-nf4", "foreign-quant-map",
       [](Tensors& t) { put_float(t.at(kWeight + ".quant_map").bytes, 4, 0.5f); }},
      {"state is no JSON", "llama-bnb-nf4", "bad-json",
       [](Tensors& t) { put_state(t, "{\"quant_type\": "); }},
      {"state is empty", "llama-bnb-nf4", "bad-json", [](Tensors& t) { put_state(t, ""); }},
      {"state is a list", "llama-bnb-nf4", "bad-quant-state", [](Tensors& t) { put_state(t, "[]"); }},
      {"unknown key", "llama-bnb-nf4", "bad-quant-state", state("\"blocksize\"", "\"block_size\"")},
      {"another type", "llama-bnb-nf4", "bad-quant-state", state("\"nf4\"", "\"fp4\"")},
      {"no type", "llama-bnb-nf4", "bad-quant-state", state("\"nf4\"", "\"int4\"")},
      {"another block", "llama-bnb-nf4", "bad-quant-state", state("64,", "128,")},
      {"block of zero", "llama-bnb-nf4", "bad-quant-state", state("64,", "0,")},
      {"another shape", "llama-bnb-nf4", "bad-quant-state", state("[64, 320]", "[320, 64]")},
      {"huge shape", "llama-bnb-nf4", "bad-quant-state", state("[64, 320]", "[9223372036854775807, 320]")},
      {"another dtype", "llama-bnb-nf4", "bad-quant-state", state("\"float32\"", "\"int8\"")},
      {"nested state without nested tensors", "llama-bnb-nf4", "bad-quant-state",
       state("}", ", \"nested_blocksize\": 256, \"nested_dtype\": \"float32\", \"nested_offset\": 0.1}")},
      {"nested block", "llama-bnb-nf4-nested", "bad-quant-state", state("256,", "128,")},
      {"no offset", "llama-bnb-nf4-nested", "bad-quant-state",
       state("\"nested_offset\"", "\"nested_dtype \"")},
      {"int8 without SCB", "llama-bnb-int8", "missing-tensor", [scb](Tensors& t) { t.erase(scb); }},
      {"SCB of another length", "llama-bnb-int8", "stored-shape",
       [scb](Tensors& t) {
         t.at(scb).shape[0] -= 1;
         t.at(scb).bytes.resize(t.at(scb).bytes.size() - 4);
       }},
      {"SCB not finite", "llama-bnb-int8", "stored-scale",
       [scb, nan](Tensors& t) { put_float(t.at(scb).bytes, 9, nan); }},
      {"a gone weight format", "llama-bnb-int8", "weight-format",
       [](Tensors& t) { t.at("model.layers.1.mlp.down_proj.weight_format").bytes[0] = 2; }},
      {"a float weight beside SCB", "llama-bnb-int8", "stored-shape",
       [](Tensors& t) {
         t.at(kWeight).dtype = Dtype::f32;
         t.at(kWeight).bytes.resize(t.at(kWeight).bytes.size() * 4);
       }},
  };
}

TEST(StoredMalformed, EachIsAnIntegrityErrorThatNamesATensor) {
  for (const Case& c : cases()) {
    const Scratch scratch;
    Tensors tensors = read_tensors(c.fixture);
    c.damage(tensors);
    const std::string directory = written(scratch, c.fixture, tensors);
    const std::optional<Error> error = error_of([&] { LoadedModel model(directory, Dtype::f32, 2, 64); });
    ASSERT_TRUE(error) << c.name;
    EXPECT_EQ(error->kind, ErrorKind::integrity) << c.name;
    EXPECT_EQ(error->code, c.code) << c.name;
    EXPECT_FALSE(error->file.empty()) << c.name;
    EXPECT_NE((error->file + error->path).find("down_proj"), std::string::npos) << c.name << error->to_text();
  }
}

TEST(StoredMalformed, AConfigOfQuantizationMustBeOneThing) {
  const std::string config = read_file(golden_directory("llama-bnb-nf4") + "/config.json");
  const struct {
    const char* from;
    const char* to;
    ErrorKind kind;
  } changes[] = {
      {"\"load_in_8bit\": false", "\"load_in_8bit\": true", ErrorKind::integrity},
      {"\"load_in_4bit\": true", "\"load_in_4bit\": false", ErrorKind::integrity},
      {"\"bnb_4bit_quant_type\": \"nf4\"", "\"bnb_4bit_quant_type\": \"nf3\"", ErrorKind::integrity},
      {"\"bnb_4bit_compute_dtype\": \"float32\"", "\"bnb_4bit_compute_dtype\": \"int8\"",
       ErrorKind::integrity},
      {"\"bnb_4bit_quant_storage\": \"uint8\"", "\"bnb_4bit_quant_storage\": \"uint4\"",
       ErrorKind::integrity},
      {"\"llm_int8_threshold\": 6.0", "\"llm_int8_threshold\": -6.0", ErrorKind::integrity},
      {"\"llm_int8_has_fp16_weight\": false", "\"llm_int8_has_fp16_weight\": true", ErrorKind::unsupported},
      {"\"quant_method\": \"bitsandbytes\"", "\"quant_method\": \"bitsandbytes\"",
       ErrorKind::usage},  // as it is
  };
  for (const auto& change : changes) {
    std::string text = config;
    // The twin with an underscore stands first and is not read.
    text.replace(text.rfind(change.from), std::string(change.from).size(), change.to);
    const std::optional<Error> error = error_of([&] { arch::parse_architecture(text, "config.json"); });
    if (change.kind == ErrorKind::usage) {
      EXPECT_FALSE(error);
      continue;
    }
    ASSERT_TRUE(error) << change.to;
    EXPECT_EQ(error->kind, change.kind) << change.to;
  }
}

TEST(BnbState, TextsAreThoseOfTheLibrary) {
  BnbState state{"nf4", 64, Dtype::bf16, {3, 4}, std::nullopt};
  EXPECT_EQ(bnb_state_text(state),
            R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [3, 4]})");
  for (const auto& [value, text] : {std::pair{0.02543f, "0.025429999455809593"},
                                    {1e-9f, "9.999999717180685e-10"},
                                    {3.0f, "3.0"},
                                    {1e20f, "1.0000000200408773e+20"},
                                    {123456.5f, "123456.5"},
                                    {-0.0001f, "-9.999999747378752e-05"}}) {
    state.nested = BnbNestedState{256, value};
    const std::string written = bnb_state_text(state);
    EXPECT_NE(written.find(std::string("\"nested_offset\": ") + text + "}"), std::string::npos) << written;
    EXPECT_EQ(parse_bnb_state(written, "f", "t").nested->offset, value);
  }
}

}  // namespace
}  // namespace rhapsode
