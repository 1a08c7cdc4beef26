// See quantize.h.
#include "runtime/quantize.h"

#include <fmt/format.h>

#include <filesystem>

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "model/quantized_checkpoint.h"
#include "plan/module_tree.h"

namespace rhapsode::runtime {
namespace {

namespace fs = std::filesystem;
using arch::StoredKind;
using config::Quantization;

// Files that belong to a model and stay as they are.
constexpr const char* kCopied[] = {"generation_config.json",
                                   "tokenizer.json",
                                   "tokenizer_config.json",
                                   "special_tokens_map.json",
                                   "added_tokens.json",
                                   "vocab.json",
                                   "vocab.txt",
                                   "merges.txt",
                                   "tokenizer.model",
                                   "chat_template.jinja",
                                   "chat_template.json"};

void require_free(const fs::path& directory) {
  std::error_code code;
  const fs::file_status status = fs::symlink_status(directory, code);
  if (status.type() == fs::file_type::not_found) return;
  if (status.type() == fs::file_type::directory && fs::is_empty(directory, code) && !code) return;
  throw Error(ErrorKind::usage, "directory-not-empty", "the place to write to is taken")
      .in(directory.string())
      .saw(status.type() == fs::file_type::directory ? "a directory that is not empty" : "a file")
      .want("a name that is free, or an empty directory")
      .hint("nothing is ever overwritten: choose another directory, or remove this one");
}

Dtype storage_of(const config::ModelEntry& entry) {
  const auto& asked = entry.quantization_config.bnb_4bit_quant_storage;
  if (!asked) return Dtype::u8;
  for (const Dtype dtype : {Dtype::u8, Dtype::i8, Dtype::f16, Dtype::bf16, Dtype::f32, Dtype::f64})
    if (torch_name(dtype) == asked->value) return dtype;
  return Dtype::u8;
}

// As transformers writes it: every key, in the order of the alphabet.
Json quantization_json(const config::ModelEntry& entry, const plan::Formats& formats) {
  const bool eight = formats.quantization == Quantization::int8;
  Json skip = nullptr;
  if (entry.quantization_config.llm_int8_skip_modules) skip = formats.skipped;
  const auto& threshold = entry.quantization_config.llm_int8_threshold;
  return {{"_load_in_4bit", !eight},
          {"_load_in_8bit", eight},
          {"bnb_4bit_compute_dtype", eight ? "float32" : torch_name(formats.compute)},
          {"bnb_4bit_quant_storage", torch_name(storage_of(entry))},
          {"bnb_4bit_quant_type", formats.quantization == Quantization::nf4 ? "nf4" : "fp4"},
          {"bnb_4bit_use_double_quant", !eight && formats.nested},
          {"llm_int8_enable_fp32_cpu_offload", false},
          {"llm_int8_has_fp16_weight", false},
          {"llm_int8_skip_modules", skip},
          {"llm_int8_threshold", threshold ? threshold->value : 6.0},
          {"load_in_4bit", !eight},
          {"load_in_8bit", eight},
          {"quant_method", "bitsandbytes"}};
}

void write_config(const Assembly& assembly, const plan::Plan& plan, const fs::path& directory) {
  const std::string name = "config.json";
  if (assembly.architecture.spec.stored.kind != StoredKind::none) {
    fs::copy_file(fs::path(assembly.directory) / name, directory / name);
    return;
  }
  Json config = read_json_file(assembly.directory + "/" + name);
  config["dtype"] = torch_name(plan.dtype);
  if (config.contains("torch_dtype")) config["torch_dtype"] = torch_name(plan.dtype);
  config["quantization_config"] = quantization_json(assembly.entry(), plan.formats);
  write_file_atomically((directory / name).string(), config.dump(2) + "\n");
}

void copy_files(const std::string& from, const fs::path& to) {
  for (const char* name : kCopied) {
    const fs::path file = fs::path(from) / name;
    if (!fs::is_regular_file(file)) continue;
    write_file_atomically((to / name).string(), read_file(file.string()));
  }
}

}  // namespace

Quantized quantize(const Assembly& assembly, const QuantizeRequest& request) {
  const plan::Plan plan = make_plan(assembly);
  const arch::Spec& spec = assembly.architecture.spec;
  if (plan.formats.quantization == Quantization::none && spec.stored.kind == StoredKind::none)
    throw Error(ErrorKind::config, "nothing-to-quantize", "the model entry asks for no quantization")
        .in(assembly.config.file)
        .at("quantization")
        .want("8bit or 4bit")
        .hint("add --set quantization=4bit");
  if (spec.stored.kind == StoredKind::none && !plan::bitsandbytes_converts(spec))
    throw Error(ErrorKind::unsupported, "not-portable",
                "transformers never gives the linears of this family to bitsandbytes: it could not read what "
                "would be written")
        .in(assembly.directory + "/config.json")
        .at("/model_type")
        .saw(spec.model_type)
        .hint("quantize while loading; --packed-cache keeps the result for the next start");
  if (!plan.formats.eight_bit.empty()) {
    const config::Origin& origin = assembly.entry().quantization_config.load_in_8bit_modules->origin;
    throw Error(ErrorKind::config, "not-portable",
                "a checkpoint of bitsandbytes has one format, and the entry asks for two")
        .in(origin.file, origin.line, origin.column)
        .at("quantization_config.load_in_8bit_modules")
        .want("4bit or 8bit alone, with llm_int8_skip_modules for what stays as it is")
        .hint("remove the key; `quantize --fit SIZE --portable` chooses without it");
  }
  fs::path target = fs::path(request.directory).lexically_normal();
  if (!target.has_filename()) target = target.parent_path();
  require_free(target);
  std::error_code code;
  if (target.has_parent_path()) fs::create_directories(target.parent_path(), code);
  remove_abandoned(target.string());
  AtomicDirectory directory(target.string());
  ThreadPool pool(assembly.threads);
  model::QuantizedWrite write;
  write.tensors = &assembly.tensors;
  write.checkpoint = &assembly.checkpoint;
  write.formats = &plan.formats;
  write.kernels = assembly.kernels;
  write.pool = &pool;
  write.storage = storage_of(assembly.entry());
  write.max_shard_bytes = request.max_shard_bytes;
  write.directory = directory.path();
  write.progress = request.progress;
  model::QuantizedResult result = model::write_quantized(write);
  copy_files(assembly.directory, directory.path());
  write_config(assembly, plan, directory.path());
  while (!directory.commit()) require_free(target);  // taken meanwhile: says so
  return {target.string(), result.bytes, std::move(result.formats)};
}

}  // namespace rhapsode::runtime
