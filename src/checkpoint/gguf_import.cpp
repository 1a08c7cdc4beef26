// The import itself: a GGUF file in, a checkpoint directory out, one tensor in memory at a time. config.json
// is written last, so a directory that holds one is complete.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

#include "base/input_file.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_model.h"

namespace rhapsode {
namespace {

namespace fs = std::filesystem;

void store(Dtype dtype, std::span<const float> values, std::span<std::byte> out) {
  if (dtype == Dtype::f32) {
    if (!values.empty()) std::memcpy(out.data(), values.data(), values.size_bytes());
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t bits = dtype == Dtype::bf16 ? float_to_bf16(values[i]) : float_to_f16(values[i]);
    std::memcpy(out.data() + 2 * i, &bits, 2);
  }
}

// Row of the file that becomes row `row`: a head's rows are stored as pairs (i, i + half), the checkpoint
// wants halves.
uint64_t source_row(const gguf::TensorPlan& plan, uint64_t rows, uint64_t row) {
  if (plan.change != gguf::Change::unpermute) return row;
  const uint64_t head_rows = rows / plan.heads;
  const uint64_t half = head_rows / 2;
  const uint64_t head = row / head_rows;
  const uint64_t in_head = row % head_rows;
  return head * head_rows + in_head % half * 2 + in_head / half;
}

class TensorSource {
 public:
  explicit TensorSource(const InputFile& file) : file_(file) {}

  // Reads a tensor, dequantizes it row by row, and stores it rounded once.
  void fill(const gguf::TensorPlan& plan, Dtype dtype, std::span<std::byte> out) {
    const gguf::TensorEntry& tensor = *plan.source;
    blocks_.resize(tensor.length_bytes);
    file_.read(tensor.offset_bytes, blocks_);
    // A vector that is permuted is a matrix of one column; any other vector is one row.
    const bool column = tensor.shape.size() == 1 && plan.change == gguf::Change::unpermute;
    const uint64_t rows = tensor.shape.size() > 1 || column ? tensor.shape.front() : 1;
    const uint64_t cols = tensor.shape.size() > 1 ? tensor.shape.back() : column ? 1 : tensor.shape.front();
    const uint64_t row_bytes = tensor.length_bytes / rows;
    row_.resize(cols);
    for (uint64_t row = 0; row < rows; ++row) {
      gguf::dequantize(tensor.type,
                       std::span(blocks_).subspan(source_row(plan, rows, row) * row_bytes, row_bytes), row_);
      if (plan.change == gguf::Change::minus_one)
        for (float& x : row_) x -= 1.0f;
      const uint64_t out_bytes = cols * dtype_bytes(dtype);
      store(dtype, row_, out.subspan(row * out_bytes, out_bytes));
    }
  }

 private:
  const InputFile& file_;
  std::vector<std::byte> blocks_;
  std::vector<float> row_;
};

void prepare_directory(const std::string& directory) {
  std::error_code code;
  fs::create_directories(directory, code);
  if (code || !fs::is_directory(directory))
    throw Error(ErrorKind::runtime, "cannot-create",
                fmt::format("cannot create the directory: {}", code.message()))
        .in(directory)
        .hint("choose a directory that can be written");
  for (const char* name :
       {"config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json"})
    if (fs::symlink_status(fs::path(directory) / name, code).type() != fs::file_type::not_found)
      throw Error(ErrorKind::usage, "directory-not-empty", "the directory already holds a checkpoint")
          .in(directory)
          .saw(name)
          .want("a new or empty directory")
          .hint("choose another directory, or remove this one");
}

void write_json(const std::string& directory, const char* name, const OrderedJson& json) {
  write_file_atomically((fs::path(directory) / name).string(), json.dump(2) + "\n");
}

}  // namespace

GgufImport import_gguf(const std::string& file, const std::string& directory, Dtype dtype,
                       const std::function<void(uint64_t done_bytes, uint64_t total_bytes)>& progress) {
  if (dtype != Dtype::f32 && dtype != Dtype::f16 && dtype != Dtype::bf16)
    throw Error(ErrorKind::usage, "bad-dtype", "weights cannot be imported in this type")
        .saw(std::string(dtype_name(dtype)))
        .want("float32, float16 or bfloat16");
  const InputFile input(file);
  const gguf::File parsed = gguf::parse(
      [&](uint64_t offset, std::span<std::byte> out) { input.read(offset, out); }, input.size_bytes(), file);
  gguf::ModelPlan plan = gguf::plan_model(parsed);
  const gguf::TokenizerFiles tokenizer = gguf::build_tokenizer(parsed);
  prepare_directory(directory);

  GgufImport result{directory, plan.tensors.size(), 0, plan.notes};
  std::vector<TensorToWrite> tensors;
  for (const gguf::TensorPlan& tensor : plan.tensors) {
    tensors.push_back({tensor.name, dtype, tensor.source->shape});
    result.bytes += tensor.source->length_bytes / gguf::block_traits(tensor.source->type)->bytes *
                    gguf::block_traits(tensor.source->type)->elements * dtype_bytes(dtype);
  }
  TensorSource source(input);
  uint64_t done = 0;
  write_safetensors((fs::path(directory) / "model.safetensors").string(), tensors, {{"format", "pt"}},
                    [&](size_t i, std::span<std::byte> out) {
                      source.fill(plan.tensors[i], dtype, out);
                      done += out.size();
                      if (progress) progress(done, result.bytes);
                    });
  write_json(directory, "tokenizer.json", tokenizer.tokenizer);
  write_json(directory, "tokenizer_config.json", tokenizer.tokenizer_config);
  write_json(directory, "generation_config.json", plan.generation_config);
  plan.config["dtype"] = torch_name(dtype);
  write_json(directory, "config.json", plan.config);
  return result;
}

}  // namespace rhapsode
