// A command line that cannot be parsed, explained: what stood there and the nearest option or command that
// exists.
#pragma once

#include <CLI/CLI.hpp>

#include "base/error.h"

namespace rhapsode::cli {

Error usage_error(const CLI::App& app, const CLI::ParseError& error);

}  // namespace rhapsode::cli
