// Everything known of a model before its weights are read: config, files, architecture, tokenizer, machine.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "arch/registry.h"
#include "checkpoint/checkpoint.h"
#include "config/config.h"
#include "config/machine.h"
#include "devices/inventory.h"
#include "hub/hub.h"
#include "plan/plan.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace rhapsode::runtime {

struct Settings {
  config::LoadRequest config;
  hub::HubSettings hub;
  // Where the entry's files are; empty: a directory or the cache, hub::resolve_model.
  std::function<std::string(const config::ModelEntry&)> find_model;
  uint32_t threads = 0;                    // 0 = all usable cores
  std::string isa;                         // empty = the best
  std::optional<config::Machine> machine;  // virtual devices, over the entry's `devices`
  // The directory of the entry's packed caches, or empty: none. Not set: none.
  std::function<std::string(const config::ModelEntry&)> packed_cache;
  std::string access_file;  // of runtime/access_record.h; empty: kernels keep their usual access
  bool tokenizer = true;    // false: ids in, ids out; tokenizer files are not touched
};

struct Assembly {
  config::Config config;
  std::string directory;
  arch::Architecture architecture;
  Checkpoint checkpoint;
  arch::ModelTensors tensors;
  config::CheckpointFacts facts;  // JSON files, null where the checkpoint has none
  std::unique_ptr<text::Tokenizer>
      tokenizer;  // null where not asked for, or where there are no tokenizer files
  std::optional<text::ChatTemplate> chat_template;
  // What reading the tokenizer would take, where it was left unread because the model does not fit even
  // without it; plans count it.
  uint64_t unread_text_bytes = 0;
  devices::Inventory inventory;
  std::optional<config::Machine> machine;  // that the command line names; else the entry's `devices` hold
  const kernels::Kernels* kernels = nullptr;
  uint32_t threads = 1;
  std::string packed_cache;  // directory of packed caches; empty: none
  std::string access_file;   // as in Settings

  const config::ModelEntry& entry() const { return config.active(); }
};

Assembly assemble(const Settings& settings);

// Throws what assemble would for a config.json that we cannot run.
void require_supported(const std::string& directory);

// What a directory's JSON files say; null for those that are not there.
config::CheckpointFacts checkpoint_facts(const std::string& directory);

// The tokenizer (and template) of a directory alone, for `tokenize` and `template`.
struct TextFiles {
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::optional<text::ChatTemplate> chat_template;
};
TextFiles load_text(const std::string& directory, const config::ModelEntry* entry);

// Resident bytes of the process once it answers, but for what a plan counts by itself: those of now, the
// tokenizer where it is unread, and pages of the program that a pass is the first to touch (0.8 to 1.1 MB
// were measured on a model of one layer).
uint64_t process_bytes_of(const Assembly& assembly);

// The plan of an assembly; context as in plan::PlanRequest. process_bytes: what the process counts for, as an
// earlier plan measured it; absent: measured now. choice_bytes: what choosing tokens will take beside it.
plan::Plan make_plan(const Assembly& assembly, std::optional<uint64_t> context_tokens = std::nullopt,
                     uint64_t sequences = 1, uint32_t logits_rows = 1,
                     std::optional<uint64_t> process_bytes = std::nullopt, uint64_t choice_bytes = 0);

}  // namespace rhapsode::runtime
