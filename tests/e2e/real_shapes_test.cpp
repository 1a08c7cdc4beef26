// The models of the guide in their true shapes: a checkpoint of holes (a header, then nothing but length),
// planned by the real binary. Byte totals are those of the published files.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "arch/linear_kind.h"
#include "arch/registry.h"
#include "e2e/program.h"
#include "support/scratch.h"

namespace rhapsode::testing {
namespace {

struct Shape {
  const char* name;
  const char* config;
  uint64_t file_bytes;      // of all tensors
  uint64_t tensors;         // in the file
  uint64_t token_kv_bytes;  // of one token, 16 bits
};

const Shape kShapes[] = {
    {"llama_2_7b",
     R"({"model_type":"llama","hidden_size":4096,"num_hidden_layers":32,"num_attention_heads":32,
         "num_key_value_heads":32,"intermediate_size":11008,"vocab_size":32000,"hidden_act":"silu",
         "rms_norm_eps":1e-5,"max_position_embeddings":4096,"torch_dtype":"float16"})",
     13'476'831'232, 291, 524'288},
    {"llama_2_70b",
     R"({"model_type":"llama","hidden_size":8192,"num_hidden_layers":80,"num_attention_heads":64,
         "num_key_value_heads":8,"intermediate_size":28672,"vocab_size":32000,"hidden_act":"silu",
         "rms_norm_eps":1e-5,"max_position_embeddings":4096,"torch_dtype":"float16"})",
     137'953'296'384, 723, 327'680},
    {"mistral_7b",
     R"({"model_type":"mistral","hidden_size":4096,"num_hidden_layers":32,"num_attention_heads":32,
         "num_key_value_heads":8,"intermediate_size":14336,"vocab_size":32000,"hidden_act":"silu",
         "rms_norm_eps":1e-5,"max_position_embeddings":32768,"rope_theta":1000000.0,"sliding_window":null,
         "torch_dtype":"bfloat16"})",
     14'483'464'192, 291, 131'072},
    {"gemma_2_9b",
     R"({"model_type":"gemma2","hidden_size":3584,"num_hidden_layers":42,"num_attention_heads":16,
         "num_key_value_heads":8,"head_dim":256,"intermediate_size":14336,"vocab_size":256000,
         "hidden_activation":"gelu_pytorch_tanh","rms_norm_eps":1e-6,"max_position_embeddings":8192,
         "sliding_window":4096,"query_pre_attn_scalar":256,"attn_logit_softcapping":50.0,
         "final_logit_softcapping":30.0,"torch_dtype":"bfloat16"})",
     18'483'411'968, 464, 344'064},
    {"gemma_2_2b",
     R"({"model_type":"gemma2","hidden_size":2304,"num_hidden_layers":26,"num_attention_heads":8,
         "num_key_value_heads":4,"head_dim":256,"intermediate_size":9216,"vocab_size":256000,
         "hidden_activation":"gelu_pytorch_tanh","rms_norm_eps":1e-6,"max_position_embeddings":8192,
         "sliding_window":4096,"query_pre_attn_scalar":256,"attn_logit_softcapping":50.0,
         "final_logit_softcapping":30.0,"torch_dtype":"bfloat16"})",
     5'228'683'776, 288, 106'496},
    {"phi_2",
     R"({"model_type":"phi","hidden_size":2560,"num_hidden_layers":32,"num_attention_heads":32,
         "num_key_value_heads":32,"intermediate_size":10240,"vocab_size":51200,"hidden_act":"gelu_new",
         "layer_norm_eps":1e-5,"max_position_embeddings":2048,"rope_theta":10000.0,"partial_rotary_factor":0.4,
         "torch_dtype":"float16"})",
     5'559'367'680, 453, 327'680},
    {"bitnet_2b",
     R"({"model_type":"bitnet","hidden_size":2560,"num_hidden_layers":30,"num_attention_heads":20,
         "num_key_value_heads":5,"intermediate_size":6912,"vocab_size":128256,"hidden_act":"relu2",
         "rms_norm_eps":1e-5,"max_position_embeddings":4096,"rope_theta":500000.0,"tie_word_embeddings":true,
         "torch_dtype":"bfloat16","quantization_config":{"quant_method":"bitnet",
         "linear_class":"autobitlinear","quantization_mode":"offline"}})",
     1'178'562'980, 542, 76'800},
};

struct Wanted {
  uint64_t rows = 0;
  uint64_t cols = 0;  // 0 = a vector
  bool packed = false;
};

