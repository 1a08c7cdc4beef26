#include "plan/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/checked.h"
#include "base/error.h"
#include "kernels/kernels.h"
#include "plan/balance.h"
#include "plan/changes.h"
#include "plan/device_map.h"
#include "plan/module_tree.h"
#include "plan/units.h"

namespace rhapsode::plan {
namespace {

using config::DeviceName;
using config::Strategy;
using Kind = config::DeviceName::Kind;

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

// bitsandbytes looks for the outlier columns of int8 in a whole prompt. hf-exact therefore takes it in one
// pass, whose workspace grows with the context.
bool passes_whole_prompt(const PlanRequest& request, const Formats& formats) {
  const bool int8 = formats.quantization == config::Quantization::int8 ||
                    request.architecture->spec.stored.kind == arch::StoredKind::int8;
  return int8 && formats.exact && !formats.int8_row_outliers && !std::isnan(formats.int8_threshold);
}

uint32_t pass_tokens(const PlanRequest& request, const Formats& formats, uint64_t context_tokens) {
  const uint64_t most = passes_whole_prompt(request, formats) ? context_tokens : uint64_t{kChunkTokens};
  return static_cast<uint32_t>(std::max<uint64_t>(std::min(context_tokens, most), request.logits_rows));
}

void choose_limits(const PlanRequest& request, Plan& plan) {
  const uint64_t trained = request.architecture->spec.max_position_embeddings;
  StepLimits& limits = plan.limits;
  if (request.context_tokens) {
    limits.context_tokens = *request.context_tokens;
    plan.context_source = "request";
  } else if (request.entry->max_context) {
    limits.context_tokens = static_cast<uint64_t>(request.entry->max_context->value);
    plan.context_source = "max_context";
  } else {
    limits.context_tokens = std::min(trained, kDefaultContext);
    plan.context_source = "default";
  }
  limits.chunk_tokens = pass_tokens(request, plan.formats, limits.context_tokens);
  limits.logits_rows = request.logits_rows;
  limits.threads = request.threads;
  limits.tiles = tile_shape(*request.kernels);
}

std::optional<config::Machine> machine_of(const PlanRequest& request) {
  if (request.machine || !request.entry->devices) return request.machine;
  std::string problem;
  const auto machine = config::parse_machine(request.entry->devices->value, problem);
  if (machine) return machine;
  throw Error(ErrorKind::config, "bad-machine", "these are no devices: " + problem)
      .at("devices")
      .want(config::kMachineForm);
}

// A screen that is asked for has its room before anything is placed; one that is not takes what is left over.
uint64_t asked_screen_bytes(const PlanRequest& request) {
  const auto& asked = request.entry->lm_head_screening;
  return asked && asked->value ? head_screen_bytes(request.tensors->lm_head) : 0;
}

// Places the units of one context length; all but that length is decided before.
class Layout {
 public:
  Layout(const PlanRequest& request, const Plan& plan) : request_(request), plan_(plan) {
    weights_only_ = request.entry->accounting && request.entry->accounting->value == "weights";
    MachineMemory memory{machine_of(request), request.inventory->available_bytes, request.process_bytes,
                         request.choice_bytes};
    is_virtual_ = memory.machine.has_value();
    limits_ = memory_limits(*request.entry, memory, !weights_only_);
    if (request.entry->device_map) {
      if (const auto* strategy = std::get_if<Strategy>(&request.entry->device_map->value))
        strategy_ = *strategy;
      else
        written_ = true;
    }
  }

  bool is_virtual() const { return is_virtual_; }
  const MemoryLimits& limits() const { return limits_; }
  std::string strategy_name() const {
    static constexpr const char* kNames[] = {"auto", "balanced", "balanced_low_0", "sequential"};
    return written_ ? "device_map" : kNames[static_cast<size_t>(strategy_)];
  }

  // `notes` may be null.
  Placement place_for(uint64_t context_tokens, std::vector<Unit>* units,
                      std::vector<Downgrade>* notes) const {
    PlacementProblem problem = problem_for(context_tokens);
    Placement placement = placed(problem, notes);
    if (units != nullptr) *units = std::move(problem.units);
    return placement;
  }

