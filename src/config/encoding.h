// Which bytes a YAML file may hold: UTF-8 without control characters. Refuses to know YAML's grammar.
#pragma once

#include <string_view>

#include "config/report.h"

namespace rhapsode::config {

// Strips a UTF-8 byte order mark; reports the first byte sequence that is not allowed and returns false.
bool check_encoding(std::string_view& text, int32_t set, Report& report);

}  // namespace rhapsode::config
