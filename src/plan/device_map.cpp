#include "plan/device_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "plan/module_tree.h"

namespace rhapsode::plan {
namespace {

using config::DeviceName;
using Kind = config::DeviceName::Kind;
using Written = std::vector<std::pair<std::string, DeviceName>>;

class MapReader {
 public:
  MapReader(const config::ModelEntry& entry, const arch::Spec& spec, const arch::ModelTensors& tensors,
            const PlacementProblem& problem, std::vector<Downgrade>& notes)
      : entry_(entry), spec_(spec), tensors_(tensors), problem_(problem), notes_(notes) {}

  std::vector<size_t> one_device(const DeviceName& device) const {
    return std::vector<size_t>(problem_.units.size(), existing(device, ""));
  }

  std::vector<size_t> homes(const Written& written) {
    for (const auto& [module, device] : written) existing(device, module), map_[module] = device;
    list_parameters(module_tree(spec_, tensors_, {}).root);
    require_cover();
    note_unknown();
    std::vector<size_t> homes;
    for (const Unit& unit : problem_.units) homes.push_back(home_of(unit));
    return homes;
  }

 private:
  Error wrong(ErrorKind kind, const char* code, const std::string& message) const {
    Error error(kind, code, message);
    const config::Origin& origin = entry_.device_map->origin;
    return error.in(origin.file, origin.line, origin.column).at("device_map");
  }

  size_t existing(const DeviceName& device, const std::string& module) const {
    const size_t index = find_device(problem_, device);
    if (index != kNoDevice) return index;
    const auto gpus = static_cast<size_t>(
        std::count_if(problem_.devices.begin(), problem_.devices.end(),
                      [](const DeviceLimit& limit) { return limit.name.kind == Kind::gpu; }));
    throw wrong(ErrorKind::does_not_fit, "no-such-device",
                "device_map names a device that this machine lacks")
        .at(module.empty() ? "device_map" : "device_map." + module)
        .saw(device.to_text())
        .want(gpus == 0 ? "cpu, or a strategy: auto, balanced, balanced_low_0, sequential"
                        : fmt::format("a GPU from 0 to {}, cpu, or a strategy", gpus - 1))
        .hint(gpus == 0 ? "this machine has no GPU; --machine 2x8GB,cpu=20GB rehearses one that has"
                        : fmt::format("there are {} GPUs", gpus));
  }

  void list_parameters(const Module& module) {
    for (const OwnTensor& tensor : module.parameters) parameters_.push_back(module.name + "." + tensor.name);
    for (const Module& child : module.children) list_parameters(child);
  }

  void require_cover() const {
    std::vector<std::string> missing;
    for (const std::string& parameter : parameters_)
      if (device_of(map_, parameter) == nullptr) missing.push_back(parameter);
    if (missing.empty()) return;
    constexpr size_t kShown = 5;
    std::string list = fmt::format(
        "{}",
        fmt::join(missing.begin(),
                  missing.begin() + static_cast<std::ptrdiff_t>(std::min(missing.size(), kShown)), ", "));
    if (missing.size() > kShown) list += fmt::format(" and {} more", missing.size() - kShown);
    throw wrong(ErrorKind::config, "device-map-incomplete", "device_map gives some tensors no device")
        .saw(list)
        .want("a key that equals each tensor's name or is a dotted prefix of it")
        .hint("\"\": 0 covers whatever no other key does");
  }

  void note_unknown() {
    for (const auto& [module, device] : map_) {
      const auto under = [&module = module](const std::string& parameter) {
        return module.empty() || parameter == module || parameter.starts_with(module + ".");
      };
      if (std::any_of(parameters_.begin(), parameters_.end(), under) || module.ends_with("rotary_emb") ||
          module.ends_with("dropout"))
        continue;
      notes_.push_back({"device_map." + module, device.to_text(), "ignored", "the model has no such module"});
    }
  }

  size_t home_of(const Unit& unit) {
    std::set<DeviceName> devices;
    for (const std::string& parameter : parameters_)
      for (const std::string& module : unit.modules)
        if (parameter.starts_with(module + ".")) devices.insert(*device_of(map_, parameter));
    if (unit.kind == UnitKind::embed_and_head && devices.size() > 1) {
      const DeviceName first = *device_of(map_, unit.modules.front() + ".weight");
      notes_.push_back({"device_map." + unit.modules.back(), device_of(map_, "lm_head.weight")->to_text(),
                        first.to_text(), "tied weights are one tensor: they stay with the embedding"});
      return find_device(problem_, first);
    }
    if (devices.size() > 1)
      throw wrong(ErrorKind::unsupported, "block-split", "device_map shares one block between devices")
          .at("device_map." + unit.modules.front())
          .saw(fmt::format("{} and {}", devices.begin()->to_text(), devices.rbegin()->to_text()))
          .want("one device for the whole block")
          .hint("name whole blocks: " + unit.modules.front());
    return find_device(problem_, *devices.begin());
  }

  const config::ModelEntry& entry_;
  const arch::Spec& spec_;
  const arch::ModelTensors& tensors_;
  const PlacementProblem& problem_;
  std::vector<Downgrade>& notes_;
  ModuleMap map_;
  std::vector<std::string> parameters_;
};

}  // namespace

std::vector<size_t> mapped_homes(const config::ModelEntry& entry, const arch::Spec& spec,
                                 const arch::ModelTensors& tensors, const PlacementProblem& problem,
                                 std::vector<Downgrade>& notes) {
  MapReader reader(entry, spec, tensors, problem, notes);
  const config::DeviceMap& map = entry.device_map->value;
  if (const auto* device = std::get_if<DeviceName>(&map)) return reader.one_device(*device);
  return reader.homes(std::get<Written>(map));
}

}  // namespace rhapsode::plan
