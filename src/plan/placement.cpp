#include "plan/placement.h"

#include <algorithm>

#include "base/checked.h"
#include "plan/footprint.h"

namespace rhapsode::plan {
namespace {

using config::DeviceName;
using config::Strategy;
using Kind = config::DeviceName::Kind;

const char* kind_text(Kind kind) {
  return kind == Kind::gpu ? "gpu" : kind == Kind::cpu ? "cpu" : "disk";
}

// Whether weights that lie here are worked with in place, rather than brought to `main` first.
bool computes_in_place(const PlacementProblem& problem, size_t device, size_t main) {
  const Kind kind = problem.devices[device].name.kind;
  return kind == Kind::gpu || (kind == Kind::cpu && device == main);
}

size_t main_device(const PlacementProblem& problem, const std::vector<size_t>& home) {
  size_t main = find_device(problem, {Kind::cpu, 0});
  for (const size_t device : home)
    if (problem.devices[device].name.kind == Kind::gpu) main = std::min(main, device);
  return main;
}

void choose_exec(const PlacementProblem& problem, Placement& placement) {
  placement.exec.resize(problem.units.size());
  size_t first = placement.main, head = placement.main;
  for (size_t u = problem.units.size(); u-- > 0;) {
    const size_t home = placement.home[u];
    placement.exec[u] = computes_in_place(problem, home, placement.main) ? home : placement.main;
    if (problem.units[u].kind == UnitKind::layer) first = placement.exec[u];
    if (problem.units[u].has_head()) head = placement.exec[u];
  }
  for (size_t u = 0; u < problem.units.size(); ++u) {
    if (problem.units[u].kind == UnitKind::norm) placement.exec[u] = head;
    if (problem.units[u].kind == UnitKind::embed) placement.exec[u] = first;
  }
}

// Buffers for what is staged, taken in turn in the order of execution: blocks, then the head.
template <class IsStaged>
std::array<uint64_t, 2> staging_of(const PlacementProblem& problem, size_t buffers,
                                   const IsStaged& is_staged) {
  std::array<uint64_t, 2> bytes{};
  size_t count = 0;
  const auto take = [&](size_t u) {
    uint64_t& buffer = bytes[count++ % buffers];
    buffer =
        std::max(buffer, round_up(problem.units[u].held_bytes() + problem.staging_slack_bytes, kAlignBytes));
  };
  for (const bool heads : {false, true})
    for (size_t u = 0; u < problem.units.size(); ++u)
      if (problem.units[u].computes() && problem.units[u].has_head() == heads && is_staged(u)) take(u);
  return bytes;
}

void add_staging(const PlacementProblem& problem, size_t buffers, Placement& placement) {
  placement.staging_bytes =
      staging_of(problem, buffers, [&](size_t u) { return placement.exec[u] != placement.home[u]; });
  DevicePlan& main = placement.devices[placement.main];
  main.staging_bytes = placement.staging_bytes[0] + placement.staging_bytes[1];
  main.workspace_bytes += main.staging_bytes;
}

void add_units(const PlacementProblem& problem, Placement& placement) {
  std::vector<bool> steps(problem.devices.size()), heads(problem.devices.size());
  for (size_t u = 0; u < problem.units.size(); ++u) {
    const Unit& unit = problem.units[u];
    // The final norm is a vector: it is kept where it is used.
    const size_t home = unit.kind == UnitKind::norm ? placement.exec[u] : placement.home[u];
    placement.devices[home].weights_bytes += unit.weights_bytes;
    placement.devices[home].quant_metadata_bytes += unit.quant_metadata_bytes;
    placement.devices[placement.exec[u]].kv_bytes += unit.kv_bytes;
    if (unit.computes()) steps[placement.exec[u]] = true;
    if (unit.has_head()) heads[placement.exec[u]] = true;
  }
  for (size_t d = 0; d < problem.devices.size(); ++d)
    if (steps[d])
      placement.devices[d].workspace_bytes +=
          heads[d] ? problem.head_workspace_bytes : problem.step_workspace_bytes;
}

// What a device holds besides the units of a range.
struct Extra {
  uint64_t bytes = 0;
  bool steps = false, head = false;
};

// Fills devices with consecutive units, one strategy at a time.
class Placer {
 public:
  explicit Placer(const PlacementProblem& problem) : problem_(problem) {
    for (const DeviceLimit& device : problem.devices) {
      if (device.name.kind == Kind::gpu) gpus_.push_back(gpus_.size());
      room_.push_back(device.limit_bytes - std::min(device.limit_bytes, device.process_bytes));
    }
    cpu_ = find_device(problem, {Kind::cpu, 0});
    disk_ = find_device(problem, {Kind::disk, 0});
  }

