// The weights of a model on a device, in the packed layouts that kernels read; loaded tensor by tensor from
// the checkpoint, each byte read once, converted and packed by all threads. Never holds a second copy.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "arch/spec.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "devices/device.h"
#include "model/carrier.h"
#include "plan/formats.h"

namespace rhapsode::model {

struct Norm {
  float* weight = nullptr;  // [length], null where the model has no such norm
  float* bias = nullptr;
  uint64_t length = 0;
};

// Packed matrices that share their input: each part is a sequence of panels of its own, its outputs stand
// after those of the parts before it.
struct Linear {
  struct Part {
    uint64_t rows = 0;
    uint64_t first_panel = 0;  // of its outputs: column first_panel * 32
    uint64_t panels = 0;
    uint64_t panel_bytes = 0;
    uint64_t padded_cols = 0;   // of the panels
    std::byte* data = nullptr;  // [panels][panel_bytes]
    plan::WeightFormat format;
    float weight_scale = 1.0f;  // ternary only
    Norm own_norm = {};         // ternary only: of this part's input alone

    // By number within the part.
    const std::byte* panel(uint64_t index) const { return data + index * panel_bytes; }
  };
  uint64_t cols = 0;  // of the matrices
  uint64_t panels = 0;
  float* bias = nullptr;  // [panels * 32] or null
  std::vector<Part> parts;
  // int8 only.
  float int8_threshold = 6.0f;
  bool int8_row_outliers = false;
};

struct LayerWeights {
  Norm input_norm, q_norm, k_norm, attn_sub_norm, post_attention_norm, pre_ffn_norm, ffn_sub_norm,
      post_ffn_norm;
  Linear qkv, o, up, down;
};

// A block or the head that is not where it is computed: its pointers lead into the staging buffer, which
// holds it after bring().
struct StagedUnit {
  uint64_t bytes = 0;
  size_t slot = 0;                        // of the staging buffer: the unit's place there, for good
  std::byte* place = nullptr;             // the same in memory
  devices::Buffer home;                   // its bytes on the cpu; empty: read from the checkpoint each time
  std::function<void(ThreadPool&)> read;  // from the checkpoint into the staging buffer

  void fetch(ThreadPool& pool) const;
};

// Which device holds what, and which computes it. A null holder is the disk: the checkpoint's own files.
struct WeightPlaces {
  devices::Device* embed = nullptr;
  devices::Device* norm = nullptr;  // never null
  devices::Device* head = nullptr;  // where tied, the embedding's too
  std::vector<devices::Device*> layers;
  devices::Device* head_exec = nullptr;
  std::vector<devices::Device*> layer_exec;
  devices::Device* staging = nullptr;       // of what is not held where it is computed; null: nothing is
  std::array<uint64_t, 2> staging_bytes{};  // of its slots; a second one: the next unit comes early
};
WeightPlaces all_on(devices::Device& device, size_t layers);

struct Weights {
  Dtype dtype = Dtype::f32;
  std::byte* embed = nullptr;  // [vocab_size][hidden_size] of dtype; null where tied: rows come from lm_head
  Linear lm_head;
  Norm final_norm;
  std::vector<LayerWeights> layers;
  std::vector<devices::Buffer> memory;  // what is above points into these, or into staging
  // Where the embedding is on disk, or tied to a head that is staged: one row, as it would be read from
  // memory.
  std::function<void(uint64_t id, float* out)> embed_row;

  static constexpr size_t kNone = SIZE_MAX;
  devices::Buffer staging;
  std::vector<StagedUnit> staged;               // by unit: layers, then the head; bytes 0 where not staged
  std::array<size_t, 2> in_slot{kNone, kNone};  // the units that lie there now
  size_t coming = kNone;                        // the unit that the carrier brings
  std::unique_ptr<Carrier> carrier;             // where there are two slots; ends before what it fills

  bool is_staged(size_t unit) const { return staged[unit].bytes > 0; }
  size_t head_unit() const { return layers.size(); }
  // No thread may be computing.
  void bring(size_t unit, ThreadPool& pool);
  // Before the units [first, end) are computed: what is computed after them starts to come, the first one of
  // the next pass after the last, where a slot is free for it.
  void bring_ahead(size_t first, size_t end);
};

// Called now and then on the caller's thread.
using LoadProgress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

struct LoadOptions {
  LoadProgress progress;
  // Directory of packed caches; empty: none. What is quantized while loading is written there, and mapped the
  // next time.
  std::string packed_cache;
  // low_cpu_mem_usage: false. Each shard is read whole, front to back, before its tensors are loaded: more
  // memory, one sequential stream.
  bool whole_shards = false;
};

// formats.dtype (f32, f16, bf16) is the type in which the model computes; tensors stored in another are
// rounded once, then quantized where the formats say so. Throws Error(unsupported) for a weight that is not
// finite and would have to be quantized.
Weights load_weights(const arch::Spec& spec, const arch::ModelTensors& tensors, const Checkpoint& checkpoint,
                     const plan::Formats& formats, const WeightPlaces& places, ThreadPool& pool,
                     const LoadOptions& options);

}  // namespace rhapsode::model
