// The import against what transformers makes of the same files (tools/golden/gguf_vectors.py).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_file.h"
#include "models/paths.h"
#include "support/scratch.h"

namespace rhapsode {
namespace {

using testing::error_of;
using testing::Scratch;

const std::string kFixtures = paths::fixtures() + "/gguf/";

std::string fnv1a(std::span<const std::byte> bytes) {
  uint64_t value = 0xcbf29ce484222325u;
  for (const std::byte b : bytes) value = (value ^ std::to_integer<uint64_t>(b)) * 0x100000001b3u;
  std::string text(16, '0');
  for (size_t i = 16; i-- > 0; value >>= 4) text[i] = "0123456789abcdef"[value & 15];
  return text;
}

// Dequantization, bit for bit, of every type that is imported.
class GgufBlocks : public ::testing::TestWithParam<const char*> {};

TEST_P(GgufBlocks, EqualTheReference) {
  const std::string file = kFixtures + "blocks.safetensors";
  const std::string bytes = read_file(file);
  std::span<const std::byte> blocks;
  std::vector<float> expected;
  for (const TensorInfo& info :
       parse_safetensors_header(std::as_bytes(std::span(bytes)), bytes.size(), file)) {
    if (info.name == std::string(GetParam()) + ".blocks")
      blocks = std::as_bytes(std::span(bytes)).subspan(info.offset_bytes, info.length_bytes);
    if (info.name != std::string(GetParam()) + ".values") continue;
    expected.resize(info.length_bytes / 4);
    std::memcpy(expected.data(), bytes.data() + info.offset_bytes, info.length_bytes);
  }
  ASSERT_FALSE(expected.empty());
  for (uint32_t number = 0; number < 64; ++number) {
    const gguf::BlockTraits* traits = gguf::block_traits(number);
    if (traits == nullptr || traits->name != GetParam()) continue;
    ASSERT_TRUE(gguf::can_dequantize(number));
    std::vector<float> values(expected.size());
    gguf::dequantize(number, blocks, values);
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(expected[i]))
        EXPECT_TRUE(std::isnan(values[i])) << i;
      else
        EXPECT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(expected[i])) << i;
    }
    EXPECT_TRUE(
        error_of([&] { gguf::dequantize(number, blocks, std::span(values).first(values.size() - 1)); }));
    return;
  }
  FAIL() << "no such type";
}

INSTANTIATE_TEST_SUITE_P(All, GgufBlocks,
                         ::testing::Values("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0",
                                           "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
                                           "TQ1_0", "TQ2_0"));

class GgufImportOf : public ::testing::TestWithParam<const char*> {};

