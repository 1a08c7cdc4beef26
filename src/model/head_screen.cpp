#include "model/head_screen.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "plan/footprint.h"
#include "quant/codec.h"

namespace rhapsode::model {
namespace {

using quant::kPanelRows;

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr float kCodeMost = 127.0f * kernels::kDigitBase + 127.0f;
// Norms are sums of a few thousand squares in double or float: this covers their rounding.
constexpr double kNormSlack = 1.0 + 1e-5;
// Of the estimate itself: two sums to float, their joining and two products.
constexpr float kEstimateSlack = 1e-6f;

// Largest distance, as a part of the value, between a number and what rounding to the type makes of it.
// Of f32: what dividing by a temperature may level.
float rounding_of(Dtype dtype) {
  if (dtype == Dtype::bf16) return 1.0f / 256;
  return dtype == Dtype::f16 ? 1.0f / 2048 : 0x1p-22f;
}

float norm_of(std::span<const float> x) {
  double sum = 0;
  for (const float value : x) sum += double{value} * value;
  return static_cast<float>(std::sqrt(sum) * kNormSlack);
}

}  // namespace

HeadScreen::HeadScreen(const Linear& head, Dtype dtype, devices::Device& device, ThreadPool& pool,
                       uint32_t most_rows)
    : kernels_(&device.kernels()),
      dtype_(dtype),
      rows_(head.parts.front().rows),
      cols_(head.cols),
      panels_(head.panels),
      panel_bytes_(quant::panel_bytes(quant::Format::int8, head.cols)),
      members_(pool.threads()),
      most_rows_(most_rows) {
  const uint64_t codes = plan::screen_codes_bytes(rows_, cols_);
  const uint64_t bounds = plan::screen_bounds_bytes(rows_);
  memory_ = device.allocate(codes + 2 * bounds, "the screen of the head");
  codes_ = memory_.data();
  error_ = reinterpret_cast<float*>(codes_ + codes);
  length_ = reinterpret_cast<float*>(codes_ + codes + bounds);
  facts_.resize(most_rows);
  best_.resize(size_t{members_} * most_rows);
  flags_.resize(panels_);
  marked_.reserve(panels_);
  pool.run([&](uint32_t member) {
    const Range mine = panels_of(member);
    for (uint64_t panel = mine.begin; panel < mine.end; ++panel) fill_panel(head, panel);
  });
  for (uint64_t row = 0; row < rows_; ++row) usable_ = usable_ && std::isfinite(error_[row]);
}

void HeadScreen::fill_panel(const Linear& head, uint64_t panel) {
  const Linear::Part& part = head.parts.front();
  const auto rows = static_cast<uint32_t>(std::min<uint64_t>(kPanelRows, rows_ - panel * kPanelRows));
  std::vector<float> row(cols_);
  std::vector<int8_t> codes(rows * cols_);
  float scb[kPanelRows];
  for (uint32_t r = 0; r < rows; ++r) {
    quant::unpack_row(part.format.format, {part.panel(panel), part.panel_bytes}, r, cols_, row.data());
    int8_t* of_row = codes.data() + r * cols_;
    scb[r] = quant::int8_row(row, of_row);
    const double step = double{scb[r]} / 127;
    double error = 0, length = 0, whole = 0;
    for (uint64_t k = 0; k < cols_; ++k) {
      const double estimate = step * of_row[k], left = row[k] - estimate;
      error += left * left, length += estimate * estimate, whole += double{row[k]} * row[k];
    }
    // A chain of K fused multiply-adds errs by at most K * 2^-24 of the sum of magnitudes.
    const double chain = static_cast<double>(cols_ + 2) * 0x1.02p-24 * std::sqrt(whole);
    error_[panel * kPanelRows + r] = static_cast<float>((std::sqrt(error) + chain) * kNormSlack);
    length_[panel * kPanelRows + r] = static_cast<float>(std::sqrt(length) * kNormSlack);
  }
  for (uint32_t r = rows; r < kPanelRows; ++r)
    error_[panel * kPanelRows + r] = length_[panel * kPanelRows + r] = 0.0f;
  quant::pack_int8_panel(codes, {scb, rows}, cols_, {codes_ + panel * panel_bytes_, panel_bytes_});
}

void HeadScreen::quantize(std::span<const Row> rows, Range mine) {
  const uint64_t padded = quant::padded_cols(quant::Format::int8, cols_);
  for (uint64_t r = mine.begin; r < mine.end; ++r) {
    const float* x = rows[r].x;
    auto* high = reinterpret_cast<int8_t*>(rows[r].codes);
    int8_t* low = high + padded;
    float largest = 0.0f;
    bool finite = true;
    for (uint64_t k = 0; k < cols_; ++k) {
      largest = std::max(largest, std::fabs(x[k]));
      finite = finite && std::isfinite(x[k]);
    }
    RowFacts& facts = facts_[r];
    facts.scale = finite ? largest / kCodeMost : std::numeric_limits<float>::quiet_NaN();
    facts.norm = norm_of({x, cols_});
    std::memset(high, 0, 2 * padded);
    double left = 0;
    const float factor = finite && largest > 0.0f ? kCodeMost / largest : 0.0f;
    for (uint64_t k = 0; k < cols_ && factor > 0.0f && std::isfinite(factor); ++k) {
      const auto code = static_cast<int32_t>(std::lrintf(x[k] * factor));
      high[k] = static_cast<int8_t>(std::lrintf(static_cast<float>(code) / kernels::kDigitBase));
      low[k] = static_cast<int8_t>(code - high[k] * int32_t{kernels::kDigitBase});
      const double distance = x[k] - double{facts.scale} * code;
      left += distance * distance;
    }
    if (factor == 0.0f || !std::isfinite(factor)) left = double{facts.norm} * facts.norm;
    // The low digits' sum is rounded by itself.
    const double digits = 0x1p-22 * 128 * std::sqrt(static_cast<double>(cols_)) * facts.scale;
    facts.remainder = static_cast<float>((std::sqrt(left) + digits) * kNormSlack);
  }
}

bool HeadScreen::finite(size_t rows) const {
  for (size_t r = 0; r < rows; ++r)
    if (!std::isfinite(facts_[r].scale) || !std::isfinite(facts_[r].norm) ||
        !std::isfinite(facts_[r].remainder))
      return false;
  return true;
}

float HeadScreen::bound(const RowFacts& facts, uint64_t row, float estimate) const {
  return error_[row] * facts.norm + length_[row] * facts.remainder + std::fabs(estimate) * kEstimateSlack;
}

void HeadScreen::Best::offer(float value, uint32_t most) {
  if (count == most && value <= values[count - 1]) return;
  uint32_t at = count < most ? count++ : count - 1;
  for (; at > 0 && values[at - 1] < value; --at) values[at] = values[at - 1];
  values[at] = value;
}

void HeadScreen::estimate(std::span<const Row> rows, ThreadPool& pool, uint32_t member) {
  for (size_t r = 0; r < rows.size(); ++r) best_of(member, r).count = 0;
  pool.hand_out(member, panels_, 8, [&](Range panels) {
    for (uint64_t panel = panels.begin; panel < panels.end; ++panel) estimate_panel(rows, panel, member);
  });
}

void HeadScreen::estimate_panel(std::span<const Row> rows, uint64_t panel, uint32_t member) {
  const uint64_t padded = quant::padded_cols(quant::Format::int8, cols_);
  const std::byte* codes = codes_ + panel * panel_bytes_;
  const auto* scb = reinterpret_cast<const float*>(codes);
  const uint64_t first = panel * kPanelRows, count = std::min<uint64_t>(kPanelRows, rows_ - first);
  for (size_t r = 0; r < rows.size(); ++r) {
    const Row& row = rows[r];
    const auto* high = reinterpret_cast<const int8_t*>(row.codes);
    float* out = row.logits + first;
    kernels_->dot_digits(codes, high, high + padded, padded, out);
    const float step = facts_[r].scale / 127.0f;
    Best& best = best_of(member, r);
    for (uint64_t i = 0; i < count; ++i) {
      out[i] = out[i] * (scb[i] * step);
      const float low = out[i] - bound(facts_[r], first + i, out[i]);
      if (best.count == row.wanted.best && low <= best.values[best.count - 1]) continue;
      const auto id = static_cast<uint32_t>(first + i);
      if (!std::binary_search(row.wanted.lowered.begin(), row.wanted.lowered.end(), id))
        best.offer(low, row.wanted.best);
    }
  }
}

// The best-th largest lower bound of all members, less what rounding may level; -inf where there are fewer.
float HeadScreen::threshold(size_t row, uint32_t best) const {
  Best all;
  for (uint32_t member = 0; member < members_; ++member) {
    const Best& of_member = best_[member * most_rows_ + row];
    for (uint32_t i = 0; i < of_member.count; ++i) all.offer(of_member.values[i], best);
  }
  if (all.count < best) return kNothing;
  // In f16 everything above its range is infinite alike, and below it steps are 2^-24.
  const float last = dtype_ == Dtype::f16 ? std::min(all.values[best - 1], 65504.0f) : all.values[best - 1];
  return last - 2 * std::fabs(last) * rounding_of(dtype_) - 0x1p-24f;
}

void HeadScreen::mark(std::span<const Row> rows, uint32_t member) {
  const Range mine = panels_of(member);
  std::fill(flags_.begin() + static_cast<ptrdiff_t>(mine.begin),
            flags_.begin() + static_cast<ptrdiff_t>(mine.end), uint8_t{0});
  for (size_t r = 0; r < rows.size(); ++r) {
    const float least = threshold(r, rows[r].wanted.best);
    for (uint64_t id = mine.begin * kPanelRows; id < std::min(mine.end * kPanelRows, rows_); ++id) {
      const float estimate = rows[r].logits[id];
      // A comparison that a NaN makes false must not drop the id.
      if (!(estimate + bound(facts_[r], id, estimate) < least)) flags_[id / kPanelRows] = 1;
    }
  }
  for (uint64_t panel = mine.begin; panel < mine.end; ++panel)
    for (size_t r = 0; r < rows.size() && flags_[panel] == 0; ++r)
      std::fill_n(rows[r].logits + panel * kPanelRows, kPanelRows, kNothing);
}

void HeadScreen::list_marked() {
  marked_.clear();
  for (uint32_t panel = 0; panel < panels_; ++panel)
    if (flags_[panel] != 0) marked_.push_back(panel);
  ++counts_.passes;
  counts_.panels += panels_;
  counts_.exact_panels += marked_.size();
}

}  // namespace rhapsode::model
