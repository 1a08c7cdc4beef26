#include "models/true_shapes.h"

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <vector>

#include "base/json.h"
#include "models/wanted_tensors.h"

namespace rhapsode::testing {
namespace {

constexpr TrueShape kShapes[] = {
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

// Sixteen-bit numbers at a place of a file.
void put(std::fstream& file, uint64_t offset, const std::vector<uint16_t>& values) {
  file.seekp(static_cast<std::streamoff>(offset));
  file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * 2));
}

struct Numbers {
  Dtype dtype;
  uint16_t of(float x) const { return dtype == Dtype::f16 ? float_to_f16(x) : float_to_bf16(x); }
};

}  // namespace

std::span<const TrueShape> true_shapes() {
  return kShapes;
}

const TrueShape& true_shape(const std::string& name) {
  for (const TrueShape& shape : kShapes)
    if (name == shape.name) return shape;
  throw std::invalid_argument("no shape is called " + name);
}

Holes write_holes(const std::string& directory, const TrueShape& shape, uint64_t filled_rows) {
  const std::string config = directory + "/config.json";
  std::ofstream(config) << shape.config;
  const auto wanted = wanted_tensors(arch::parse_architecture(shape.config, config));
  const bool bf16 = std::string(shape.config).find("bfloat16") != std::string::npos;
  const Numbers numbers{bf16 ? Dtype::bf16 : Dtype::f16};
  OrderedJson header;
  uint64_t offset = 0;
  for (const auto& [name, size] : wanted) {
    const uint64_t rows = size.packed ? size.rows / arch::kPackedRows : size.rows;
    const uint64_t bytes = rows * std::max<uint64_t>(size.cols, 1) * (size.packed ? 1 : 2);
    header[name] = {{"dtype", size.packed ? "U8"
                              : bf16      ? "BF16"
                                          : "F16"},
                    {"shape", size.cols == 0 ? OrderedJson{rows} : OrderedJson{rows, size.cols}},
                    {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  const std::string path = directory + "/model.safetensors";
  std::ofstream(path, std::ios::binary) << std::string(reinterpret_cast<const char*>(&length), 8) + text;
  std::filesystem::resize_file(path, 8 + length + offset);
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  for (const auto& [name, size] : wanted) {
    const uint64_t at = 8 + length + header[name]["data_offsets"][0].get<uint64_t>();
    if (size.cols == 0) put(file, at, std::vector<uint16_t>(size.rows, numbers.of(1.0f)));
    if (name != "model.embed_tokens.weight") continue;
    std::vector<uint16_t> values;
    for (uint64_t i = 0; i < filled_rows * size.cols; ++i)
      values.push_back(numbers.of(static_cast<float>(static_cast<int>(i * 7919 % 255) - 127) / 128.0f));
    put(file, at, values);
  }
  return {wanted.size(), offset};
}

}  // namespace rhapsode::testing
