// Certified screening of the LM head: a pass over int8 copies of its rows bounds every logit, and only panels
// that hold an id that could be among the best are multiplied exactly. The ids chosen are those of the full
// product; half the bytes of a 16-bit head are read. Owns the copies and the bounds; knows no sampling.
//
// With w = s q + e (a row and its int8 codes) and x = u p + d (the hidden state and its codes, whose two int8
// digits make 16 bits), |w x - s u (q p)| <= |e| |x| + |s q| |d|, and the rounding of the sums is bounded by
// the same norms.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "devices/device.h"
#include "kernels/kernels.h"
#include "model/weights.h"

namespace rhapsode::model {

// What of a row of logits matters.
struct WantedLogits {
  uint32_t best = 0;  // the so many largest, with all that equal the last of them; 0: every one
  // Ids, ascending, whose logits may be lowered before the best are taken: the others must suffice.
  std::span<const uint32_t> lowered;
};
constexpr uint32_t kMostBest = 128;
// Rows of a pass from which on multiplying all of the head costs less than screening each of them.
constexpr uint32_t kScreenedRows = 2;

class HeadScreen {
 public:
  // Of a head in a dense format, without bias, that lies on `device`; plan::head_screen_bytes there.
  HeadScreen(const Linear& head, Dtype dtype, devices::Device& device, ThreadPool& pool, uint32_t most_rows);

  // False where a weight is not finite: bounds say nothing then.
  bool usable() const { return usable_; }

  // The steps of a pass, each by all members, with a barrier after each.
  struct Row {
    const float* x;  // [cols] the hidden state
    float* logits;   // [panels * 32]
    WantedLogits wanted;
    std::byte* codes;  // [2][padded cols] room, shared
  };
  // Of rows [mine): codes and norms.
  void quantize(std::span<const Row> rows, Range mine);
  // Whether the codes of every row say something: none is infinite or not a number.
  bool finite(size_t rows) const;
  // Estimates into the logits, the best lower bounds aside.
  void estimate(std::span<const Row> rows, ThreadPool& pool, uint32_t member);
  // This member's panels: those that may matter are marked, the others' logits become -inf.
  void mark(std::span<const Row> rows, uint32_t member);
  // The marked panels, the same list for all members.
  const std::vector<uint32_t>& marked() const { return marked_; }
  // By one member, between barriers.
  void list_marked();

  // Of all passes so far.
  struct Counts {
    uint64_t passes = 0, panels = 0, exact_panels = 0;
  };
  const Counts& counts() const { return counts_; }
  uint64_t bytes_of_panel() const { return panel_bytes_ + 2 * quant::kPanelRows * sizeof(float); }

 private:
  struct RowFacts {
    float scale;      // u: what a code of x stands for
    float norm;       // of x, and
    float remainder;  // of d, both rounded up
  };
  // The largest lower bounds that a member found for a row, falling.
  struct Best {
    uint32_t count = 0;
    float values[kMostBest];
    void offer(float value, uint32_t most);
  };

  void fill_panel(const Linear& head, uint64_t panel);
  void estimate_panel(std::span<const Row> rows, uint64_t panel, uint32_t member);
  float bound(const RowFacts& facts, uint64_t row, float estimate) const;
  float threshold(size_t row, uint32_t best) const;
  Best& best_of(uint32_t member, size_t row) { return best_[member * most_rows_ + row]; }
  Range panels_of(uint32_t member) const { return share(panels_, member, members_); }

  const kernels::Kernels* kernels_;
  Dtype dtype_;
  uint64_t rows_, cols_, panels_, panel_bytes_;
  uint32_t members_, most_rows_;
  devices::Buffer memory_;
  std::byte* codes_;  // [panels][panel_bytes]
  float* error_;      // [panels * 32]: |e|, and the rounding of the exact sum
  float* length_;     // [panels * 32]: |s q|
  bool usable_ = true;
  std::vector<RowFacts> facts_;
  std::vector<Best> best_;
  std::vector<uint8_t> flags_;  // a byte a panel
  std::vector<uint32_t> marked_;
  Counts counts_;
};

}  // namespace rhapsode::model
