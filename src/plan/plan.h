// What a model will need and where it will live, proved before a byte of weights is read. A pure function of
// the config entry, the architecture, the checkpoint's headers and the machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arch/registry.h"
#include "config/config.h"
#include "devices/inventory.h"
#include "kernels/kernels.h"
#include "plan/footprint.h"
#include "plan/memory_limits.h"
#include "plan/placement.h"

namespace rhapsode::plan {

// A change that would make a misfit fit, verified by planning it.
struct Change {
  std::string what;
  std::vector<std::string> set;  // path=value, for --set
  uint64_t total_bytes = 0;
  bool fits = false;
};

struct Plan {
  bool fits = false;
  Dtype dtype = Dtype::f32;
  std::string dtype_source;  // yaml, config, checkpoint
  Formats formats;           // of the matrices
  StepLimits limits;
  std::string context_source;  // request, max_context, default
  std::string isa;
  std::string attention;    // "fused"
  std::string strategy;     // of placement: auto, balanced, balanced_low_0, sequential, or "device_map"
  bool is_virtual = false;  // devices are those of --machine or `devices`
  std::vector<DevicePlan> devices;
  std::vector<Unit> units;                                      // in model order
  Placement placement;                                          // of the units, by index into devices
  std::vector<std::pair<std::string, std::string>> device_map;  // module -> device, in model order
  uint64_t choice_bytes = 0;                                    // of the process, not taken yet
  uint64_t head_screen_bytes = 0;  // part of a workspace; 0: the head is multiplied whole
  uint64_t max_context = 0;  // longest context that fits, at most max_position_embeddings; 0 where none does
  uint64_t bytes_short = 0;
  // Of a misfit: limits that would do, device by device in proportion to those there are, verified by
  // planning.
  std::vector<std::pair<std::string, uint64_t>> workable_limits;
  uint64_t quantized_anew = 0;  // units on disk that are quantized at each pass
  std::vector<Downgrade> downgrades;
  std::vector<Change> changes;
};

struct PlanRequest {
  const config::ModelEntry* entry = nullptr;
  const arch::Architecture* architecture = nullptr;
  const arch::ModelTensors* tensors = nullptr;
  const Checkpoint* checkpoint = nullptr;
  const devices::Inventory* inventory = nullptr;
  std::optional<config::Machine> machine;  // that the command line names
  const kernels::Kernels* kernels = nullptr;
  uint32_t threads = 1;
  uint64_t process_bytes = 0;              // resident already
  uint64_t choice_bytes = 0;               // that the process will take to choose tokens
  std::optional<uint64_t> context_tokens;  // of a request that is known already: prompt and answer
  uint64_t sequences = 1;                  // that run at the same time (beams)
  uint32_t logits_rows = 1;
  bool keeps_packed = false;  // what is quantized, in a packed cache
};

// Bytes of all devices but disk.
uint64_t total_bytes(const Plan& plan);

constexpr uint32_t kChunkTokens = 256;      // prompt tokens in one pass
constexpr double kLeastHeadShare = 0.1;     // of a token's weights: from here on the head is screened
constexpr uint64_t kDefaultContext = 4096;  // reserved where nothing says how long a conversation will be

// Throws Error(unsupported) for what this build cannot do; a misfit is a Plan with fits == false.
Plan make_plan(const PlanRequest& request);

// Throws Error(does_not_fit) with the bytes short and the smallest change that fits.
void require_fit(const Plan& plan);

}  // namespace rhapsode::plan