TEST_P(GgufImportOf, IsWhatTransformersMakesOfTheFile) {
  const Scratch scratch;
  const std::string directory = scratch.file("out");
  const Json expected = read_json_file(kFixtures + GetParam() + ".json");
  uint64_t last = 0;
  const GgufImport result = import_gguf(kFixtures + GetParam() + ".gguf", directory, Dtype::f32,
                                        [&](uint64_t done, uint64_t total) {
                                          EXPECT_LE(done, total);
                                          last = done;
                                        });
  EXPECT_EQ(result.path, directory);
  EXPECT_EQ(last, result.bytes);
  EXPECT_TRUE(result.notes.empty());

  // Every key that the family itself has; transformers' settings of any configuration are not written.
  const Json config = read_json_file(directory + "/config.json");
  for (const auto& [key, value] : config.items())
    if (key != "dtype" && key != "architectures") {
      EXPECT_EQ(expected["config"].value(key, Json("absent")), value) << key;
    }
  for (const char* key :
       {"vocab_size", "hidden_size", "rope_parameters", "tie_word_embeddings", "rms_norm_eps", "eos_token_id",
        "head_dim", "layer_types", "sliding_window", "hidden_act", "hidden_activation",
        "attn_logit_softcapping", "query_pre_attn_scalar"})
    EXPECT_EQ(expected["config"].value(key, Json("absent")), config.value(key, Json("absent"))) << key;
  EXPECT_EQ(config["dtype"], "float32");

  const Json tokenizer = read_json_file(directory + "/tokenizer.json");
  for (const auto& [key, value] : expected["tokenizer"].items()) {
    if (key == "model" || key == "added_tokens") continue;
    if (key == "normalizer" && config["model_type"] == "qwen2") continue;  // see below
    EXPECT_EQ(tokenizer[key], value) << key;
  }
  for (const auto& [key, value] : expected["tokenizer"]["model"].items())
    EXPECT_EQ(tokenizer["model"][key], value) << key;
  EXPECT_EQ(tokenizer["added_tokens"], expected["tokenizer"]["added_tokens"]);
  const Json tokenizer_config = read_json_file(directory + "/tokenizer_config.json");
  for (const auto& [key, value] : expected["named"].items()) EXPECT_EQ(tokenizer_config[key], value) << key;

  const Checkpoint checkpoint = Checkpoint::open(directory);
  EXPECT_EQ(checkpoint.tensors().size(), result.tensors);
  EXPECT_EQ(checkpoint.total_bytes(), result.bytes);
  if (!expected.contains("tensors")) return;
  EXPECT_EQ(read_json_file(directory + "/generation_config.json"), expected["generation"]);
  EXPECT_EQ(checkpoint.tensors().size(), expected["tensors"].size());
  for (const auto& [name, tensor] : expected["tensors"].items()) {
    const TensorInfo* info = checkpoint.find(name);
    ASSERT_NE(info, nullptr) << name;
    EXPECT_EQ(info->shape, tensor["shape"].get<std::vector<uint64_t>>()) << name;
    std::vector<std::byte> bytes(info->length_bytes);
    checkpoint.read(*info, 0, bytes);
    EXPECT_EQ(fnv1a(bytes), tensor["fnv1a"]) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, GgufImportOf,
                         ::testing::Values("llama_smollm", "llama_bpe", "llama_spm", "mistral", "qwen2",
                                           "qwen3", "gemma2", "gemma3", "phi3"));

TEST(GgufImport, GivesQwen2TheNormalizerThatCheckpointsHave) {
  const Scratch scratch;
  import_gguf(kFixtures + "qwen2.gguf", scratch.file("out"), Dtype::f32, {});
  EXPECT_EQ(read_json_file(scratch.file("out/tokenizer.json"))["normalizer"],
            Json::parse(R"({"type":"NFC"})"));
}

TEST(GgufImport, RoundsOnceFromFloat32) {
  const Scratch scratch;
  const std::string file = kFixtures + "gemma2.gguf";
  import_gguf(file, scratch.file("f32"), Dtype::f32, {});
  import_gguf(file, scratch.file("bf16"), Dtype::bf16, {});
  import_gguf(file, scratch.file("f16"), Dtype::f16, {});
  const Checkpoint wide = Checkpoint::open(scratch.file("f32"));
  for (const Dtype dtype : {Dtype::bf16, Dtype::f16}) {
    const std::string directory = scratch.file(dtype == Dtype::bf16 ? "bf16" : "f16");
    const Checkpoint narrow = Checkpoint::open(directory);
    EXPECT_EQ(read_json_file(directory + "/config.json")["dtype"], torch_name(dtype));
    for (const auto& [name, tensor] : wide.tensors()) {
      std::vector<float> values(tensor.length_bytes / 4);
      std::vector<uint16_t> rounded(values.size());
      wide.read(tensor, 0, std::as_writable_bytes(std::span(values)));
      narrow.read(*narrow.find(name), 0, std::as_writable_bytes(std::span(rounded)));
      for (size_t i = 0; i < values.size(); ++i)
        ASSERT_EQ(rounded[i], dtype == Dtype::bf16 ? float_to_bf16(values[i]) : float_to_f16(values[i]))
            << name << " " << i;
    }
  }
}

TEST(GgufImport, RefusesADirectoryThatHoldsACheckpoint) {
  const Scratch scratch;
  scratch.put("out/config.json", "{}");
  const auto error =
      error_of([&] { import_gguf(kFixtures + "qwen2.gguf", scratch.file("out"), Dtype::f32, {}); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, "directory-not-empty");
  EXPECT_EQ(
      error_of([&] { import_gguf(kFixtures + "qwen2.gguf", scratch.file("new"), Dtype::i8, {}); })->code,
      "bad-dtype");
  EXPECT_EQ(
      error_of([&] { import_gguf(scratch.file("none.gguf"), scratch.file("new"), Dtype::f32, {}); })->kind,
      ErrorKind::not_found);
}

}  // namespace
}  // namespace rhapsode
