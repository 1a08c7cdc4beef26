// From a placement of the plan to devices: which one holds and which one computes each part of a model.
#pragma once

#include <memory>
#include <vector>

#include "model/decoder.h"
#include "plan/placement.h"

namespace rhapsode::model {

struct Places {
  WeightPlaces weights;
  ExecDevices exec;
};

// `devices` in the order of the plan's; those beyond are disk.
Places places_of(const std::vector<plan::Unit>& units, const plan::Placement& placement,
                 const std::vector<std::unique_ptr<devices::Device>>& devices);

}  // namespace rhapsode::model
