#include "runtime/assembly.h"

#include <filesystem>

#include "base/thread_pool.h"

namespace rhapsode::runtime {
namespace {

Json optional_json(const std::string& directory, const char* name) {
  const std::string file = directory + "/" + name;
  if (!std::filesystem::exists(file)) return nullptr;
  return read_json_file(file);
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

void require_supported(const std::string& directory) {
  arch::read_architecture(directory);
}

Assembly assemble(const Settings& settings) {
  config::Config config = config::load(settings.config);
  const config::ModelEntry& entry = config.active();
  const std::string directory =
      settings.find_model
          ? settings.find_model(entry)
          : hub::resolve_model(entry.model_id.value,
                               entry.revision ? entry.revision->value : std::string("main"), settings.hub);
  arch::Architecture architecture = arch::read_architecture(directory);
  Checkpoint checkpoint = Checkpoint::open(directory);
  arch::ModelTensors tensors = arch::bind_tensors(architecture, checkpoint);
  config::CheckpointFacts facts{optional_json(directory, "generation_config.json"),
                                optional_json(directory, "config.json"),
                                optional_json(directory, "tokenizer_config.json")};
  TextFiles text;
  if (settings.tokenizer && std::filesystem::exists(directory + "/tokenizer.json"))
    text = load_text(directory, &entry);
  return {std::move(config),
          directory,
          std::move(architecture),
          std::move(checkpoint),
          std::move(tensors),
          std::move(facts),
          std::move(text.tokenizer),
          std::move(text.chat_template),
          devices::read_inventory(),
          settings.machine,
          &kernels::select_kernels(settings.isa),
          settings.threads > 0 ? settings.threads : usable_cores(),
          settings.packed_cache};
}

plan::Plan make_plan(const Assembly& assembly, std::optional<uint64_t> context_tokens, uint64_t sequences,
                     uint32_t logits_rows, std::optional<uint64_t> process_bytes) {
  plan::PlanRequest request;
  request.entry = &assembly.entry();
  request.architecture = &assembly.architecture;
  request.tensors = &assembly.tensors;
  request.checkpoint = &assembly.checkpoint;
  request.inventory = &assembly.inventory;
  request.machine = assembly.machine;
  request.kernels = assembly.kernels;
  request.threads = assembly.threads;
  request.process_bytes = process_bytes.value_or(devices::resident_bytes());
  request.context_tokens = context_tokens;
  request.sequences = sequences;
  request.logits_rows = logits_rows;
  return plan::make_plan(request);
}

}  // namespace rhapsode::runtime
