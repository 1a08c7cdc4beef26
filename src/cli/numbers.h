// Numbers and token ids written as text on the command line or in a file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace rhapsode::cli {

// A whole decimal integer in [low, high]; anything else is a usage error that names the option.
uint64_t read_integer(const std::string& option, std::string_view text, uint64_t low, uint64_t high);

// Ids with whitespace or commas between; at least one. `what` names the option or file in errors.
std::vector<uint32_t> read_ids(const std::string& what, std::string_view text);

// A file's bytes as they are; "-" is stdin.
std::string read_input(const std::string& file);

}  // namespace rhapsode::cli
