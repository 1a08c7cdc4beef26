// Which value each generation key has: command line (--set) over YAML over the checkpoint's
// generation_config.json over the default table (the guide's, or generate()'s where `defaults:
// transformers`).
#pragma once

#include "config/config.h"
#include "generation/params.h"
#include "runtime/assembly.h"

namespace rhapsode::runtime {

// End-of-sequence ids: those of the YAML replace; else the union of generation_config, config, tokenizer and
// the template's turn end. Throws Error(config) for values of generation_config.json that are out of range.
generation::Params resolve_params(const Assembly& assembly);

}  // namespace rhapsode::runtime
