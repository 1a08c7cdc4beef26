// See stored_weights.h.
#include "arch/stored_weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>

#include "base/error.h"

namespace rhapsode::arch {
namespace {

constexpr uint64_t kBlock = 64;  // what transformers writes; others come from bitsandbytes alone
constexpr std::array<uint64_t, 8> kBlocks{64, 32, 128, 256, 512, 1024, 2048, 4096};
constexpr uint64_t kNestedBlock = 256;
constexpr const char* kHint = "the checkpoint is damaged or incomplete: fetch it again";

std::string shape_text(const std::vector<uint64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

void check_storage(const ConfigJson& quantization) {
  const char* key = "bnb_4bit_quant_storage";
  const std::string name = quantization.text_or(key, "uint8");
  for (const Dtype dtype : {Dtype::u8, Dtype::i8, Dtype::f16, Dtype::bf16, Dtype::f32, Dtype::f64})
    if (torch_name(dtype) == name) return;
  quantization.fail(key, name, "uint8, int8, float16, bfloat16, float32 or float64");
}

StoredQuantization read_bitsandbytes(const ConfigJson& quantization) {
  StoredQuantization stored;
  const bool eight = quantization.boolean_or("load_in_8bit", false);
  const bool four = quantization.boolean_or("load_in_4bit", false);
  if (eight == four)
    quantization.fail("load_in_4bit", eight ? "true beside load_in_8bit" : "false, and load_in_8bit too",
                      "one of load_in_8bit and load_in_4bit");
  if (quantization.boolean_or("llm_int8_has_fp16_weight", false))
    quantization.unsupported("llm_int8_has_fp16_weight", "true", "false");
  stored.kind = eight ? StoredKind::int8 : StoredKind::four_bit;
  stored.int8_threshold = static_cast<float>(quantization.number_or("llm_int8_threshold", 0.0, 3.4e38, 6.0));
  stored.has_skip = quantization.has("llm_int8_skip_modules");
  stored.skip = quantization.texts("llm_int8_skip_modules");
  if (eight) return stored;
  const std::string type = quantization.text_or("bnb_4bit_quant_type", "fp4");
  if (type != "nf4" && type != "fp4") quantization.fail("bnb_4bit_quant_type", type, "nf4 or fp4");
  stored.nf4 = type == "nf4";
  const std::string compute = quantization.text_or("bnb_4bit_compute_dtype", "float32");
  const std::optional<Dtype> dtype = dtype_from_torch_name(compute);
  if (!dtype) quantization.fail("bnb_4bit_compute_dtype", compute, "float32, float16 or bfloat16");
  stored.compute = *dtype;
  check_storage(quantization);
  return stored;
}

// group_size -1: all columns share their scale.
uint64_t group_size(const ConfigJson& quantization, uint64_t fallback) {
  if (quantization.has("group_size") && quantization.number("group_size", -1, 1e9) == -1.0) return 0;
  return quantization.count_or("group_size", 1'000'000'000, fallback);
}

StoredQuantization read_gptq(const ConfigJson& quantization) {
  StoredQuantization stored;
  stored.kind = StoredKind::gptq;
  stored.bits = static_cast<uint32_t>(quantization.count("bits", 32));
  if (stored.bits != 2 && stored.bits != 4 && stored.bits != 8)
    quantization.unsupported("bits", std::to_string(stored.bits), "2, 4 or 8");
  stored.group = group_size(quantization, 128);
  const std::string format =
      quantization.text_or("checkpoint_format", quantization.text_or("format", "gptq"));
  if (format != "gptq" && format != "gptq_v2")
    quantization.unsupported("checkpoint_format", "\"" + format + "\"", "gptq, gptq_v2");
  stored.zeros_plus_one = format == "gptq";
  return stored;
}

StoredQuantization read_awq(const ConfigJson& quantization) {
  StoredQuantization stored;
  stored.kind = StoredKind::awq;
  stored.bits = static_cast<uint32_t>(quantization.count_or("bits", 32, 4));
  if (stored.bits != 4) quantization.unsupported("bits", std::to_string(stored.bits), "4");
  stored.group = group_size(quantization, 128);
  const std::string version = quantization.text_or("version", quantization.text_or("format", "gemm"));
  if (version != "gemm" && version != "GEMM")
    quantization.unsupported("version", "\"" + version + "\"", "gemm");
  return stored;
}

Error broken(const Checkpoint& checkpoint, const std::string& tensor, const char* code, const char* message) {
  const TensorInfo* info = checkpoint.find(tensor);
  return Error(ErrorKind::integrity, code, message)
      .in(info != nullptr ? checkpoint.shards()[info->shard].path() : checkpoint.directory())
      .at(tensor)
      .hint(kHint);
}

const TensorInfo& need_companion(const Checkpoint& checkpoint, const std::string& name,
                                 const std::string& weight) {
  const TensorInfo* tensor = checkpoint.find(name);
  if (tensor != nullptr) return *tensor;
  throw broken(checkpoint, name, "missing-tensor", "a quantized weight lacks a tensor beside it")
      .saw("no tensor of this name")
      .want("what " + weight + " needs to be read");
}

void require(const Checkpoint& checkpoint, const TensorInfo& tensor, Dtype dtype,
             const std::vector<uint64_t>& shape) {
  if (tensor.dtype == dtype && tensor.shape == shape) return;
  throw broken(checkpoint, tensor.name, "stored-shape", "a tensor of a quantized weight has a wrong shape")
      .saw(fmt::format("{} {}", dtype_name(tensor.dtype), shape_text(tensor.shape)))
      .want(fmt::format("{} {}", dtype_name(dtype), shape_text(shape)));
}

uint64_t blocks_of(uint64_t elements, uint64_t block) {
  return elements / block + (elements % block != 0);
}

// The block size that makes so many absmax values of the packed bytes; 0 where none does. One block alone is
// of any size.
uint64_t block_size(const TensorInfo& weight, uint64_t blocks) {
  for (const uint64_t block : kBlocks)
    for (const uint64_t elements : {weight.length_bytes * 2, weight.length_bytes * 2 - 1})
      if (weight.length_bytes > 0 && blocks_of(elements, block) == blocks) return block;
  return 0;
}

StoredWeight four_bit_of(const Spec& spec, const Checkpoint& checkpoint, const std::string& weight) {
  StoredWeight stored;
  const bool nf4 = checkpoint.find(weight + ".quant_state.bitsandbytes__nf4") != nullptr;
  const bool fp4 = checkpoint.find(weight + ".quant_state.bitsandbytes__fp4") != nullptr;
  const TensorInfo* absmax = checkpoint.find(weight + ".absmax");
  const TensorInfo* packed = checkpoint.find(weight);
  if ((!nf4 && !fp4 && absmax == nullptr) || packed == nullptr) return stored;
  if (nf4 == fp4)
    throw broken(checkpoint, weight, "quant-state-count",
                 "a 4-bit weight must have exactly one quant_state tensor")
        .saw(nf4 ? "one for nf4 and one for fp4" : "none")
        .want(weight + ".quant_state.bitsandbytes__nf4 or …__fp4");
  need_companion(checkpoint, weight + ".absmax", weight);
  stored.kind = StoredKind::four_bit;
  stored.nf4 = nf4;
  stored.nested = checkpoint.find(weight + ".nested_absmax") != nullptr;
  stored.compute = spec.stored.compute;
  stored.block = absmax->shape.size() == 1 ? block_size(*packed, absmax->shape[0]) : 0;
  if (stored.block == 0)
    throw broken(checkpoint, absmax->name, "stored-shape",
                 "no block size makes so many absmax values of a 4-bit weight")
        .saw(shape_text(absmax->shape))
        .want(fmt::format("[{}]: one for each {} elements", blocks_of(packed->length_bytes * 2, kBlock),
                          kBlock));
  return stored;
}

StoredWeight stored_of(const Spec& spec, const Checkpoint& checkpoint, const std::string& weight) {
  StoredWeight stored;
  if (spec.stored.kind == StoredKind::four_bit) return four_bit_of(spec, checkpoint, weight);
  if (spec.stored.kind != StoredKind::int8) {
    if (checkpoint.find(grouped_names(weight).codes) == nullptr) return stored;
    stored.kind = spec.stored.kind;
    stored.bits = spec.stored.bits;
    stored.group = spec.stored.group;
    stored.zeros_plus_one = spec.stored.zeros_plus_one;
    return stored;
  }
  const TensorInfo* tensor = checkpoint.find(weight);
  if (tensor == nullptr) return stored;
  const bool codes = tensor->dtype == Dtype::i8;
  if (codes || checkpoint.find(int8_names(weight).scb) != nullptr) stored.kind = StoredKind::int8;
  return stored;
}

void check_int8(const Checkpoint& checkpoint, const StoredNeed& need, std::set<std::string>& companions) {
  const Int8Names names = int8_names(need.tensor);
  require(checkpoint, *checkpoint.find(need.tensor), Dtype::i8, {need.rows, need.cols});
  require(checkpoint, need_companion(checkpoint, names.scb, need.tensor), Dtype::f32, {need.rows});
  companions.insert(names.scb);
  const TensorInfo* format = checkpoint.find(names.format);
  if (format == nullptr) return;
  require(checkpoint, *format, Dtype::u8, {});
  companions.insert(names.format);
}

// P of P.weight.
std::string module_of(const std::string& weight) {
  constexpr std::string_view kWeight = ".weight";
  return weight.ends_with(kWeight) ? weight.substr(0, weight.size() - kWeight.size()) : weight;
}

// GPTQ packs codes of a column into words, AWQ those of a row; both pack zero points along the outputs.
void check_grouped(const Checkpoint& checkpoint, const StoredNeed& need, std::set<std::string>& companions) {
  const GroupedNames names = grouped_names(need.tensor);
  const uint64_t per_word = 32 / need.stored.bits;
  const uint64_t group = need.stored.group == 0 ? need.cols : need.stored.group;
  const bool gptq = need.stored.kind == StoredKind::gptq;
  if (need.rows % per_word != 0 || (gptq && need.cols % per_word != 0) || (!gptq && need.cols % group != 0))
    throw Error(ErrorKind::unsupported, "stored-parts",
                "codes of this weight do not fill whole words or groups")
        .in(checkpoint.directory())
        .at(need.tensor)
        .saw(shape_text({need.rows, need.cols}));
  const uint64_t groups = blocks_of(need.cols, group);
  const auto check = [&](const std::string& name, Dtype dtype, std::vector<uint64_t> shape) {
    require(checkpoint, need_companion(checkpoint, name, need.tensor), dtype, shape);
    companions.insert(name);
  };
  if (gptq)
    check(names.codes, Dtype::i32, {need.cols / per_word, need.rows});
  else
    check(names.codes, Dtype::i32, {need.cols, need.rows / per_word});
  check(names.zeros, Dtype::i32, {groups, need.rows / per_word});
  const TensorInfo& scales = need_companion(checkpoint, names.scales, need.tensor);
  const bool real = scales.dtype == Dtype::f16 || scales.dtype == Dtype::bf16 || scales.dtype == Dtype::f32;
  check(names.scales, real ? scales.dtype : Dtype::f16, {groups, need.rows});
  if (gptq && checkpoint.find(names.group_index) != nullptr)
    check(names.group_index, Dtype::i32, {need.cols});
}

void check_four_bit(const Checkpoint& checkpoint, const StoredNeed& need, std::set<std::string>& companions) {
  const FourBitNames names = four_bit_names(need.tensor, need.stored);
  const TensorInfo& packed = *checkpoint.find(need.tensor);
  const uint64_t elements = need.rows * need.cols, bytes = elements / 2 + elements % 2;
  const uint64_t width = dtype_bytes(packed.dtype);
  if (packed.length_bytes != bytes)
    throw broken(checkpoint, need.tensor, "stored-shape", "a 4-bit weight has a wrong number of bytes")
        .saw(fmt::format("{} {}", dtype_name(packed.dtype), shape_text(packed.shape)))
        .want(fmt::format("{} bytes: {} rows of {} columns", bytes, need.rows, need.cols));
  require(checkpoint, packed, packed.dtype, {bytes / width, 1});
  const uint64_t blocks = blocks_of(elements, need.stored.block);
  const auto check = [&](const std::string& name, Dtype dtype, std::vector<uint64_t> shape) {
    require(checkpoint, need_companion(checkpoint, name, need.tensor), dtype, shape);
    companions.insert(name);
  };
  check(names.absmax, need.stored.nested ? Dtype::u8 : Dtype::f32, {blocks});
  check(names.quant_map, Dtype::f32, {16});
  if (need.stored.nested) {
    check(names.nested_absmax, Dtype::f32, {blocks_of(blocks, kNestedBlock)});
    check(names.nested_quant_map, Dtype::f32, {256});
  }
  const TensorInfo& state = need_companion(checkpoint, names.state, need.tensor);
  require(checkpoint, state, Dtype::u8, {state.length_bytes});
  companions.insert(names.state);
}

}  // namespace

StoredQuantization read_stored_quantization(const ConfigJson& config) {
  const std::optional<ConfigJson> quantization = config.object("quantization_config");
  if (!quantization) return {};
  const std::string method = quantization->text_or("quant_method", "");
  if (method == "bitnet") return {};
  if (method == "bitsandbytes" || quantization->boolean_or("load_in_8bit", false) ||
      quantization->boolean_or("load_in_4bit", false))
    return read_bitsandbytes(*quantization);
  if (method == "gptq") return read_gptq(*quantization);
  if (method == "awq") return read_awq(*quantization);
  quantization->unsupported("quant_method", method.empty() ? "no such key" : "\"" + method + "\"",
                            "bitsandbytes, gptq, awq, bitnet");
}

FourBitNames four_bit_names(const std::string& weight, const StoredWeight& stored) {
  return {weight + ".absmax", weight + ".quant_map", weight + ".nested_absmax", weight + ".nested_quant_map",
          weight + ".quant_state.bitsandbytes__" + (stored.nf4 ? "nf4" : "fp4")};
}

Int8Names int8_names(const std::string& weight) {
  const std::string module = module_of(weight);
  return {module + ".SCB", module + ".weight_format"};
}

GroupedNames grouped_names(const std::string& weight) {
  const std::string module = module_of(weight);
  return {module + ".qweight", module + ".qzeros", module + ".scales", module + ".g_idx"};
}

void mark_stored(const Spec& spec, const Checkpoint& checkpoint, ModelTensors& names) {
  if (spec.stored.kind == StoredKind::none) return;
  bool any = false;
  const auto mark = [&](LinearSource& source) {
    for (LinearPart& part : source.parts) {
      part.stored = stored_of(spec, checkpoint, part.weight.front().tensor);
      any = any || part.stored.kind != StoredKind::none;
      for (const RowRun& run : part.weight)
        if (part.stored.kind != StoredKind::none && run.tensor != part.weight.front().tensor)
          throw Error(ErrorKind::unsupported, "stored-parts",
                      "a projection of several stored tensors is not built")
              .in(checkpoint.directory())
              .at(run.tensor);
    }
  };
  mark(names.lm_head);
  for (LayerTensors& layer : names.layers)
    for (LinearSource* source : {&layer.qkv, &layer.o, &layer.up, &layer.down}) mark(*source);
  if (any) return;
  throw Error(ErrorKind::integrity, "nothing-quantized",
              "config.json says that the weights are quantized, and none is")
      .in(checkpoint.directory())
      .at("/quantization_config")
      .saw("plain weights")
      .want(spec.stored.kind == StoredKind::int8       ? "int8 weights beside their SCB"
            : spec.stored.kind == StoredKind::four_bit ? "packed weights beside their absmax"
                                                       : "qweight tensors beside their scales")
      .hint(
          "config.json and the weights do not belong together; to quantize while loading, write "
          "`quantization` in the YAML and remove quantization_config from config.json");
}

void check_stored(const Checkpoint& checkpoint, const StoredNeed& need, std::set<std::string>& companions) {
  if (need.stored.kind == StoredKind::gptq || need.stored.kind == StoredKind::awq)
    return check_grouped(checkpoint, need, companions);
  if (checkpoint.find(need.tensor) == nullptr)
    throw broken(checkpoint, need.tensor, "missing-tensor",
                 "the checkpoint lacks a tensor that config.json calls for")
        .saw("no tensor of this name");
  if (need.stored.kind == StoredKind::int8)
    check_int8(checkpoint, need, companions);
  else
    check_four_bit(checkpoint, need, companions);
}

}  // namespace rhapsode::arch
