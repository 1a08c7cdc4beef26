#include "runtime/session.h"

#include <chrono>

namespace rhapsode::runtime {

Session::Session(const Assembly& assembly, const plan::Plan& plan, uint64_t sequences,
                 const model::LoadProgress& progress)
    : assembly_(&assembly), plan_(plan) {
  plan::require_fit(plan);
  const auto start = std::chrono::steady_clock::now();
  const plan::DevicePlan& cpu = plan.devices.front();
  const arch::Spec& spec = assembly.architecture.spec;
  pool_ = std::make_unique<ThreadPool>(plan.limits.threads);
  device_ =
      std::make_unique<devices::Device>(cpu.name, cpu.limit_bytes - cpu.process_bytes, *assembly.kernels);
  weights_ = model::load_weights(spec, assembly.tensors, assembly.checkpoint, plan.dtype, *device_, *pool_,
                                 progress);
  const uint64_t blocks = sequences * plan::kv_blocks(plan.limits.context_tokens);
  cache_ = std::make_unique<model::KvCache>(spec, plan.dtype, blocks, *device_);
  decoder_ = std::make_unique<model::Decoder>(spec, weights_, *device_, *pool_, *cache_, plan.limits);
  load_ms_ = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace rhapsode::runtime
