// The tokenizer and template that `tokenize` and `template` work with: of a config's active model or of a
// directory.
#pragma once

#include "cli/invocation.h"
#include "runtime/assembly.h"

namespace rhapsode::cli {

// Exactly one of -c and --tokenizer must be given. `command` names it in errors.
runtime::TextFiles open_text(const Globals& globals, const std::optional<std::string>& tokenizer_directory,
                             const std::string& command);

// Throws where this is no list of {role, content}; `place` is its JSON pointer within `name`.
void check_messages(const Json& messages, const std::string& name, const std::string& place);

// A JSON list of {role, content}, keys in their order; "-" is stdin.
OrderedJson read_messages(const std::string& file);

}  // namespace rhapsode::cli
