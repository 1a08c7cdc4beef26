// How much each device may take under a strategy, as transformers 5.23 derives it (get_balanced_memory and
// the quantizers' adjust_max_memory). A pure function of a module tree and limits.
#pragma once

#include "plan/infer_map.h"

namespace rhapsode::plan {

struct BudgetRequest {
  config::Strategy strategy = config::Strategy::automatic;
  Budgets limits;           // per device: the user's max_memory, or what the machine has free
  bool user_given = false;  // limits are the user's max_memory
  bool quantized = false;
};

Budgets strategy_budgets(const ModuleTree& tree, const BudgetRequest& request);

}  // namespace rhapsode::plan
