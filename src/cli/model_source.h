// A config's active model, opened: for `plan`, `run`, `chat` and `ppl`.
#pragma once

#include "cli/invocation.h"
#include "runtime/session.h"

namespace rhapsode::cli {

enum class TextNeed : uint8_t { none, where_present, required };

// What is fetched of a model that is not on this machine.
enum class Fetch : uint8_t { everything, headers };

// `command` names it in errors. required: a checkpoint without tokenizer files is not_found. A model of the
// hub that is not in the cache is fetched first; with Fetch::headers no more than its plan needs is, and
// nothing of it stays.
runtime::Assembly open_model(const Globals& globals, const std::string& command, TextNeed need,
                             Fetch fetch = Fetch::everything);

// Loads the weights, with progress.
runtime::Session load_model(const Globals& globals, const runtime::Assembly& assembly, const plan::Plan& plan,
                            uint64_t sequences);

uint64_t plan_bytes(const plan::Plan& plan);
OrderedJson memory_json(const runtime::Session& session);

}  // namespace rhapsode::cli
