#include "plan/changes.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/error.h"

namespace rhapsode::plan {
namespace {

using config::DeviceName;
using Kind = config::DeviceName::Kind;

// Left free by every change: a process is never twice of the same size.
constexpr uint64_t kSpareBytes = 1 << 20;

// One change, as an edit of the entry and as the --set that makes it.
struct Edit {
  std::string what;
  std::vector<std::string> set;
  config::ModelEntry entry;
};

class Proposals {
 public:
  Proposals(const PlanRequest& request, const Plan& plan) : request_(request), plan_(plan) {
    request_.process_bytes += kSpareBytes;
  }

  std::vector<Change> find() {
    offload(*request_.entry, {}, "");
    context(*request_.entry, plan_as_asked(request_), {}, "");
    if (plan_.formats.kv_dtype != Dtype::i8) {
      Edit small{"an 8-bit KV cache", {"kv_cache_dtype=int8"}, *request_.entry};
      small.entry.kv_cache_dtype = config::Value<std::string>{"int8", {}};
      propose(small);
    }
    if (plan_.dtype == Dtype::f32) {
      Edit half{"16-bit weights", {"torch_dtype=bfloat16"}, *request_.entry};
      half.entry.dtype = config::Value<Dtype>{Dtype::bf16, {}};
      propose(half);
    }
    const auto now =
        request_.entry->quantization ? request_.entry->quantization->value : config::Quantization::none;
    if (now == config::Quantization::none) quantize("8bit", config::Quantization::int8);
    if (now == config::Quantization::none || now == config::Quantization::int8)
      quantize("4bit", config::Quantization::nf4);
    offload_to_disk();
    return std::move(changes_);
  }

 private:
  // By itself, then with a shorter context or offloaded layers where that does not fit.
  void quantize(const std::string& value, config::Quantization quantization) {
    Edit edit{value + " weights", {"quantization=" + value}, *request_.entry};
    edit.entry.quantization = config::Value<config::Quantization>{quantization, {}};
    const std::optional<Plan> plan = propose(edit);
    if (!plan || plan->fits) return;
    context(edit.entry, *plan, edit.set, edit.what + ", ");
    offload(edit.entry, edit.set, edit.what + ", ");
  }

  // The plan with the edit; none where the model does not allow it (weights that are quantized already).
  std::optional<Plan> propose(const Edit& edit) {
    PlanRequest request = request_;
    request.entry = &edit.entry;
    try {
      Plan plan = plan_as_asked(request);
      changes_.push_back({edit.what, edit.set, total_bytes(plan), plan.fits});
      return plan;
    } catch (const Error& error) {
      if (error.kind != ErrorKind::unsupported && error.kind != ErrorKind::config) throw;
      return std::nullopt;
    }
  }

  // Lists every GPU with the limit it has now, and the cpu with all its memory. Where limits count weights
  // alone a device's limit is its size: then it is what the user gave that is listed again.
  void offload(const config::ModelEntry& entry, const std::vector<std::string>& before,
               const std::string& what) {
    const bool has_gpu = plan_.devices.front().kind == "gpu";
    if (can_list(entry) && has_gpu && !lists(entry, Kind::cpu))
      propose(listing({what + "layers offloaded to the cpu", before, entry}, false));
  }

  // The same and the disk, where everything has room: no loss but of speed, so it comes last.
  void offload_to_disk() {
    const config::ModelEntry& entry = *request_.entry;
    if (!can_list(entry) || lists(entry, Kind::disk)) return;
    propose(listing({"layers left on disk", {}, entry}, true));
  }

  static bool can_list(const config::ModelEntry& entry) {
    return !entry.device_map || std::holds_alternative<config::Strategy>(entry.device_map->value);
  }
  static bool lists(const config::ModelEntry& entry, Kind kind) {
    return std::any_of(entry.max_memory.begin(), entry.max_memory.end(),
                       [&](const auto& row) { return row.first.kind == kind; });
  }

  Edit listing(Edit edit, bool with_disk) const {
    edit.entry.max_memory.clear();
    std::string text;
    const auto list = [&](const DeviceName& name, uint64_t bytes) {
      if (bytes == 0) return;  // unused now, unused then
      edit.entry.max_memory.push_back({name, {bytes, {}}});
      text += fmt::format("{}{}: {}", text.empty() ? "" : ", ", name.to_text(), bytes);
    };
    uint32_t index = 0;
    for (const DevicePlan& device : plan_.devices) {
      if (device.kind == "disk") continue;
      const DeviceName name =
          device.kind == "gpu" ? DeviceName{Kind::gpu, index++} : DeviceName{Kind::cpu, 0};
      list(name, request_.entry->accounting && request_.entry->accounting->value == "weights"
                     ? weights_limit(name, device.limit_bytes)
                     : device.limit_bytes);
    }
    uint64_t all = 0;
    for (const Unit& unit : plan_.units) all += unit.held_bytes();
    if (with_disk) list({Kind::disk, 0}, all);
    edit.set.push_back("max_memory={" + text + "}");
    return edit;
  }

  // 0: the user leaves the device unused.
  uint64_t weights_limit(const DeviceName& name, uint64_t size_bytes) const {
    const config::ModelEntry& entry = *request_.entry;
    for (const auto& [listed, bytes] : entry.max_memory)
      if (listed == name) return bytes.value;
    if (name.kind != Kind::gpu) return size_bytes;
    if (entry.max_gpu_memory) return entry.max_gpu_memory->value;
    return entry.max_memory.empty() ? size_bytes : 0;
  }

  void context(const config::ModelEntry& entry, const Plan& plan, const std::vector<std::string>& before,
               const std::string& what) {
    if (plan.max_context == 0 || request_.context_tokens) return;
    Edit edit{what + "a shorter context", before, entry};
    edit.entry.max_context = config::Value<int64_t>{static_cast<int64_t>(plan.max_context), {}};
    edit.set.push_back(fmt::format("max_context={}", plan.max_context));
    propose(edit);
  }

  PlanRequest request_;
  const Plan& plan_;
  std::vector<Change> changes_;
};

}  // namespace

std::vector<Change> possible_changes(const PlanRequest& request, const Plan& plan) {
  return Proposals(request, plan).find();
}

}  // namespace rhapsode::plan
