// The one decoder: embeds, runs the layers, gives logits. A step takes spans of several sequences; one
// sequence is a batch of one. Knows no text and no sampling; results do not depend on threads, batch members
// or chunking.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "arch/spec.h"
#include "base/thread_pool.h"
#include "devices/device.h"
#include "model/access_tuner.h"
#include "model/attention.h"
#include "model/head_screen.h"
#include "model/kv_cache.h"
#include "model/rope.h"
#include "model/section_times.h"
#include "model/weights.h"
#include "plan/footprint.h"

namespace rhapsode::model {

// Tokens to append to a sequence.
struct Span {
  Sequence* sequence;
  std::span<const uint32_t> ids;  // below vocab_size
  uint32_t logits_rows = 0;       // logits wanted of the last so many tokens
  uint64_t rope_length = 0;  // length that length-dependent rotary scaling sees; 0 = up to the span's end
  bool verifies = false;     // a guess: its tokens are to come out as if they were computed one by one
  WantedLogits wanted = {};  // of its rows: what else is left out may come out as -inf
};

struct ExecDevices {
  std::vector<devices::Device*> layers;
  devices::Device* head = nullptr;
};

class Decoder {
 public:
  Decoder(const arch::Spec& spec, Weights& weights, devices::Device& device, ThreadPool& pool, KvCache& cache,
          const plan::StepLimits& limits);
  // Each layer and the head on a device of its own choice; the hidden state is copied at the borders.
  Decoder(const arch::Spec& spec, Weights& weights, const ExecDevices& devices, ThreadPool& pool,
          KvCache& cache, const plan::StepLimits& limits);

  // At most limits.chunk_tokens tokens and limits.logits_rows rows of logits in all. Appends to the
  // sequences' cache.
  void forward(std::span<const Span> spans);
  // Rows in the order of the spans: vocab_size values each, rounded to the model's dtype. Valid until the
  // next forward.
  std::span<const float> logits(uint32_t row) const;
  // The same row for processors that work in place.
  std::span<float> scores(uint32_t row);

  // Appends all ids in chunks; logits of the last token are row 0.
  void prefill(Sequence& sequence, std::span<const uint32_t> ids);

  // Whether appending so many tokens switches a longrope table to its long factors: keys in the cache were
  // rotated by the short ones, so the whole sequence must be released and prefilled again, as transformers
  // does.
  bool crosses_rope_switch(const Sequence& sequence, uint64_t tokens) const;
  // False where one pass over `tokens` more would rotate some of them otherwise than a pass for each.
  bool rotates_alike(const Sequence& sequence, uint64_t tokens) const;

  const plan::StepLimits& limits() const { return limits_; }
  KvCache& cache() { return *cache_; }
  const arch::Spec& spec() const { return *spec_; }

  // Passes whose rows all want only their best logits look for them in a copy of the head on `device`, which
  // holds the head.
  void screen_head(devices::Device& device);
  const HeadScreen* head_screen() const { return screen_ ? &*screen_ : nullptr; }

  // Called on the caller's thread before each pass, which it may refuse by an exception, and after it, when
  // its results may be refused; nothing is appended then.
  void before_pass(std::function<void()> check) { before_pass_ = std::move(check); }
  void after_pass(std::function<void()> check) { after_pass_ = std::move(check); }

  // Times passes of one token, where no weights are brought; outlives the passes. Null: no more.
  void tune_access(AccessTuner* tuner) { access_tuner_ = tuner; }

  // For tests and parity traces: called with the hidden state after the embedding (layer 0) and after each
  // layer.
  using Observer = std::function<void(uint64_t layer, const float* hidden, uint64_t stride, uint32_t tokens)>;
  void observe(Observer observer) { observer_ = std::move(observer); }

  // Adds where time goes to `times`, which outlives the passes; null: no more.
  void time_sections(SectionTimes* times) { times_ = times; }

 private:
  friend class Pass;
  // What a device computes in.
  struct Area {
    devices::Device* device;
    plan::WorkspaceLayout at;
    devices::Buffer workspace;
    float* base() const { return reinterpret_cast<float*>(workspace.data()); }
  };
  size_t area_of(devices::Device* device, bool has_head);

  const arch::Spec* spec_;
  Weights* weights_;
  ThreadPool* pool_;
  KvCache* cache_;
  plan::StepLimits limits_;
  std::vector<Area> areas_;
  std::vector<size_t> layer_area_;
  size_t head_area_ = 0;
  std::vector<RopeFrequencies> frequencies_;  // of the tables that do not depend on the length
  std::function<void()> before_pass_, after_pass_;
  Observer observer_;
  SectionTimes* times_ = nullptr;
  AccessTuner* access_tuner_ = nullptr;
  std::optional<HeadScreen> screen_;
};

}  // namespace rhapsode::model
