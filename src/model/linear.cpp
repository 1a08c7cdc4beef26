#include "model/linear.h"

#include <algorithm>

#include "model/linear_routes.h"
#include "plan/footprint.h"

namespace rhapsode::model {
namespace {

using quant::kPanelRows;

void finish_rows(const Product& product, Range panels) {
  const plan::WeightFormat& format = product.part->format;
  const float* bias = product.linear->bias;
  if (bias == nullptr && product.dtype == Dtype::f32 && format.compute == Dtype::f32) return;
  const uint64_t first = (product.part->first_panel + panels.begin) * kPanelRows;
  const uint64_t count = (panels.end - panels.begin) * kPanelRows;
  for (uint32_t t = 0; t < product.tokens; ++t) {
    float* row = product.y + t * product.y_stride + first;
    if (bias != nullptr) product.worker->kernels->add_bias(row, bias + first, count);
    if (format.compute != Dtype::f32) product.worker->kernels->round_row(format.compute, row, count);
    if (product.dtype != format.compute) product.worker->kernels->round_row(product.dtype, row, count);
  }
}

Route route_of(const plan::WeightFormat& format) {
  if (format.format == quant::Format::int8) return Route::int8;
  if (quant::is_four_bit(format.format) && !format.exact) return Route::fixed;
  return Route::dense;
}

// Parts that can use what was packed for the part before them.
bool same_input(const Linear::Part& a, const Linear::Part& b) {
  return route_of(a.format) == route_of(b.format) && a.padded_cols == b.padded_cols &&
         a.format.compute == b.format.compute && a.format.format == b.format.format;
}

}  // namespace

Range part_columns(const Worker& worker, const Linear::Part& part) {
  const Range panels = share(part.panels, worker.member, worker.members);
  return {(part.first_panel + panels.begin) * kPanelRows, (part.first_panel + panels.end) * kPanelRows};
}

void multiply(const Worker& worker, Dtype dtype, const Linear& linear, Rows x, uint32_t tokens, float* y,
              uint64_t y_stride) {
  const Linear::Part* packed_for = nullptr;
  for (const Linear::Part& part : linear.parts) {
    const Product product{&worker, &linear, &part, dtype, x, tokens, y, y_stride};
    const Range panels = share(part.panels, worker.member, worker.members);
    const Route route = route_of(part.format);
    const bool ready = packed_for != nullptr && same_input(*packed_for, part);
    if (!ready && takes_tiles(product, route)) {
      if (packed_for != nullptr) worker.pool->barrier();  // the others still read what is packed
      pack(product, route);
      worker.pool->barrier();
    }
    packed_for = &part;
    run(product, route, panels, ready);
    finish_rows(product, panels);
    if (route == Route::int8) add_outliers(product, panels);
  }
}

}  // namespace rhapsode::model
