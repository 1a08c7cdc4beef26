#include "runtime/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "devices/file_faults.h"
#include "model/places.h"
#include "runtime/access_record.h"

namespace rhapsode::runtime {
namespace {

// Virtual devices are memory of this machine: together they must have room in it.
void require_real_memory(const Assembly& assembly, const plan::Plan& plan) {
  const uint64_t bytes = plan::total_bytes(plan);
  if (!plan.is_virtual || bytes <= assembly.inventory.available_bytes) return;
  throw Error(ErrorKind::does_not_fit, "machine-too-small",
              "the virtual devices need more memory than this machine has")
      .saw(fmt::format("{} bytes needed by all devices", bytes))
      .want(fmt::format("at most {} bytes", assembly.inventory.available_bytes))
      .hint("`plan` shows the placement without running it");
}

// Beside the plan, the largest shard must fit.
void require_shard_memory(const Assembly& assembly, const plan::Plan& plan) {
  uint64_t largest = 0;
  for (const InputFile& shard : assembly.checkpoint.shards()) largest = std::max(largest, shard.size_bytes());
  const uint64_t bytes = plan::total_bytes(plan) + largest;
  if (bytes <= assembly.inventory.available_bytes) return;
  throw Error(ErrorKind::does_not_fit, "shard-too-large",
              "reading whole shards needs more memory than this machine has")
      .at("low_cpu_mem_usage")
      .saw(fmt::format("{} bytes, of them {} for the largest shard", bytes, largest))
      .want(fmt::format("at most {} bytes", assembly.inventory.available_bytes))
      .hint("set low_cpu_mem_usage to true: tensors are then read one by one");
}

Error packed_cache_lost(const std::string& packed_cache) {
  return Error(ErrorKind::integrity, "file-truncated", "a packed cache was cut short while it was in use")
      .in(packed_cache)
      .want("files that nobody writes to")
      .hint("start again: the file is then made anew");
}

// Resident at most, once everything is in use: what is now, and what the plan adds.
uint64_t most_resident(const plan::Plan& plan) {
  uint64_t bytes = devices::resident_bytes() + plan.choice_bytes;
  for (const plan::DevicePlan& device : plan.devices)
    if (device.kind != "disk") bytes += device.total_bytes() - device.process_bytes;
  return bytes;
}

// Less than this lies in caches for the most part, and says little of memory.
constexpr uint64_t kTunedBytes = 128 << 20;

bool is_worth_tuning(const plan::Plan& plan, const model::Weights& weights) {
  uint64_t bytes = 0;
  for (const plan::DevicePlan& device : plan.devices) bytes += device.weights_bytes;
  const auto staged = [](const model::StagedUnit& unit) { return unit.bytes > 0; };
  return bytes >= kTunedBytes && std::none_of(weights.staged.begin(), weights.staged.end(), staged);
}

}  // namespace

Session::Session(const Assembly& assembly, const plan::Plan& plan, uint64_t sequences,
                 const model::LoadProgress& progress)
    : assembly_(&assembly), plan_(plan) {
  plan::require_fit(plan);
  require_real_memory(assembly, plan);
  const auto start = std::chrono::steady_clock::now();
  memory_ = std::make_unique<devices::MemoryWatch>(most_resident(plan));
  const arch::Spec& spec = assembly.architecture.spec;
  pool_ = std::make_unique<ThreadPool>(plan.limits.threads);
  for (const plan::DevicePlan& device : plan.devices)
    if (device.kind != "disk")
      devices_.push_back(std::make_unique<devices::Device>(
          device.name, device.limit_bytes - std::min(device.limit_bytes, device.process_bytes),
          *assembly.kernels));
  const model::Places places = model::places_of(plan.units, plan.placement, devices_);
  const config::ModelEntry& entry = assembly.entry();
  model::LoadOptions options;
  options.progress = progress;
  options.packed_cache = assembly.packed_cache;
  options.whole_shards = entry.low_cpu_mem_usage && !entry.low_cpu_mem_usage->value;
  if (options.whole_shards) require_shard_memory(assembly, plan);
  weights_ = model::load_weights(spec, assembly.tensors, assembly.checkpoint, plan.formats, places.weights,
                                 *pool_, options);
  const uint64_t blocks = sequences * plan::kv_blocks(plan.limits.context_tokens);
  cache_ = std::make_unique<model::KvCache>(spec, plan.formats.kv_dtype, blocks, places.exec.layers);
  decoder_ = std::make_unique<model::Decoder>(spec, weights_, places.exec, *pool_, *cache_, plan.limits);
  if (plan.head_screen_bytes > 0) decoder_->screen_head(*places.exec.head);
  decoder_->before_pass([watch = memory_.get()] { watch->check(); });
  decoder_->after_pass([&packed_cache = assembly.packed_cache] {
    if (devices::file_bytes_lost()) throw packed_cache_lost(packed_cache);
  });
  choose_access();
  load_ms_ = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

const char* Session::access_source_name(AccessSource source) {
  constexpr const char* kNames[] = {"usual", "recorded", "measuring", "measured"};
  return kNames[static_cast<size_t>(source)];
}

void Session::settle_access() {
  constexpr uint32_t kId = 0;
  while (access_source_ == AccessSource::measuring) {
    model::Sequence sequence;
    const model::Span span{&sequence, {&kId, 1}, 1, 0, false, {1, {}}};
    for (uint64_t i = 0; i < plan_.limits.context_tokens && access_source_ == AccessSource::measuring; ++i)
      decoder_->forward({&span, 1});
    cache_->release(sequence);
  }
}

void Session::choose_access() {
  const quant::Format format = weights_.layers.front().down.parts.front().format.format;
  access_knob_ = model::access_knob(format);
  if (assembly_->access_file.empty() || !is_worth_tuning(plan_, weights_)) return;
  const devices::Inventory& machine = assembly_->inventory;
  const bool streamed = access_knob_ == &kernels::Access::streamed;
  const AccessKey key{fmt::format("{} {:x}", machine.cpu_name, machine.cpu_signature),
                      std::string(assembly_->kernels->name), plan_.limits.threads,
                      streamed ? "streamed" : "unpacked"};
  if (const auto choice = recorded_access(assembly_->access_file, key)) {
    kernels::access.*access_knob_ = choice->bytes;
    access_source_ = AccessSource::recorded;
    return;
  }
  access_source_ = AccessSource::measuring;
  access_tuner_ = std::make_unique<model::AccessTuner>(
      access_knob_, [this, key](const model::AccessTuner::Choice& choice) {
        access_source_ = AccessSource::measured;
        try {
          record_access(assembly_->access_file, key, choice);
        } catch (const std::exception& error) {  // the choice holds for this process alone
          access_problem_ = error.what();
        }
      });
  decoder_->tune_access(access_tuner_.get());
}

}  // namespace rhapsode::runtime
