#include "plan/memory_limits.h"

#include <fmt/format.h>

#include <algorithm>

namespace rhapsode::plan {
namespace {

using config::DeviceName;
using Kind = config::DeviceName::Kind;

class Limits {
 public:
  Limits(const config::ModelEntry& entry, const MachineMemory& memory, bool full)
      : entry_(entry), memory_(memory), full_(full) {
    if (memory.machine) gpus_ = memory.machine->gpu_bytes;
    out_.user_given = !entry.max_memory.empty() || (entry.max_gpu_memory && !gpus_.empty());
  }

  MemoryLimits build() {
    for (uint32_t i = 0; i < gpus_.size(); ++i) add_gpu({Kind::gpu, i}, gpus_[i]);
    add_cpu();
    add_disk();
    note_unused();
    return std::move(out_);
  }

 private:
  const uint64_t* listed(const DeviceName& device) const {
    for (const auto& [name, bytes] : entry_.max_memory)
      if (name == device) return &bytes.value;
    return nullptr;
  }

  void add(const DeviceName& name, uint64_t size_bytes, const uint64_t* user, DeviceLimit limit) {
    limit.name = name;
    limit.limit_bytes = full_ && user != nullptr ? std::min(size_bytes, *user) : size_bytes;
    out_.devices.push_back(limit);
    if (user != nullptr)
      out_.budgets[name] = static_cast<double>(*user);
    else if (!out_.user_given)
      out_.budgets[name] = static_cast<double>(size_bytes);
  }

  void add_gpu(const DeviceName& name, uint64_t size_bytes) {
    const uint64_t* user = listed(name);
    if (user == nullptr && entry_.max_gpu_memory) user = &entry_.max_gpu_memory->value;
    static constexpr uint64_t kNothing = 0;
    if (user == nullptr && !entry_.max_memory.empty()) {
      out_.notes.push_back({"device " + name.to_text(), fmt::format("{} bytes", size_bytes), "unused",
                            "max_memory lists devices, and this one is not among them"});
      out_.devices.push_back({name, full_ ? kNothing : size_bytes, 0, false});
      return;
    }
    add(name, size_bytes, user, {});
  }

  void add_cpu() {
    const DeviceName cpu{Kind::cpu, 0};
    DeviceLimit limit;
    limit.listed = listed(cpu) != nullptr;
    if (memory_.machine && memory_.machine->cpu_bytes)
      return add(cpu, *memory_.machine->cpu_bytes, listed(cpu), limit);
    limit.process_bytes = memory_.process_bytes + memory_.choice_bytes;
    add(cpu, memory_.available_bytes + memory_.process_bytes, listed(cpu), limit);
  }

  // Of transformers' planner disk is never limited; it is a device here only where something is said of it.
  void add_disk() {
    const DeviceName disk{Kind::disk, 0};
    const uint64_t* user = listed(disk);
    uint64_t bytes = memory_.machine ? memory_.machine->disk_bytes.value_or(kNoLimit) : kNoLimit;
    if (user != nullptr) {
      bytes = std::min(bytes, *user);
      out_.budgets[disk] = static_cast<double>(*user);
    }
    out_.devices.push_back({disk, bytes, 0, user != nullptr});
  }

  void note_unused() {
    const std::string why = gpus_.empty()
                                ? "this machine has no GPU; everything is on cpu"
                                : fmt::format("there are {} GPUs, 0 to {}", gpus_.size(), gpus_.size() - 1);
    const auto unused = [&](const std::string& what, uint64_t bytes) {
      out_.notes.push_back({what, fmt::format("{} bytes", bytes), "unused", why});
    };
    if (entry_.max_gpu_memory && gpus_.empty()) unused("max_gpu_memory", entry_.max_gpu_memory->value);
    for (const auto& [device, bytes] : entry_.max_memory)
      if (device.kind == Kind::gpu && device.index >= gpus_.size())
        unused("max_memory." + device.to_text(), bytes.value);
  }

  const config::ModelEntry& entry_;
  const MachineMemory& memory_;
  bool full_;
  std::vector<uint64_t> gpus_;
  MemoryLimits out_;
};

}  // namespace

MemoryLimits memory_limits(const config::ModelEntry& entry, const MachineMemory& memory, bool full) {
  return Limits(entry, memory, full).build();
}

}  // namespace rhapsode::plan
