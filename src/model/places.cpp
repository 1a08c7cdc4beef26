#include "model/places.h"

namespace rhapsode::model {

Places places_of(const std::vector<plan::Unit>& units, const plan::Placement& placement,
                 const std::vector<std::unique_ptr<devices::Device>>& devices) {
  Places out;
  const auto device = [&](size_t index) { return index < devices.size() ? devices[index].get() : nullptr; };
  for (size_t u = 0; u < units.size(); ++u) {
    const plan::Unit& unit = units[u];
    devices::Device* home = device(placement.home[u]);
    devices::Device* exec = device(placement.exec[u]);
    if (unit.kind == plan::UnitKind::embed || unit.kind == plan::UnitKind::embed_and_head)
      out.weights.embed = home;
    if (unit.kind == plan::UnitKind::norm) out.weights.norm = exec;
    if (unit.has_head()) {
      out.weights.head = home;
      out.weights.head_exec = out.exec.head = exec;
    }
    if (unit.kind != plan::UnitKind::layer) continue;
    out.weights.layers.push_back(home);
    out.weights.layer_exec.push_back(exec);
    out.exec.layers.push_back(exec);
  }
  out.weights.staging_bytes = placement.staging_bytes;
  if (placement.staging_bytes[0] > 0) out.weights.staging = device(placement.main);
  return out;
}

}  // namespace rhapsode::model
