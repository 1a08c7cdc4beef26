// Entries of a skip list as transformers matches them (should_convert_module): a regular expression of Python
// from the start of the module's name up to a dot or the end, or a plain suffix. Knows names only.
#pragma once

#include <optional>
#include <string>

namespace rhapsode::config {

// What is wrong with an entry; nullopt where it can be matched. Lookarounds, references, flags and possessive
// repeats are not built.
std::optional<std::string> skip_entry_problem(const std::string& entry);

// Whether an entry names this module. An entry with a problem matches as a suffix only.
bool skip_matches(const std::string& entry, const std::string& module);

}  // namespace rhapsode::config