// What the family asks for, by name.
std::map<std::string, Wanted> wanted_tensors(const arch::Architecture& architecture) {
  arch::ModelTensors names =
      architecture.family->tensors(architecture.spec, [](const std::string&) { return false; });
  arch::apply_linear_kind(architecture.spec, names);
  std::map<std::string, Wanted> wanted;
  const auto ask = [&](const std::string& name, uint64_t rows, uint64_t cols, bool packed = false) {
    if (!name.empty()) wanted[name] = {std::max(wanted[name].rows, rows), cols, packed};
  };
  const auto linear = [&](const arch::LinearSource& source) {
    for (const arch::LinearPart& part : source.parts) {
      for (const arch::RowRun& run : part.weight)
        ask(run.tensor, run.first_row + run.row_count, source.cols, part.is_packed());
      ask(part.weight_scale, 1, 0);
      for (const arch::RowRun& run : part.bias) ask(run.tensor, run.first_row + run.row_count, 0);
    }
  };
  const auto norm = [&](const arch::NormSource& source) {
    ask(source.weight, source.length, 0);
    ask(source.bias, source.length, 0);
  };
  ask(names.embed_tensor, architecture.spec.vocab_size, architecture.spec.hidden_size);
  linear(names.lm_head);
  norm(names.final_norm);
  for (const arch::LayerTensors& layer : names.layers) {
    for (const auto* source :
         {&layer.input_norm, &layer.q_norm, &layer.k_norm, &layer.attn_sub_norm, &layer.post_attention_norm,
          &layer.pre_ffn_norm, &layer.ffn_sub_norm, &layer.post_ffn_norm})
      norm(*source);
    for (const auto* source : {&layer.qkv, &layer.o, &layer.up, &layer.down}) linear(*source);
  }
  return wanted;
}

