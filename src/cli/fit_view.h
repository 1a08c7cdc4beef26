// A recipe of `quantize --fit` as people and programs read it.
#pragma once

#include <string>

#include "base/json.h"
#include "cli/terminal.h"
#include "runtime/fit.h"

namespace rhapsode::cli {

struct FitView {
  uint64_t budget_bytes = 0, tokens = 0;
  std::vector<std::pair<std::string, std::string>> keys;  // runtime::recipe_keys
};

OrderedJson fit_json(const runtime::Fit& fit, const FitView& view);
std::string fit_text(const runtime::Fit& fit, const FitView& view, const Style& style);

}  // namespace rhapsode::cli
