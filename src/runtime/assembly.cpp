#include "runtime/assembly.h"

#include <algorithm>
#include <filesystem>

#include "base/thread_pool.h"
#include "config/locate.h"

namespace rhapsode::runtime {
namespace {

Json optional_json(const std::string& directory, const char* name) {
  const std::string file = directory + "/" + name;
  if (!std::filesystem::exists(file)) return nullptr;
  Json json = read_json_file(file);
  if (!json.is_object())
    throw Error(ErrorKind::integrity, "json-no-object", "the file holds no object")
        .in(file)
        .saw(json.type_name())
        .want("an object of settings");
  return json;
}

// What reading a tokenizer takes at its peak, in bytes for a byte of its file: 16 to 24 were measured on
// those of SmolLM2, Llama 3, Mistral, Qwen 3, Gemma 2 and Gemma 3.
constexpr uint64_t kTextPeak = 24;

// The largest part of a small process. It is not read where even a single token would not fit without it: the
// refusal is known then, and reading it could be what the kernel kills us for.
void read_text(Assembly& assembly) {
  const std::string file = assembly.directory + "/tokenizer.json";
  if (!std::filesystem::exists(file)) return;
  const uint64_t peak = kTextPeak * std::filesystem::file_size(file);
  if (assembly.inventory.available_bytes < peak || !make_plan(assembly, 1).fits) {
    assembly.unread_text_bytes = peak;
    return;
  }
  TextFiles text = load_text(assembly.directory, &assembly.entry());
  assembly.tokenizer = std::move(text.tokenizer);
  assembly.chat_template = std::move(text.chat_template);
  assembly.inventory = devices::read_inventory();
}

}  // namespace

TextFiles load_text(const std::string& directory, const config::ModelEntry* entry) {
  TextFiles files;
  files.tokenizer = std::make_unique<text::Tokenizer>(text::Tokenizer::load(directory));
  if (entry != nullptr && entry->chat_template)
    files.chat_template = text::ChatTemplate::from_source(
        entry->chat_template->value, entry->chat_template->origin.file, *files.tokenizer);
  else
    files.chat_template = text::ChatTemplate::load(directory, *files.tokenizer);
  return files;
}

namespace {

std::string model_directory(const Settings& settings, const config::ModelEntry& entry) {
  try {
    if (settings.find_model) return settings.find_model(entry);
    return hub::resolve_model(entry.model_id.value, entry.revision ? entry.revision->value : "main",
                              settings.hub);
  } catch (Error& error) {
    config::locate(error, entry);
    throw;
  }
}

}  // namespace

void require_supported(const std::string& directory) {
  arch::read_architecture(directory);
}

config::CheckpointFacts checkpoint_facts(const std::string& directory) {
  return {optional_json(directory, "generation_config.json"), optional_json(directory, "config.json"),
          optional_json(directory, "tokenizer_config.json")};
}

Assembly assemble(const Settings& settings) {
  config::Config config = config::load(settings.config);
  const config::ModelEntry& entry = config.active();
  const std::string directory = model_directory(settings, entry);
  arch::Architecture architecture = arch::read_architecture(directory);
  Checkpoint checkpoint = Checkpoint::open(directory);
  arch::ModelTensors tensors = arch::bind_tensors(architecture, checkpoint);
  config::CheckpointFacts facts = checkpoint_facts(directory);
  const std::string packed_cache = settings.packed_cache ? settings.packed_cache(entry) : std::string();
  Assembly assembly{std::move(config),
                    directory,
                    std::move(architecture),
                    std::move(checkpoint),
                    std::move(tensors),
                    std::move(facts),
                    nullptr,
                    std::nullopt,
                    0,
                    devices::read_inventory(),
                    settings.machine,
                    &kernels::select_kernels(settings.isa),
                    settings.threads > 0 ? settings.threads : usable_cores(),
                    packed_cache,
                    settings.access_file};
  if (settings.tokenizer) read_text(assembly);
  return assembly;
}

uint64_t process_bytes_of(const Assembly& assembly) {
  constexpr uint64_t kUntouchedProgramBytes = 256 << 10;
  return devices::resident_bytes() + assembly.unread_text_bytes + kUntouchedProgramBytes;
}

plan::Plan make_plan(const Assembly& assembly, std::optional<uint64_t> context_tokens, uint64_t sequences,
                     uint32_t logits_rows, std::optional<uint64_t> process_bytes, uint64_t choice_bytes) {
  // What is still to be read is taken from what is free.
  devices::Inventory inventory = assembly.inventory;
  inventory.available_bytes -= std::min(inventory.available_bytes, assembly.unread_text_bytes);
  plan::PlanRequest request;
  request.entry = &assembly.entry();
  request.architecture = &assembly.architecture;
  request.tensors = &assembly.tensors;
  request.checkpoint = &assembly.checkpoint;
  request.inventory = &inventory;
  request.machine = assembly.machine;
  request.kernels = assembly.kernels;
  request.threads = assembly.threads;
  request.process_bytes = process_bytes.value_or(process_bytes_of(assembly));
  request.choice_bytes = choice_bytes;
  request.context_tokens = context_tokens;
  request.sequences = sequences;
  request.logits_rows = logits_rows;
  request.keeps_packed = !assembly.packed_cache.empty();
  return plan::make_plan(request);
}

}  // namespace rhapsode::runtime