  Placement place(Strategy strategy) const {
    const size_t units = problem_.units.size();
    std::optional<std::vector<size_t>> home;
    size_t buffers = 2;
    const auto offload = [&](const std::vector<size_t>& devices) {
      for (buffers = 2; !home && buffers > 0; --buffers) home = offloaded(devices, buffers);
      ++buffers;
    };
    if (!gpus_.empty()) {
      home = strategy == Strategy::sequential       ? filled(gpus_, room_, 0, units, Extra())
             : strategy == Strategy::balanced_low_0 ? low_zero()
                                                    : balanced(gpus_, 0);
      if (!home) offload(gpus_);
    }
    if (!home && (gpus_.empty() || problem_.devices[cpu_].listed)) {
      home = filled({cpu_}, room_, 0, units, Extra());
      if (!home) offload({cpu_});
    }
    return account(problem_, home ? *home : overfull(), buffers);
  }

 private:
  uint64_t load(size_t begin, size_t end, Extra extra) const {
    uint64_t bytes = extra.bytes;
    for (size_t u = begin; u < end; ++u) {
      const Unit& unit = problem_.units[u];
      bytes += unit.held_bytes() + unit.kv_bytes;
      extra.steps = extra.steps || unit.computes();
      extra.head = extra.head || unit.has_head();
    }
    if (extra.head) return bytes + problem_.head_workspace_bytes;
    return extra.steps ? bytes + problem_.step_workspace_bytes : bytes;
  }

  // Homes of the units [first, end), the earlier ones left at the first device; nullopt where they have no
  // room.
  std::optional<std::vector<size_t>> filled(const std::vector<size_t>& devices,
                                            const std::vector<uint64_t>& room, size_t first, size_t end,
                                            const Extra& extra_on_first) const {
    std::vector<size_t> home(problem_.units.size(), devices.front());
    size_t begin = first;
    for (const size_t device : devices) {
      const Extra extra = device == devices.front() ? extra_on_first : Extra{};
      size_t stop = begin;
      while (stop < end && load(begin, stop + 1, extra) <= room[device]) home[stop++] = device;
      begin = stop;
    }
    if (begin < end || load(0, 0, extra_on_first) > room[devices.front()]) return std::nullopt;
    return home;
  }

  // The smallest largest load.
  std::optional<std::vector<size_t>> balanced(const std::vector<size_t>& devices, size_t first) const {
    const size_t units = problem_.units.size();
    if (devices.empty()) return std::nullopt;
    const auto capped = [&](uint64_t most) {
      std::vector<uint64_t> room = room_;
      for (uint64_t& bytes : room) bytes = std::min(bytes, most);
      return filled(devices, room, first, units, Extra());
    };
    uint64_t high = 0;
    for (const size_t device : devices) high = std::max(high, room_[device]);
    if (!capped(high)) return std::nullopt;
    for (uint64_t low = 0; low < high;) {
      const uint64_t middle = low + (high - low) / 2;
      if (capped(middle))
        high = middle;
      else
        low = middle + 1;
    }
    return capped(high);
  }

  // As little as possible on GPU 0, the rest balanced.
  std::optional<std::vector<size_t>> low_zero() const {
    if (gpus_.size() == 1) return balanced(gpus_, 0);
    const std::vector<size_t> others(gpus_.begin() + 1, gpus_.end());
    for (size_t first = 0; first <= problem_.units.size(); ++first) {
      if (load(0, first, {}) > room_[gpus_.front()]) return std::nullopt;
      auto home = balanced(others, first);
      if (!home) continue;
      for (size_t u = 0; u < first; ++u) (*home)[u] = gpus_.front();
      return home;
    }
    return std::nullopt;
  }