  // Each device with as many bytes as `needed`, or the smallest multiple of all their limits, found to do;
  // empty where none does, or where limits count weights alone.
  std::vector<uint64_t> workable_limits(uint64_t context_tokens) const {
    if (weights_only_) return {};
    const PlacementProblem problem = problem_for(context_tokens);
    const auto scaled = [&](uint64_t steps) {
      std::vector<uint64_t> bytes;
      for (const DeviceLimit& device : problem.devices) {
        const auto more = checked_mul(device.limit_bytes / kLimitStep + 1, steps);
        const bool limited = device.name.kind != Kind::disk && device.limit_bytes > 0;
        bytes.push_back(limited && more ? device.limit_bytes + *more : device.limit_bytes);
      }
      return bytes;
    };
    uint64_t low = 0, high = kMostLimitSteps;
    if (!limited_to(problem, scaled(high))) return {};
    while (low < high) {
      const uint64_t middle = low + (high - low) / 2;
      if (limited_to(problem, scaled(middle)))
        high = middle;
      else
        low = middle + 1;
    }
    std::vector<uint64_t> bytes;
    const Placement placement = *limited_to(problem, scaled(high));
    for (const DevicePlan& device : placement.devices) bytes.push_back(device.total_bytes());
    return limited_to(problem, bytes) ? bytes : scaled(high);
  }

 private:
  // Each buffer inside a unit starts at a multiple of kAlignBytes.
  static constexpr uint64_t kStagingSlack = 64 * kAlignBytes;
  static constexpr uint64_t kLimitStep = 256;                     // part of a limit
  static constexpr uint64_t kMostLimitSteps = 1024 * kLimitStep;  // a thousand times what there is

  PlacementProblem problem_for(uint64_t context_tokens) const {
    StepLimits steps = plan_.limits;
    steps.context_tokens = context_tokens;
    steps.chunk_tokens = pass_tokens(request_, plan_.formats, context_tokens);
    PlacementProblem problem;
    problem.units = model_units(
        {&request_.architecture->spec, request_.tensors, &plan_.formats, steps, request_.sequences});
    problem.devices = limits_.devices;
    problem.head_workspace_bytes =
        workspace_bytes(request_.architecture->spec, steps) + asked_screen_bytes(request_);
    steps.logits_rows = 0;
    problem.step_workspace_bytes = workspace_bytes(request_.architecture->spec, steps);
    problem.staging_slack_bytes = kStagingSlack;
    return problem;
  }

  // The placement under other limits, where it fits.
  std::optional<Placement> limited_to(PlacementProblem problem, const std::vector<uint64_t>& bytes) const {
    for (size_t d = 0; d < bytes.size(); ++d) problem.devices[d].limit_bytes = bytes[d];
    Placement placement = placed(problem, nullptr);
    return placement.fits() ? std::optional(std::move(placement)) : std::nullopt;
  }

  Placement placed(const PlacementProblem& problem, std::vector<Downgrade>* notes) const {
    std::vector<Downgrade> ignored;
    if (written_)
      return settle(problem, mapped_homes(*request_.entry, request_.architecture->spec, *request_.tensors,
                                          problem, notes != nullptr ? *notes : ignored));
    if (weights_only_) return placed_by_weights(problem);
    return place(problem, strategy_);
  }

  // As transformers would, whose maps know neither KV cache nor workspace; the bytes are then counted in
  // full.
  Placement placed_by_weights(const PlacementProblem& problem) const {
    const config::ModelEntry& entry = *request_.entry;
    TreeOptions options;
    options.dtype = plan_.dtype;
    const auto quantization = entry.quantization ? entry.quantization->value : config::Quantization::none;
    const arch::StoredQuantization& stored = request_.architecture->spec.stored;
    const bool grouped = stored.kind == arch::StoredKind::gptq || stored.kind == arch::StoredKind::awq;
    if (stored.kind != arch::StoredKind::none && !grouped)
      options.bits = stored.kind == arch::StoredKind::int8 ? CountedBits::eight : CountedBits::four;
    else if (quantization != config::Quantization::none)
      options.bits = quantization == config::Quantization::int8 ? CountedBits::eight : CountedBits::four;
    if (stored.kind != arch::StoredKind::none)
      options.skip_modules = stored.skip;
    else if (entry.quantization_config.llm_int8_skip_modules)
      options.skip_modules = entry.quantization_config.llm_int8_skip_modules->value;
    const ModuleTree tree = module_tree(request_.architecture->spec, *request_.tensors, options);
    const BudgetRequest budgets{strategy_, limits_.budgets, limits_.user_given,
                                has_reserving_quantizer(request_.architecture->spec, options)};
    const ModuleMap map = infer_map(tree, strategy_budgets(tree, budgets));
    std::vector<size_t> home;
    for (const Unit& unit : problem.units)
      home.push_back(find_device(problem, *device_of(map, unit.modules.front())));
    Placement placement = settle(problem, home);
    for (const size_t device : home) {
      const DeviceLimit& limit = problem.devices[device];
      const bool computes = limit.name.kind == Kind::gpu ||
                            (limit.name.kind == Kind::cpu && problem.devices[0].name.kind != Kind::gpu);
      if (!computes && !limit.listed) placement.spills_unlisted = true;
    }
    return placement;
  }

