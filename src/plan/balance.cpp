#include "plan/balance.h"

#include <algorithm>
#include <cmath>

namespace rhapsode::plan {
namespace {

using config::DeviceName;
using config::Strategy;

constexpr double kCpuShare = 0.90;        // of free RAM, where the user named no limits
constexpr double kOneGpuShare = 0.9;      // likewise, of the only GPU
constexpr double kQuantizerShare = 0.90;  // of every device: quantizing needs buffers
constexpr double kBufferFactor = 1.25;    // of the largest unit: room for rounding to whole blocks

double largest_block(const Module& module, const TreeSizes& sizes) {
  double largest = module.no_split ? sizes.of(module.name) : 0;
  for (const Module& child : module.children) largest = std::max(largest, largest_block(child, sizes));
  return largest;
}

void balance(const ModuleTree& tree, const BudgetRequest& request, Budgets& budgets) {
  std::vector<DeviceName> gpus;
  for (const auto& [device, bytes] : budgets)
    if (device.kind == DeviceName::Kind::gpu && bytes > 0) gpus.push_back(device);
  if (gpus.empty()) return;
  const bool low_zero = request.strategy == Strategy::balanced_low_0 && gpus.size() > 1;
  if (gpus.size() == 1 && !request.user_given) {
    // Of the first GPU in the list, whether or not it is the one with memory.
    budgets.begin()->second *= kOneGpuShare;
  }
  const TreeSizes sizes = tree_sizes(tree);
  const double total = sizes.of("");
  double largest = largest_block(tree.root, sizes);
  for (const auto& [name, bytes] : sizes.owners) largest = std::max(largest, bytes);
  double share = std::floor(total / static_cast<double>(gpus.size() - (low_zero ? 1 : 0)));
  share += std::trunc(kBufferFactor * largest);
  // The last keeps all it has, in case the buffer is not enough.
  for (size_t i = 0; i + 1 < gpus.size(); ++i)
    if (!low_zero || gpus[i].index != 0) budgets[gpus[i]] = std::min(share, budgets[gpus[i]]);
  if (!low_zero) return;
  double others = 0;
  for (uint32_t index = 1; index < gpus.size(); ++index)
    if (const auto found = budgets.find({DeviceName::Kind::gpu, index}); found != budgets.end())
      others += found->second;
  if (const auto zero = budgets.find(DeviceName{}); zero != budgets.end())
    zero->second = std::min(std::max(0.0, total - others), zero->second);
}

}  // namespace

Budgets strategy_budgets(const ModuleTree& tree, const BudgetRequest& request) {
  Budgets budgets = request.limits;
  if (const auto cpu = budgets.find({DeviceName::Kind::cpu, 0}); cpu != budgets.end() && !request.user_given)
    cpu->second *= kCpuShare;
  if (request.strategy != Strategy::sequential) balance(tree, request, budgets);
  if (request.quantized)
    for (auto& [device, bytes] : budgets) bytes *= kQuantizerShare;
  return budgets;
}

}  // namespace rhapsode::plan
