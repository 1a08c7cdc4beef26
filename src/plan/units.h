// A model as the units that are placed: bytes of each, by the loader's own arithmetic.
#pragma once

#include "arch/spec.h"
#include "plan/footprint.h"
#include "plan/placement.h"

namespace rhapsode::plan {

struct UnitRequest {
  const arch::Spec* spec = nullptr;
  const arch::ModelTensors* tensors = nullptr;
  const Formats* formats = nullptr;
  StepLimits limits;
  uint64_t sequences = 1;
};

std::vector<Unit> model_units(const UnitRequest& request);

}  // namespace rhapsode::plan