  // The first units stay on `devices`, as many as possible; the others lie on the listed devices behind them
  // and are brought to the first device when it is their turn.
  std::optional<std::vector<size_t>> offloaded(const std::vector<size_t>& devices, size_t buffers) const {
    std::vector<size_t> behind;
    for (const size_t device : {cpu_, disk_})
      if (device != kNoDevice && device != devices.front() && problem_.devices[device].listed)
        behind.push_back(device);
    if (behind.empty()) return std::nullopt;
    const size_t units = problem_.units.size();
    for (size_t kept = units; kept-- > (devices.front() == cpu_ ? 0u : 1u);) {
      auto home = filled(devices, room_, 0, kept, needed_for(kept, buffers));
      // The device that computes what is offloaded is the first that holds something.
      const bool first_is_used = kept == 0 || (home && home->front() == devices.front());
      if (home && first_is_used && spill(behind, kept, *home)) return home;
    }
    return std::nullopt;
  }

  // On the device that computes them: staging, keys and values, and the workspace of what is offloaded.
  Extra needed_for(size_t kept, size_t buffers) const {
    Extra extra;
    for (size_t u = kept; u < problem_.units.size(); ++u) {
      const Unit& unit = problem_.units[u];
      extra.bytes += unit.kv_bytes;
      if (unit.kind == UnitKind::norm) extra.bytes += unit.held_bytes();
      if (!unit.computes()) continue;
      extra.steps = true;
      extra.head = extra.head || unit.has_head();
    }
    const auto staging = staging_of(problem_, buffers, [&](size_t u) { return u >= kept; });
    extra.bytes += staging[0] + staging[1];
    return extra;
  }

  bool spill(const std::vector<size_t>& behind, size_t first, std::vector<size_t>& home) const {
    size_t u = first;
    for (const size_t device : behind) {
      uint64_t room = room_[device];
      while (u < home.size() && problem_.units[u].held_bytes() <= room) {
        room -= problem_.units[u].held_bytes();
        home[u++] = device;
      }
    }
    return u == home.size();
  }

  // Everything on the devices that compute, the last one overfull.
  std::vector<size_t> overfull() const {
    const std::vector<size_t> devices = gpus_.empty() ? std::vector<size_t>{cpu_} : gpus_;
    std::vector<size_t> home(problem_.units.size(), devices.back());
    size_t begin = 0;
    for (const size_t device : devices) {
      size_t stop = begin;
      while (stop < home.size() && load(begin, stop + 1, {}) <= room_[device]) home[stop++] = device;
      begin = stop;
    }
    return home;
  }

  const PlacementProblem& problem_;
  std::vector<size_t> gpus_;
  std::vector<uint64_t> room_;
  size_t cpu_ = kNoDevice, disk_ = kNoDevice;
};

}  // namespace

size_t find_device(const PlacementProblem& problem, const DeviceName& name) {
  for (size_t d = 0; d < problem.devices.size(); ++d)
    if (problem.devices[d].name == name) return d;
  return kNoDevice;
}

Placement account(const PlacementProblem& problem, const std::vector<size_t>& home, size_t buffers) {
  Placement placement;
  placement.home = home;
  placement.main = main_device(problem, home);
  for (const DeviceLimit& device : problem.devices) {
    DevicePlan plan;
    plan.name = device.name.to_text();
    plan.kind = kind_text(device.name.kind);
    plan.limit_bytes = device.limit_bytes;
    plan.process_bytes = device.process_bytes;
    placement.devices.push_back(std::move(plan));
  }
  choose_exec(problem, placement);
  add_units(problem, placement);
  add_staging(problem, buffers, placement);
  for (const DevicePlan& device : placement.devices)
    placement.bytes_short += device.total_bytes() - std::min(device.total_bytes(), device.limit_bytes);
  return placement;
}

Placement settle(const PlacementProblem& problem, const std::vector<size_t>& home) {
  Placement two = account(problem, home, 2);
  return two.fits() || two.staging_bytes[1] == 0 ? two : account(problem, home, 1);
}

Placement place(const PlacementProblem& problem, Strategy strategy) {
  return Placer(problem).place(strategy);
}

}  // namespace rhapsode::plan
