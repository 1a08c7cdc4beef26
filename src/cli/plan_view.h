// A plan as people and programs read it.
#pragma once

#include <string>

#include "base/json.h"
#include "cli/terminal.h"
#include "plan/plan.h"

namespace rhapsode::cli {

OrderedJson plan_json(const plan::Plan& plan);
std::string plan_text(const plan::Plan& plan, const Style& style, uint32_t columns);

// "model.layers.0-29": runs of numbered modules on one device become one entry; module ranges and device.
std::vector<std::pair<std::string, std::string>> compressed_map(
    const std::vector<std::pair<std::string, std::string>>& device_map);

}  // namespace rhapsode::cli
