#include "plan/infer_map.h"

#include <algorithm>
#include <deque>
#include <set>

namespace rhapsode::plan {
namespace {

using config::DeviceName;

// A module, or a parameter of a module that was split.
struct Item {
  std::string name;
  const Module* module = nullptr;
  bool can_split() const { return module != nullptr && !module->no_split && !module->children.empty(); }
};

bool is_inside(const std::string& module, const std::string& parameter) {
  return (parameter + ".").find(module + ".") != std::string::npos;
}

class Inference {
 public:
  Inference(const ModuleTree& tree, const Budgets& budgets)
      : tree_(tree), sizes_(tree_sizes(tree)), budgets_(budgets) {
    for (const auto& [device, bytes] : budgets) devices_.push_back(device);
    const DeviceName disk{DeviceName::Kind::disk, 0};
    if (!budgets.contains(disk)) devices_.push_back(disk);
    main_.insert(DeviceName{DeviceName::Kind::cpu, 0});
    if (devices_.front().kind == DeviceName::Kind::gpu) main_.insert(devices_.front());
    push_parts(tree.root);
  }

  ModuleMap run() {
    find_largest();
    while (!queue_.empty()) {
      const Item item = queue_.front();
      queue_.pop_front();
      treat(item);
    }
    return cleaned_map(std::move(map_));
  }

 private:
  struct Ties {
    std::vector<size_t> owners;  // indices into queue_
    double bytes = 0;
    bool any = false;
  };

  // Puts the parts of a module at the front of the queue: own parameters, then children.
  void push_parts(const Module& module) {
    std::vector<Item> parts;
    const std::string prefix = module.name.empty() ? "" : module.name + ".";
    for (const OwnTensor& tensor : module.parameters) parts.push_back({prefix + tensor.name, nullptr});
    for (const Module& child : module.children) parts.push_back({child.name, &child});
    queue_.insert(queue_.begin(), parts.begin(), parts.end());
    if (module.name.empty())
      for (const OwnTensor& tensor : module.buffers) queue_.push_back({tensor.name, nullptr});
  }

  void add_largest(const Item& item) {
    if (item.can_split()) {
      for (const Module& child : item.module->children) add_largest({child.name, &child});
      return;
    }
    const double bytes = sizes_.of(item.name);
    if (bytes > largest_) {
      largest_ = bytes;
      largest_names_ = {item.name};
    } else if (bytes == largest_) {
      largest_names_.push_back(item.name);
    }
  }

  // The largest unit among what is still to be placed: a block, or a module without children.
  void find_largest() {
    largest_ = 0;
    largest_names_.clear();
    for (const Item& item : queue_)
      if (item.module != nullptr) add_largest(item);
  }

  void forget_largest(const std::string& name) {
    std::erase_if(largest_names_,
                  [&](const std::string& n) { return n == name || n.starts_with(name + "."); });
    if (largest_names_.empty()) find_largest();
  }

  // Owners, still in the queue, of parameters that are tied to one inside `item`.
  Ties ties_of(const Item& item) const {
    Ties ties;
    for (const std::vector<std::string>& group : tree_.tied) {
      const auto inside = [&](const std::string& p) { return is_inside(item.name, p); };
      if (std::none_of(group.begin(), group.end(), inside) || std::all_of(group.begin(), group.end(), inside))
        continue;
      for (const std::string& parameter : group) {
        if (inside(parameter)) continue;
        ties.any = true;
        const auto owner = std::find_if(queue_.begin(), queue_.end(), [&](const Item& candidate) {
          return parameter.starts_with(candidate.name + ".") || parameter == candidate.name;
        });
        if (owner == queue_.end()) continue;
        const size_t index = static_cast<size_t>(owner - queue_.begin());
        if (std::find(ties.owners.begin(), ties.owners.end(), index) != ties.owners.end()) continue;
        ties.owners.push_back(index);
        ties.bytes += sizes_.of(owner->name);
      }
    }
    return ties;
  }

  void treat(const Item& item) {
    forget_largest(item.name);
    const DeviceName device = devices_[current_];
    const bool unlimited = device.kind == DeviceName::Kind::disk;
    const double reserved = main_.contains(device) ? largest_ : 0;
    const double limit = unlimited ? 0 : budgets_.at(device) - reserved;
    const double bytes = sizes_.of(item.name);
    const Ties ties = ties_of(item);
    if (unlimited || used_ + bytes + ties.bytes <= limit) return place(item, ties, bytes);
    if (ties.any && used_ + bytes <= limit && split_owner(item, ties)) return;
    if (item.can_split()) {
      push_parts(*item.module);
      find_largest();
      return;
    }
    used_ = 0;  // of the next device; there is no way back to this one
    ++current_;
    queue_.push_front(item);
  }

  void place(const Item& item, Ties ties, double bytes) {
    const DeviceName device = devices_[current_];
    used_ += bytes + ties.bytes;
    map_[item.name] = device;
    std::sort(ties.owners.rbegin(), ties.owners.rend());
    for (const size_t owner : ties.owners) {
      map_[queue_[owner].name] = device;
      queue_.erase(queue_.begin() + static_cast<std::ptrdiff_t>(owner));
    }
  }

  // The item fits without the owners of its tied parameters: the first owner that can be split is.
  bool split_owner(const Item& item, const Ties& ties) {
    for (const size_t index : ties.owners) {
      const Item owner = queue_[index];
      if (!owner.can_split()) continue;
      std::deque<Item> before(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(index));
      queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(index) + 1);
      push_parts(*owner.module);
      queue_.insert(queue_.begin(), before.begin(), before.end());
      queue_.push_front(item);
      find_largest();
      return true;
    }
    return false;
  }

  const ModuleTree& tree_;
  TreeSizes sizes_;
  const Budgets& budgets_;
  std::vector<DeviceName> devices_;
  std::set<DeviceName> main_;  // devices that keep room for one more block
  std::deque<Item> queue_;
  ModuleMap map_;
  size_t current_ = 0;
  double used_ = 0;
  double largest_ = 0;
  std::vector<std::string> largest_names_;
};

void collapse(ModuleMap& map, const std::string& module) {
  const std::string prefix = module.empty() ? "" : module + ".";
  std::set<DeviceName> devices;
  std::vector<std::string> under;
  for (const auto& [name, device] : map)
    if (name.starts_with(prefix)) under.push_back(name), devices.insert(device);
  if (under.size() > 1 && devices.size() == 1) {
    for (const std::string& name : under) map.erase(name);
    map[module] = *devices.begin();
    return;
  }
  std::set<std::string> children;
  for (const std::string& name : under) {
    if (name.size() <= module.size()) continue;
    children.insert(name.substr(0, name.find('.', prefix.size())));
  }
  for (const std::string& child : children)
    if (child != module) collapse(map, child);
}

}  // namespace

ModuleMap infer_map(const ModuleTree& tree, const Budgets& budgets) {
  return Inference(tree, budgets).run();
}

ModuleMap cleaned_map(ModuleMap map) {
  collapse(map, "");
  return map;
}

const DeviceName* device_of(const ModuleMap& map, const std::string& name) {
  for (std::string prefix = name;;) {
    if (const auto found = map.find(prefix); found != map.end()) return &found->second;
    if (prefix.empty()) return nullptr;
    const size_t dot = prefix.rfind('.');
    prefix.resize(dot == std::string::npos ? 0 : dot);
  }
}

}  // namespace rhapsode::plan
