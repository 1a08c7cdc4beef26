#include "plan/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "kernels/kernels.h"

namespace rhapsode::plan {
namespace {

void refuse_unsupported(const config::ModelEntry& entry) {
  if (!entry.quantization || entry.quantization->value == config::Quantization::none) return;
  const config::Origin& origin = entry.quantization->origin;
  throw Error(ErrorKind::unsupported, "quantization-unavailable", "this build loads models unquantized only")
      .in(origin.file, origin.line, origin.column)
      .at("quantization")
      .want("null")
      .hint("set quantization: null, or choose a smaller model");
}

void choose_dtype(const PlanRequest& request, Plan& plan) {
  if (request.entry->dtype) {
    plan.dtype = request.entry->dtype->value;
    plan.dtype_source = "yaml";
  } else if (request.architecture->spec.dtype) {
    plan.dtype = *request.architecture->spec.dtype;
    plan.dtype_source = "config";
  } else {
    plan.dtype = request.checkpoint->find(request.tensors->embed_tensor)->dtype;
    plan.dtype_source = "checkpoint";
    if (plan.dtype == Dtype::f64) plan.dtype = Dtype::f32;
  }
}

void choose_context(const PlanRequest& request, Plan& plan) {
  const uint64_t trained = request.architecture->spec.max_position_embeddings;
  if (request.context_tokens) {
    plan.limits.context_tokens = *request.context_tokens;
    plan.context_source = "request";
  } else if (request.entry->max_context) {
    plan.limits.context_tokens = static_cast<uint64_t>(request.entry->max_context->value);
    plan.context_source = "max_context";
  } else {
    plan.limits.context_tokens = std::min(trained, kDefaultContext);
    plan.context_source = "default";
  }
}

void note_downgrades(const PlanRequest& request, Plan& plan) {
  const config::ModelEntry& entry = *request.entry;
  const auto unused = [&](const std::string& what, const std::string& from) {
    plan.downgrades.push_back({what, from, "unused", "this machine has no GPU; everything is on cpu"});
  };
  if (entry.max_gpu_memory) unused("max_gpu_memory", fmt::format("{} bytes", entry.max_gpu_memory->value));
  for (const auto& [device, bytes] : entry.max_memory)
    if (device.kind == config::DeviceName::Kind::gpu)
      unused("max_memory." + device.to_text(), fmt::format("{} bytes", bytes.value));
  for (const std::string& note : request.architecture->spec.notes)
    plan.downgrades.push_back({"checkpoint", "config.json", "noted", note});
}

// A map that names a GPU cannot be honoured here; "cpu" and the strategies can.
void check_device_map(const config::ModelEntry& entry) {
  if (!entry.device_map) return;
  const auto refuse = [&](const config::DeviceName& device, const std::string& module) {
    throw Error(ErrorKind::does_not_fit, "no-such-device",
                "device_map names a device that this machine lacks")
        .in(entry.device_map->origin.file, entry.device_map->origin.line, entry.device_map->origin.column)
        .at(module.empty() ? "device_map" : "device_map." + module)
        .saw(device.to_text())
        .want("cpu, or a strategy: auto, balanced, balanced_low_0, sequential")
        .hint("this machine has no GPU");
  };
  const config::DeviceMap& map = entry.device_map->value;
  if (const auto* device = std::get_if<config::DeviceName>(&map)) {
    if (device->kind != config::DeviceName::Kind::cpu) refuse(*device, "");
  } else if (const auto* modules =
                 std::get_if<std::vector<std::pair<std::string, config::DeviceName>>>(&map)) {
    for (const auto& [module, device] : *modules)
      if (device.kind != config::DeviceName::Kind::cpu) refuse(device, module);
  }
}

uint64_t cpu_limit(const PlanRequest& request) {
  uint64_t limit = request.inventory->available_bytes + request.process_bytes;
  for (const auto& [device, bytes] : request.entry->max_memory)
    if (device.kind == config::DeviceName::Kind::cpu) limit = std::min(limit, bytes.value);
  return limit;
}

void map_modules(const PlanRequest& request, Plan& plan) {
  const arch::ModelTensors& tensors = *request.tensors;
  plan.device_map.emplace_back(tensors.embed_module, "cpu");
  for (const arch::LayerTensors& layer : tensors.layers) plan.device_map.emplace_back(layer.module, "cpu");
  plan.device_map.emplace_back(tensors.norm_module, "cpu");
  plan.device_map.emplace_back(tensors.lm_head.parts.front().module, "cpu");
}

DevicePlan account(const PlanRequest& request, Dtype dtype, const StepLimits& limits) {
  const arch::Spec& spec = request.architecture->spec;
  DevicePlan cpu;
  cpu.name = cpu.kind = "cpu";
  cpu.limit_bytes = cpu_limit(request);
  cpu.weights_bytes = weight_bytes(quant::dense_format(dtype), spec, *request.tensors);
  cpu.kv_bytes = request.sequences * kv_bytes(spec, dtype, limits.context_tokens);
  cpu.workspace_bytes = workspace_bytes(spec, limits);
  cpu.process_bytes = request.process_bytes;
  return cpu;
}

bool context_fits(const PlanRequest& request, Dtype dtype, StepLimits limits, uint64_t context) {
  limits.context_tokens = context;
  const DevicePlan cpu = account(request, dtype, limits);
  return cpu.total_bytes() <= cpu.limit_bytes;
}

uint64_t longest_context(const PlanRequest& request, Dtype dtype, const StepLimits& limits) {
  uint64_t low = 0, high = request.architecture->spec.max_position_embeddings;
  while (low < high) {
    const uint64_t middle = low + (high - low + 1) / 2;
    if (context_fits(request, dtype, limits, middle))
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

// Changes of the config that would fit, each planned with the same arithmetic; least loss first.
void suggest_changes(const PlanRequest& request, Plan& plan) {
  const auto propose = [&](std::string what, std::vector<std::string> set, Dtype dtype, uint64_t context) {
    StepLimits limits = plan.limits;
    limits.context_tokens = context;
    const DevicePlan cpu = account(request, dtype, limits);
    plan.changes.push_back(
        {std::move(what), std::move(set), cpu.total_bytes(), cpu.total_bytes() <= cpu.limit_bytes});
  };
  if (plan.max_context > 0 && !request.context_tokens)
    propose("a shorter context", {fmt::format("max_context={}", plan.max_context)}, plan.dtype,
            plan.max_context);
  if (plan.dtype == Dtype::f32)
    propose("16-bit weights", {"torch_dtype=bfloat16"}, Dtype::bf16, plan.limits.context_tokens);
}

}  // namespace

Plan make_plan(const PlanRequest& request) {
  refuse_unsupported(*request.entry);
  check_device_map(*request.entry);
  Plan plan;
  choose_dtype(request, plan);
  choose_context(request, plan);
  plan.limits.chunk_tokens = static_cast<uint32_t>(
      std::clamp<uint64_t>(plan.limits.context_tokens, request.logits_rows, kChunkTokens));
  plan.limits.logits_rows = request.logits_rows;
  plan.limits.threads = request.threads;
  plan.limits.gemm_tokens = request.kernels->gemm_tokens;
  plan.isa = request.kernels->name;
  plan.attention = "fused";
  note_downgrades(request, plan);
  map_modules(request, plan);
  const DevicePlan cpu = account(request, plan.dtype, plan.limits);
  plan.devices = {cpu};
  plan.fits = cpu.total_bytes() <= cpu.limit_bytes;
  plan.bytes_short = plan.fits ? 0 : cpu.total_bytes() - cpu.limit_bytes;
  plan.max_context = longest_context(request, plan.dtype, plan.limits);
  if (!plan.fits) suggest_changes(request, plan);
  return plan;
}

void require_fit(const Plan& plan) {
  if (plan.fits) return;
  const DevicePlan& cpu = plan.devices.front();
  std::string help = "nothing smaller fits on this machine: choose a smaller model";
  for (const Change& change : plan.changes)
    if (change.fits) {
      help = fmt::format("{}: --set {} ({} bytes)", change.what, fmt::join(change.set, " --set "),
                         change.total_bytes);
      break;
    }
  throw Error(ErrorKind::does_not_fit, "does-not-fit",
              fmt::format("the model does not fit: {} bytes short", plan.bytes_short))
      .saw(fmt::format("{} bytes needed: weights {}, KV cache {} for {} tokens, workspace {}, process {}",
                       cpu.total_bytes(), cpu.weights_bytes, cpu.kv_bytes, plan.limits.context_tokens,
                       cpu.workspace_bytes, cpu.process_bytes))
      .want(fmt::format("at most {} bytes on {}", cpu.limit_bytes, cpu.name))
      .hint(help);
}

}  // namespace rhapsode::plan