  const PlanRequest& request_;
  const Plan& plan_;
  MemoryLimits limits_;
  Strategy strategy_ = Strategy::automatic;
  bool weights_only_ = false, written_ = false, is_virtual_ = false;
};

uint64_t longest_context(const PlanRequest& request, const Layout& layout) {
  uint64_t low = 0, high = request.architecture->spec.max_position_embeddings;
  while (low < high) {
    const uint64_t middle = low + (high - low + 1) / 2;
    if (layout.place_for(middle, nullptr, nullptr).fits())
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

// The bytes that no device has room for: beyond the limits, and what would spill where nobody allowed it.
uint64_t short_of(const Plan& plan, const MemoryLimits& limits) {
  uint64_t bytes = plan.placement.bytes_short;
  if (!plan.placement.spills_unlisted) return bytes;
  for (size_t u = 0; u < plan.units.size(); ++u) {
    const DeviceLimit& device = limits.devices[plan.placement.home[u]];
    if (device.name.kind != Kind::gpu && !device.listed) bytes += plan.units[u].held_bytes();
  }
  return bytes;
}

bool is_quantized_while_loading(const Formats& formats, const arch::LinearSource& source) {
  return std::ranges::any_of(source.parts, [&](const arch::LinearPart& part) {
    const WeightFormat format = formats.of(part, source.cols);
    const bool as_stored = quant::is_dense(format.format) && format.dequantized == nullptr;
    return part.stored.kind == arch::StoredKind::none && format.format != quant::Format::ternary &&
           !as_stored;
  });
}

// Units that are quantized again each time, since they are read from the checkpoint.
void note_quantized_anew(const PlanRequest& request, const MemoryLimits& limits, Plan& plan) {
  if (request.keeps_packed) return;
  const auto is_quantized = [&](const Unit& unit) {
    if (unit.has_head()) return is_quantized_while_loading(plan.formats, request.tensors->lm_head);
    const arch::LayerTensors& layer = request.tensors->layers[unit.layer];
    return std::ranges::any_of(
        std::array{&layer.qkv, &layer.o, &layer.up, &layer.down},
        [&](const arch::LinearSource* source) { return is_quantized_while_loading(plan.formats, *source); });
  };
  for (size_t u = 0; u < plan.units.size(); ++u)
    plan.quantized_anew += limits.devices[plan.placement.home[u]].name.kind == Kind::disk &&
                           plan.units[u].computes() && is_quantized(plan.units[u]);
  if (plan.quantized_anew > 0)
    plan.downgrades.push_back({"quantization", "once", "anew at each pass",
                               fmt::format("{} of {} units lie on disk; packed_cache: \"on\" (or "
                                           "--packed-cache on) keeps them as they are computed with",
                                           plan.quantized_anew, plan.units.size())});
}

void note_offload(const PlanRequest& request, const MemoryLimits& limits, Plan& plan) {
  uint64_t offloaded = 0, bytes = 0;
  for (size_t u = 0; u < plan.units.size(); ++u)
    if (plan.units[u].computes() && plan.placement.exec[u] != plan.placement.home[u])
      ++offloaded, bytes += plan.units[u].held_bytes();
  if (offloaded > 0)
    plan.downgrades.push_back(
        {"placement", "in device memory", "offloaded",
         fmt::format("{} of {} units ({} bytes) lie on cpu or disk and are brought to device {} at each pass",
                     offloaded, plan.units.size(), bytes, plan.devices[plan.placement.main].name)});
  if (offloaded > 1 && plan.placement.staging_bytes[1] == 0)
    plan.downgrades.push_back({"prefetch", "the next unit is brought while one is computed",
                               "one after the other",
                               fmt::format("device {} has no room for a second staging buffer",
                                           plan.devices[plan.placement.main].name)});
  const bool idle_gpus =
      plan.devices.front().kind == "gpu" && plan.devices[plan.placement.main].kind != "gpu";
  if (idle_gpus && !request.entry->device_map)
    plan.downgrades.push_back(
        {"placement", "auto", "cpu", "no GPU has room to compute a block: the cpu does it all"});
  for (const Downgrade& note : limits.notes) plan.downgrades.push_back(note);
  for (const std::string& note : request.architecture->spec.notes)
    plan.downgrades.push_back({"checkpoint", "config.json", "noted", note});
}

void map_modules(Plan& plan) {
  for (size_t u = 0; u < plan.units.size(); ++u) {
    const std::string& device = plan.devices[plan.placement.home[u]].name;
    plan.device_map.emplace_back(plan.units[u].modules.front(), device);
  }
  for (size_t u = 0; u < plan.units.size(); ++u)
    if (plan.units[u].modules.size() > 1)
      plan.device_map.emplace_back(plan.units[u].modules.back(), plan.devices[plan.placement.home[u]].name);
}

// Matrices that 4-bit cannot hold in 4 bits.
void note_dequantized(const PlanRequest& request, Plan& plan) {
  uint64_t count = 0;
  std::string first;
  Dtype compute = plan.formats.compute;
  const auto look = [&](const arch::LinearSource& source) {
    for (const arch::LinearPart& part : source.parts) {
      const WeightFormat format = plan.formats.of(part, source.cols);
      if (format.dequantized == nullptr) continue;
      if (count++ == 0) first = fmt::format("{} ({} columns)", part.module, source.cols);
      compute = format.compute;
    }
  };
  for (const arch::LayerTensors& layer : request.tensors->layers)
    for (const arch::LinearSource* source : {&layer.qkv, &layer.o, &layer.up, &layer.down}) look(*source);
  if (count > 0)
    plan.downgrades.push_back(
        {fmt::format("{} matrices, first {}", count, first), "4-bit codes",
         fmt::format("{} values", torch_name(compute)),
         "their blocks are no runs of 64 columns of one row; they hold the dequantized values"});
}

// Why the head cannot be screened; empty where it can.
std::string unscreenable(const PlanRequest& request, const Plan& plan) {
  const arch::Spec& spec = request.architecture->spec;
  const arch::LinearSource& head = request.tensors->lm_head;
  if (!quant::is_dense(plan.formats.of(head.parts.front(), head.cols).format))
    return "the LM head is quantized";
  if (!head.parts.front().bias.empty()) return "the LM head has a bias";
  if (spec.final_softcap != 0.0f) return "final_logit_softcapping bends the scores";
  for (size_t u = 0; u < plan.units.size(); ++u)
    if (plan.units[u].has_head() && plan.placement.exec[u] != plan.placement.home[u])
      return "the LM head is offloaded";
  return {};
}

// The head as a part of what a token reads.
double head_share(const PlanRequest& request, const Plan& plan) {
  const auto head = static_cast<double>(head_bytes(plan.formats, *request.tensors));
  double all = head;
  for (const arch::LayerTensors& layer : request.tensors->layers)
    all += static_cast<double>(layer_bytes(plan.formats, layer));
  return head / all;
}

// A screen that nobody asked for changes no placement: it takes room that is left on the head's device.
void add_head_screen(const PlanRequest& request, Plan& plan) {
  const auto& asked = request.entry->lm_head_screening;
  const std::string problem = unscreenable(request, plan);
  if (asked && asked->value && !problem.empty())
    throw Error(ErrorKind::unsupported, "no-screening", "lm_head_screening cannot be used: " + problem)
        .in(asked->origin.file, asked->origin.line, asked->origin.column)
        .at("lm_head_screening")
        .saw("true")
        .want("false, or no such key");
  plan.head_screen_bytes = asked_screen_bytes(request);
  if (asked || !problem.empty() || !plan.fits || head_share(request, plan) < kLeastHeadShare) return;
  const uint64_t bytes = head_screen_bytes(request.tensors->lm_head);
  for (size_t u = 0; u < plan.units.size(); ++u) {
    if (!plan.units[u].has_head()) continue;
    DevicePlan& device = plan.devices[plan.placement.exec[u]];
    if (device.total_bytes() + bytes > device.limit_bytes) continue;
    device.workspace_bytes += bytes;
    plan.head_screen_bytes = bytes;
  }
}

// Disk is shown where something lies on it or it is listed.
void drop_unused_disk(const MemoryLimits& limits, Plan& plan) {
  if (plan.devices.back().kind == "disk" && plan.devices.back().total_bytes() == 0 &&
      !limits.devices.back().listed)
    plan.devices.pop_back();
}

}  // namespace

Plan plan_as_asked(const PlanRequest& request) {
  Plan plan;
  choose_dtype(request, plan);
  plan.formats =
      Formats::choose(*request.entry, plan.dtype, *request.tensors, request.architecture->spec.stored);
  choose_limits(request, plan);
  plan.choice_bytes = request.choice_bytes;
  plan.isa = request.kernels->name;
  plan.attention = "fused";
  const Layout layout(request, plan);
  plan.strategy = layout.strategy_name();
  plan.is_virtual = layout.is_virtual();
  plan.placement = layout.place_for(plan.limits.context_tokens, &plan.units, &plan.downgrades);
  plan.devices = plan.placement.devices;
  plan.fits = plan.placement.fits();
  plan.bytes_short = plan.fits ? 0 : short_of(plan, layout.limits());
  add_head_screen(request, plan);
  map_modules(plan);
  note_offload(request, layout.limits(), plan);
  note_quantized_anew(request, layout.limits(), plan);
  note_dequantized(request, plan);
  plan.max_context = longest_context(request, layout);
  const arch::StoredKind stored = request.architecture->spec.stored.kind;
  if (stored == arch::StoredKind::gptq || stored == arch::StoredKind::awq)
    plan.downgrades.push_back({"the linears", stored == arch::StoredKind::gptq ? "gptq codes" : "awq codes",
                               fmt::format("{} values", torch_name(plan.dtype)),
                               "groups of codes are unpacked while loading to the values that they mean"});
  drop_unused_disk(layout.limits(), plan);
  return plan;
}

Plan make_plan(const PlanRequest& request) {
  Plan plan = plan_as_asked(request);
  if (plan.fits) return plan;
  plan.changes = possible_changes(request, plan);
  const std::vector<uint64_t> bytes = Layout(request, plan).workable_limits(plan.limits.context_tokens);
  for (size_t d = 0; d < plan.devices.size() && d < bytes.size(); ++d)
    if (plan.devices[d].kind != "disk" && bytes[d] > 0)
      plan.workable_limits.emplace_back(plan.devices[d].name, bytes[d]);
  return plan;
}

uint64_t total_bytes(const Plan& plan) {
  uint64_t bytes = 0;
  for (const DevicePlan& device : plan.devices)
    if (device.kind != "disk") bytes += device.total_bytes();
  return bytes;
}

void require_fit(const Plan& plan) {
  if (plan.fits) return;
  std::string help =
      "no smaller setting is enough: raise max_memory or max_gpu_memory where they are the limit, "
      "or choose a smaller model";
  for (const Change& change : plan.changes)
    if (change.fits) {
      help = fmt::format("{}: --set '{}' ({} bytes); rhapsode plan names every change that fits", change.what,
                         fmt::join(change.set, "' --set '"), change.total_bytes);
      break;
    }
  std::string needed, limits;
  for (const DevicePlan& device : plan.devices) {
    if (device.total_bytes() <= device.limit_bytes && plan.devices.size() > 1) continue;
    const std::string separator = needed.empty() ? "" : "; ";
    needed +=
        separator +
        fmt::format(
            "{} bytes needed on {}: weights {}, their scales {}, KV cache {} for {} tokens, workspace {}, "
            "process {}",
            device.total_bytes(), device.name, device.weights_bytes, device.quant_metadata_bytes,
            device.kv_bytes, plan.limits.context_tokens, device.workspace_bytes, device.process_bytes);
    limits += separator + fmt::format("at most {} bytes on {}", device.limit_bytes, device.name);
  }
  if (plan.placement.spills_unlisted) {
    needed += std::string(needed.empty() ? "" : "; ") + "weights that fit on no GPU";
    limits += std::string(limits.empty() ? "" : "; ") + "a `cpu` entry in max_memory where they may go";
  }
  for (size_t d = 0; d < plan.workable_limits.size(); ++d)
    limits += fmt::format("{}{} bytes on {}", d == 0 ? "; it fits with " : ", ",
                          plan.workable_limits[d].second, plan.workable_limits[d].first);
  if (plan.max_context > 0) limits += fmt::format("; {} tokens of context would fit", plan.max_context);
  throw Error(ErrorKind::does_not_fit, "does-not-fit",
              fmt::format("the model does not fit: {} bytes short", plan.bytes_short))
      .saw(needed)
      .want(limits)
      .hint(help);
}

}  // namespace rhapsode::plan
