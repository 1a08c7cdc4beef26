// Which device holds each unit of a model (embedding, blocks, final norm, head) and which one computes it,
// within limits that count everything: weights, quantization metadata, KV cache, workspace, room to bring
// offloaded units in. A pure function of bytes; knows no model, no file and no strategy of other programs.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"

namespace rhapsode::plan {

enum class UnitKind : uint8_t { embed, layer, norm, head, embed_and_head };

struct Unit {
  UnitKind kind = UnitKind::layer;
  std::vector<std::string> modules;  // names in the device map
  uint64_t layer = 0;                // index, of a layer
  uint64_t weights_bytes = 0, quant_metadata_bytes = 0;
  uint64_t kv_bytes = 0;  // of all sequences

  uint64_t held_bytes() const { return weights_bytes + quant_metadata_bytes; }
  bool has_head() const { return kind == UnitKind::head || kind == UnitKind::embed_and_head; }
  // Work is done with its weights; rows of an embedding are looked up where they lie.
  bool computes() const { return kind == UnitKind::layer || has_head(); }
};

// Of a disk of which nobody said how large it is; a number that readers of JSON hold as an integer.
constexpr uint64_t kNoLimit = INT64_MAX;

struct DeviceLimit {
  config::DeviceName name;
  uint64_t limit_bytes = 0;
  uint64_t process_bytes = 0;  // of the program itself
  bool listed = false;         // may take what the devices before it have no room for
};

// What the memory of a device is used for.
struct DevicePlan {
  std::string name;  // "0", "cpu", "disk"
  std::string kind;  // "gpu", "cpu", "disk"
  uint64_t limit_bytes = 0;
  uint64_t weights_bytes = 0;
  uint64_t quant_metadata_bytes = 0;
  uint64_t kv_bytes = 0;
  uint64_t workspace_bytes = 0;  // with staging_bytes
  uint64_t staging_bytes = 0;    // buffers that offloaded units are brought into
  uint64_t process_bytes = 0;    // the program and the tokenizer, measured, and what choosing tokens takes
  uint64_t total_bytes() const {
    return weights_bytes + quant_metadata_bytes + kv_bytes + workspace_bytes + process_bytes;
  }
};

struct PlacementProblem {
  std::vector<Unit> units;            // in model order
  std::vector<DeviceLimit> devices;   // GPUs by index, then cpu, then disk
  uint64_t step_workspace_bytes = 0;  // of a device that computes
  uint64_t head_workspace_bytes = 0;  // of the one that computes logits; not less than the step's
  // Bytes that the staging buffer needs beyond the largest unit that it holds.
  uint64_t staging_slack_bytes = 0;
};

// Indices into PlacementProblem::devices.
struct Placement {
  std::vector<size_t> home;  // of each unit: where its bytes lie
  std::vector<size_t> exec;  // of each unit: where it is computed
  size_t main = 0;           // computes what lies on the cpu or on disk, where GPUs are used
  // Of the two buffers on main that offloaded units are brought into in turn: while one is computed the next
  // one comes. The second is 0 where one unit is offloaded at most, or where there is room for one only.
  std::array<uint64_t, 2> staging_bytes{};
  std::vector<DevicePlan> devices;  // one for each of the problem's
  bool spills_unlisted = false;     // a unit lies on cpu or disk, and nobody allowed that
  uint64_t bytes_short = 0;
  bool fits() const { return bytes_short == 0 && !spills_unlisted; }
};

constexpr size_t kNoDevice = SIZE_MAX;
size_t find_device(const PlacementProblem& problem, const config::DeviceName& name);

// Bytes of every device when each unit lies where `home` says, with so many staging buffers (1 or 2).
Placement account(const PlacementProblem& problem, const std::vector<size_t>& home, size_t buffers = 2);

// With two staging buffers, or with one where two do not fit.
Placement settle(const PlacementProblem& problem, const std::vector<size_t>& home);

// Places by a strategy. What has no room on the GPUs goes to cpu and disk where these are listed; where
// nothing fits, the overfull placement that comes nearest, with bytes_short. Without GPUs the cpu computes.
Placement place(const PlacementProblem& problem, config::Strategy strategy);

}  // namespace rhapsode::plan