// model.safetensors of that shape whose data is one hole; returns the bytes of the tensors.
uint64_t write_holes(const Scratch& scratch, const Shape& shape) {
  const std::string config = scratch.put("config.json", shape.config);
  const auto wanted = wanted_tensors(arch::parse_architecture(shape.config, config));
  const std::string dtype = std::string(shape.config).find("bfloat16") == std::string::npos ? "F16" : "BF16";
  OrderedJson header;
  uint64_t offset = 0;
  for (const auto& [name, size] : wanted) {
    const uint64_t rows = size.packed ? size.rows / arch::kPackedRows : size.rows;
    const uint64_t bytes = rows * std::max<uint64_t>(size.cols, 1) * (size.packed ? 1 : 2);
    header[name] = {{"dtype", size.packed ? "U8" : dtype},
                    {"shape", size.cols == 0 ? OrderedJson{rows} : OrderedJson{rows, size.cols}},
                    {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  std::string bytes(reinterpret_cast<const char*>(&length), 8);
  const std::string file = scratch.put("model.safetensors", bytes + text);
  std::filesystem::resize_file(file, 8 + length + offset);
  EXPECT_EQ(wanted.size(), shape.tensors) << shape.name;
  return offset;
}

class RealShapes : public ::testing::TestWithParam<Shape> {};

TEST_P(RealShapes, PlanSaysThePublishedBytes) {
  const Scratch scratch;
  ASSERT_EQ(write_holes(scratch, GetParam()), GetParam().file_bytes);
  const std::string yaml = scratch.put(
      "rag.yaml",
      "generator:\n  active_model: m\n  models:\n    m:\n      type: huggingface\n      model_id: \"" +
          scratch.path().string() + "\"\n      max_context: 2048\n");
  const Outcome outcome = rhapsode({"plan", "-c", yaml, "--json"});
  ASSERT_TRUE(outcome.code == 0 || outcome.code == 7) << outcome.out << outcome.err;
  const Json plan = outcome.json();
  uint64_t weights = 0, kv = 0;
  for (const Json& device : plan.at("devices")) {
    weights += device.at("weights_bytes").get<uint64_t>();
    kv += device.at("kv_bytes").get<uint64_t>();
  }
  // Norms and biases are held as float32, ternary scales as numbers of the program, and each allocation is
  // aligned to 64 bytes: 0.1 % at most.
  EXPECT_GE(weights + 1000, GetParam().file_bytes);
  EXPECT_LE(weights, GetParam().file_bytes + GetParam().file_bytes / 1000);
  EXPECT_EQ(kv, 2048 * GetParam().token_kv_bytes);
}

// The guide's model examples with their own keys, on GPUs of the size that each is written for.
struct Example {
  const char* shape;
  const char* machine;
  const char* keys;  // lines of the entry
  bool fits;
};

const Example kExamples[] = {
    {"bitnet_2b", "4GB,cpu=64GB",
     "      torch_dtype: bfloat16\n      device_map: auto\n      max_gpu_memory: \"3.8GB\"\n      "
     "max_tokens: 250\n",
     true},
    {"gemma_2_9b", "8GB,cpu=64GB",
     "      torch_dtype: float16\n      device_map: balanced\n      max_gpu_memory: \"7GB\"\n      "
     "quantization: 8bit\n"
     "      max_tokens: 512\n",
     false},
    {"llama_2_7b", "4GB,cpu=64GB",
     "      torch_dtype: float16\n      device_map: auto\n      max_gpu_memory: \"3.8GB\"\n      "
     "quantization: 4bit\n"
     "      max_tokens: 512\n",
     false},
    {"mistral_7b", "8GB,cpu=64GB",
     "      torch_dtype: bfloat16\n      device_map: auto\n      max_gpu_memory: \"7GB\"\n      "
     "quantization: 8bit\n"
     "      max_tokens: 1024\n",
     false},
    {"phi_2", "4GB,cpu=64GB",
     "      torch_dtype: float16\n      device_map: auto\n      max_gpu_memory: \"4GB\"\n      max_tokens: "
     "512\n",
     false},
    {"llama_2_70b", "2x40GB,cpu=64GB",
     "      torch_dtype: bfloat16\n      device_map: balanced\n      max_memory: {0: \"40GB\", 1: \"40GB\"}\n"
     "      quantization: 8bit\n      max_tokens: 2048\n      num_beams: 2\n",
     true},
};

uint64_t sum_of(const Json& devices, const char* field) {
  uint64_t bytes = 0;
  for (const Json& device : devices) bytes += device.at(field).get<uint64_t>();
  return bytes;
}

// A sentence a model: whether its plan fits its own limit, by how much not, and the first change that helps.
std::string told(const Example& example, const Json& plan) {
  std::ostringstream text;
  const Json& devices = plan.at("devices");
  text << example.shape << " on " << example.machine << ": " << sum_of(devices, "total_bytes")
       << " bytes (weights " << sum_of(devices, "weights_bytes") + sum_of(devices, "quant_metadata_bytes")
       << ", KV cache " << sum_of(devices, "kv_bytes") << " for " << plan.at("context_tokens")
       << " tokens), ";
  if (plan.at("fits").get<bool>())
    text << "fits, up to " << plan.at("max_context") << " tokens";
  else
    text << "short of " << plan.at("bytes_short") << ", largest context " << plan.at("max_context");
  for (const Json& change : plan.at("changes"))
    if (change.at("fits").get<bool>()) {
      text << "; helps: " << change.at("set").dump();
      break;
    }
  return text.str();
}

TEST(GuideExamples, FourOfFiveDoNotFitTheirOwnLimit) {
  for (const Example& example : kExamples) {
    const Scratch scratch;
    const Shape& shape = *std::find_if(std::begin(kShapes), std::end(kShapes), [&](const Shape& candidate) {
      return std::string(candidate.name) == example.shape;
    });
    write_holes(scratch, shape);
    const std::string yaml =
        scratch.put("rag.yaml", "generator:\n  active_model: m\n  models:\n    m:\n      model_id: \"" +
                                    scratch.path().string() + "\"\n" + example.keys);
    const auto start = std::chrono::steady_clock::now();
    const Outcome outcome = rhapsode({"plan", "-c", yaml, "--machine", example.machine, "--json"});
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    EXPECT_EQ(outcome.code, example.fits ? 0 : 7) << outcome.out << outcome.err;
    const Json plan = outcome.json();
    EXPECT_EQ(plan.at("fits"), example.fits) << example.shape;
    std::cout << told(example, plan) << " (" << took.count() << " s)\n";
    if (example.fits) continue;
    EXPECT_FALSE(plan.at("workable_limits").empty()) << example.shape;
    EXPECT_TRUE(std::any_of(plan.at("changes").begin(), plan.at("changes").end(), [](const Json& change) {
      return change.at("fits").get<bool>();
    })) << example.shape;
  }
}

INSTANTIATE_TEST_SUITE_P(Guide, RealShapes, ::testing::ValuesIn(kShapes),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace rhapsode::testing
