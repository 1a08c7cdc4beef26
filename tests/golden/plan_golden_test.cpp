// Device maps of `accounting: weights` against transformers' own planner (tools/golden/make_plans.py): true
// and random shapes, budgets, strategies, quantizations.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <charconv>
#include <sstream>

#include "arch/linear_kind.h"
#include "arch/registry.h"
#include "base/json.h"
#include "models/golden_model.h"
#include "plan/balance.h"

namespace rhapsode::plan {
namespace {

using config::DeviceName;
using config::Strategy;

DeviceName device_named(const std::string& text) {
  if (text == "cpu") return {DeviceName::Kind::cpu, 0};
  if (text == "disk") return {DeviceName::Kind::disk, 0};
  return {DeviceName::Kind::gpu, static_cast<uint32_t>(std::stoul(text))};
}

Strategy strategy_named(const std::string& text) {
  if (text == "auto") return Strategy::automatic;
  if (text == "balanced") return Strategy::balanced;
  if (text == "balanced_low_0") return Strategy::balanced_low_0;
  return Strategy::sequential;
}

// "cpu model.norm model.layers.3-7;0 …": "*" is the whole model.
ModuleMap expanded(const std::string& text) {
  ModuleMap map;
  std::istringstream groups(text);
  for (std::string group; std::getline(groups, group, ';');) {
    std::istringstream words(group);
    std::string device, name;
    words >> device;
    while (words >> name) {
      const size_t dot = name.rfind('.'), dash = name.find('-', dot == std::string::npos ? 0 : dot);
      if (dash == std::string::npos) {
        map[name == "*" ? "" : name] = device_named(device);
        continue;
      }
      const std::string prefix = name.substr(0, dot + 1);
      const uint64_t last = std::stoul(name.substr(dash + 1));
      for (uint64_t i = std::stoul(name.substr(dot + 1, dash - dot - 1)); i <= last; ++i)
        map[prefix + std::to_string(i)] = device_named(device);
    }
  }
  return map;
}

std::string shown(const ModuleMap& map) {
  std::string text;
  for (const auto& [name, device] : map) text += fmt::format("{}->{} ", name, device.to_text());
  return text;
}

struct Counted {
  ModuleTree tree;
  bool reserving = false;
};

Counted counted(const Json& entry) {
  Json config = entry.at("config");
  if (!config.contains("hidden_act")) config["hidden_act"] = "silu";  // no size depends on it
  const arch::Architecture architecture = arch::parse_architecture(config.dump(), "plans.json");
  arch::ModelTensors tensors = architecture.family->tensors(architecture.spec, [&](const std::string& name) {
    return name.ends_with(".ln_attn.weight") &&
           architecture.spec.residual == arch::ResidualKind::parallel_two;
  });
  arch::apply_linear_kind(
      architecture.spec, [](const std::string&) { return uint64_t{0}; }, tensors);
  TreeOptions options;
  options.dtype = *dtype_from_torch_name(entry.at("dtype").get<std::string>());
  const int bits = entry.at("bits");
  options.bits = bits == 8 ? CountedBits::eight : bits == 4 ? CountedBits::four : CountedBits::dense;
  options.skip_modules = entry.at("skip").get<std::vector<std::string>>();
  return {module_tree(architecture.spec, tensors, options),
          has_reserving_quantizer(architecture.spec, options)};
}

TEST(PlanGolden, MapsEqualTransformers) {
  const Json entries = read_json_file(golden_directory("plans.json"));
  size_t compared = 0, different = 0;
  for (const Json& entry : entries) {
    const auto [tree, reserving] = counted(entry);
    const std::string label = fmt::format("{} {} {} bits", entry.at("config").dump(),
                                          entry.at("dtype").dump(), entry.at("bits").dump());
    EXPECT_EQ(tree_sizes(tree).of(""), entry.at("total").get<double>()) << label;
    for (const Json& golden : entry.at("cases")) {
      BudgetRequest request;
      request.strategy = strategy_named(golden.at(0));
      for (const auto& [device, bytes] : golden.at(1).items()) request.limits[device_named(device)] = bytes;
      request.user_given = !golden.at(2).get<bool>();
      request.quantized = reserving;
      const ModuleMap found = infer_map(tree, strategy_budgets(tree, request));
      const ModuleMap expected = expanded(golden.at(3));
      ++compared;
      if (found == expected) continue;
      if (++different <= 5) ADD_FAILURE() << label << "\n" << golden.dump() << "\nfound " << shown(found);
    }
  }
  EXPECT_EQ(different, 0u) << "of " << compared;
  EXPECT_GE(compared, 2000u);
}

}  // namespace
}  // namespace rhapsode::plan
