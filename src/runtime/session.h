// A loaded model: executes a Plan. Owns the threads, the device, the weights, the cache and the decoder.
#pragma once

#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "devices/device.h"
#include "devices/memory_watch.h"
#include "model/decoder.h"
#include "runtime/assembly.h"

namespace rhapsode::runtime {

class Session {
 public:
  // Loads the weights that `plan` promises. Throws does_not_fit where the plan does not fit. The assembly
  // must outlive it.
  Session(const Assembly& assembly, const plan::Plan& plan, uint64_t sequences,
          const model::LoadProgress& progress);

  model::Decoder& decoder() { return *decoder_; }
  model::KvCache& cache() { return *cache_; }
  model::Weights& weights() { return weights_; }  // the decoder's own
  // In the order of the plan; disk is none.
  const std::vector<std::unique_ptr<devices::Device>>& devices() const { return devices_; }
  const Assembly& assembly() const { return *assembly_; }
  const plan::Plan& plan() const { return plan_; }
  double load_ms() const { return load_ms_; }

  // How far ahead kernels ask for this model's weights, and why.
  enum class AccessSource : uint8_t { usual, recorded, measuring, measured };
  static const char* access_source_name(AccessSource source);
  // Passes of one token until nothing is left to measure, so that what is timed afterwards is all alike.
  void settle_access();
  AccessSource access_source() const { return access_source_; }
  const std::string& access_problem() const { return access_problem_; }  // why it could not be recorded
  uint32_t access_bytes() const { return kernels::access.*access_knob_; }

  // What the last request left in the cache (GenerateRequest::keep_sequence): ids and their sequence.
  struct Kept {
    std::vector<uint32_t> ids;
    model::Sequence sequence;
  };
  Kept& kept() { return kept_; }

 private:
  void choose_access();

  const Assembly* assembly_;
  plan::Plan plan_;
  double load_ms_ = 0;
  std::unique_ptr<ThreadPool> pool_;
  std::vector<std::unique_ptr<devices::Device>> devices_;
  model::Weights weights_;
  std::unique_ptr<model::KvCache> cache_;
  std::unique_ptr<devices::MemoryWatch> memory_;  // its address is the decoder's
  std::unique_ptr<model::Decoder> decoder_;
  std::unique_ptr<model::AccessTuner> access_tuner_;  // its address is the decoder's
  uint32_t kernels::Access::*access_knob_ = &kernels::Access::streamed;
  AccessSource access_source_ = AccessSource::usual;
  std::string access_problem_;
  Kept kept_;
};

}  // namespace rhapsode::runtime
