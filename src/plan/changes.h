// What would make a model fit that does not: changes of the config, each proved by planning it.
#pragma once

#include <vector>

#include "plan/plan.h"

namespace rhapsode::plan {

// The plan without proposals.
Plan plan_as_asked(const PlanRequest& request);

// Least loss first: offloading costs time only, then a shorter context, then fewer bits; single changes, then
// pairs where no single one fits.
std::vector<Change> possible_changes(const PlanRequest& request, const Plan& plan);

}  // namespace rhapsode::plan
