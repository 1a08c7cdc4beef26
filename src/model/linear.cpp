#include "model/linear.h"

#include <algorithm>

#include "plan/footprint.h"

namespace rhapsode::model {
namespace {

using quant::kPanelRows;

Range part_panels(const Worker& worker, const Linear::Part& part) {
  const Range range = share(part.panels, worker.member, worker.members);
  return {part.first_panel + range.begin, part.first_panel + range.end};
}

// One token: two distant panels at a time, so that each thread keeps two streams of memory requests in
// flight.
void multiply_vector(const Worker& worker, const Linear& linear, Range panels, const float* x, float* y) {
  const auto gemv = worker.kernels->gemv[static_cast<size_t>(linear.format)];
  const uint64_t half = (panels.end - panels.begin) / 2;
  for (uint64_t i = 0; i < half; ++i) {
    const uint64_t a = panels.begin + i, b = panels.begin + half + i;
    gemv(linear.panel(a), linear.panel(b), x, linear.padded_cols, y + a * kPanelRows, y + b * kPanelRows);
  }
  if ((panels.end - panels.begin) % 2 != 0)
    gemv(linear.panel(panels.end - 1), nullptr, x, linear.padded_cols, y + (panels.end - 1) * kPanelRows,
         nullptr);
}

// x as [group][cols][tile] so that the tile kernel reads it in one stream; groups are shared out.
void pack_all(const Worker& worker, Rows x, uint32_t tokens, uint64_t cols) {
  const uint32_t tile = worker.kernels->gemm_tokens;
  const uint64_t groups = (tokens + tile - 1) / tile;
  const Range range = share(groups, worker.member, worker.members);
  for (uint64_t g = range.begin; g < range.end; ++g) {
    const uint32_t rows = std::min<uint32_t>(tile, tokens - static_cast<uint32_t>(g) * tile);
    worker.kernels->pack_tokens(x.data + g * tile * x.stride, x.stride, rows, 0, cols,
                                worker.packed + g * tile * cols);
  }
}

// Many tokens: a block of a panel's columns is expanded to float once and used for all tokens.
void multiply_panel(const Worker& worker, const Linear& linear, uint64_t panel, uint32_t tokens, float* y,
                    uint64_t y_stride) {
  const kernels::Kernels& kernels = *worker.kernels;
  const uint32_t tile = kernels.gemm_tokens;
  const uint64_t cols = linear.padded_cols;
  for (uint64_t k = 0; k < cols; k += plan::kColumnBlock) {
    const uint64_t count = std::min(plan::kColumnBlock, cols - k);
    kernels.expand[static_cast<size_t>(linear.format)](linear.panel(panel), k, count, worker.expand);
    for (uint32_t t = 0; t < tokens; t += tile) {
      const float* a = worker.packed + static_cast<uint64_t>(t) * cols + k * tile;
      kernels.gemm_tile(worker.expand, a, std::min(tile, tokens - t), count,
                        y + t * y_stride + panel * kPanelRows, y_stride, k == 0);
    }
  }
}

void finish_rows(const Worker& worker, Dtype dtype, const Linear& linear, Range panels, uint32_t tokens,
                 float* y, uint64_t y_stride) {
  if (linear.bias == nullptr && dtype == Dtype::f32) return;
  const uint64_t first = panels.begin * kPanelRows, count = (panels.end - panels.begin) * kPanelRows;
  for (uint32_t t = 0; t < tokens; ++t) {
    float* row = y + t * y_stride + first;
    if (linear.bias != nullptr) worker.kernels->add_bias(row, linear.bias + first, count);
    if (dtype != Dtype::f32) worker.kernels->round_row(dtype, row, count);
  }
}

}  // namespace

Range part_columns(const Worker& worker, const Linear::Part& part) {
  const Range panels = part_panels(worker, part);
  return {panels.begin * kPanelRows, panels.end * kPanelRows};
}

void multiply(const Worker& worker, Dtype dtype, const Linear& linear, Rows x, uint32_t tokens, float* y,
              uint64_t y_stride) {
  if (tokens > 1) {
    pack_all(worker, x, tokens, linear.padded_cols);
    worker.pool->barrier();
  }
  for (const Linear::Part& part : linear.parts) {
    const Range panels = part_panels(worker, part);
    if (tokens == 1) {
      multiply_vector(worker, linear, panels, x.data, y);
    } else {
      for (uint64_t panel = panels.begin; panel < panels.end; ++panel)
        multiply_panel(worker, linear, panel, tokens, y, y_stride);
    }
    finish_rows(worker, dtype, linear, panels, tokens, y, y_stride);
  }
}

}  // namespace rhapsode::model
