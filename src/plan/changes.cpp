#include "plan/changes.h"

#include <fmt/format.h>

#include <algorithm>

namespace rhapsode::plan {
namespace {

using config::DeviceName;
using Kind = config::DeviceName::Kind;

// One change, as an edit of the entry and as the --set that makes it.
struct Edit {
  std::string what;
  std::vector<std::string> set;
  config::ModelEntry entry;
};

class Proposals {
 public:
  Proposals(const PlanRequest& request, const Plan& plan) : request_(request), plan_(plan) {}

  std::vector<Change> find() {
    offload(*request_.entry, {}, "");
    context(*request_.entry, plan_, {}, "");
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
    return std::move(changes_);
  }

 private:
  // By itself, then with a shorter context or offloaded layers where that does not fit.
  void quantize(const std::string& value, config::Quantization quantization) {
    Edit edit{value + " weights", {"quantization=" + value}, *request_.entry};
    edit.entry.quantization = config::Value<config::Quantization>{quantization, {}};
    if (propose(edit)) return;
    PlanRequest request = request_;
    request.entry = &edit.entry;
    context(edit.entry, plan_as_asked(request), edit.set, edit.what + ", ");
    offload(edit.entry, edit.set, edit.what + ", ");
  }

  // True where it fits.
  bool propose(const Edit& edit) {
    PlanRequest request = request_;
    request.entry = &edit.entry;
    const Plan plan = plan_as_asked(request);
    changes_.push_back({edit.what, edit.set, total_bytes(plan), plan.fits});
    return plan.fits;
  }

  // Lists every GPU with the limit it has now, and the cpu with all its memory.
  void offload(const config::ModelEntry& entry, const std::vector<std::string>& before,
               const std::string& what) {
    const bool strategy =
        !entry.device_map || std::holds_alternative<config::Strategy>(entry.device_map->value);
    const auto cpu_listed = std::any_of(entry.max_memory.begin(), entry.max_memory.end(),
                                        [](const auto& row) { return row.first.kind == Kind::cpu; });
    const bool has_gpu = plan_.devices.front().kind == "gpu";
    if (!strategy || cpu_listed || !has_gpu) return;
    Edit edit{what + "layers offloaded to the cpu", before, entry};
    edit.entry.max_memory.clear();
    std::string text;
    uint32_t index = 0;
    for (const DevicePlan& device : plan_.devices) {
      if (device.kind == "disk") continue;
      const bool gpu = device.kind == "gpu";
      const DeviceName name{gpu ? Kind::gpu : Kind::cpu, gpu ? index++ : 0};
      edit.entry.max_memory.push_back({name, {device.limit_bytes, {}}});
      text += fmt::format("{}{}: {}", text.empty() ? "" : ", ", name.to_text(), device.limit_bytes);
    }
    edit.set.push_back("max_memory={" + text + "}");
    propose(edit);
  }

  void context(const config::ModelEntry& entry, const Plan& plan, const std::vector<std::string>& before,
               const std::string& what) {
    if (plan.max_context == 0 || request_.context_tokens) return;
    Edit edit{what + "a shorter context", before, entry};
    edit.entry.max_context = config::Value<int64_t>{static_cast<int64_t>(plan.max_context), {}};
    edit.set.push_back(fmt::format("max_context={}", plan.max_context));
    propose(edit);
  }

  const PlanRequest& request_;
  const Plan& plan_;
  std::vector<Change> changes_;
};

}  // namespace

std::vector<Change> possible_changes(const PlanRequest& request, const Plan& plan) {
  return Proposals(request, plan).find();
}

}  // namespace rhapsode::plan
