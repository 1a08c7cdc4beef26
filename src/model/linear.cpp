#include "model/linear.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/linear_routes.h"
#include "plan/footprint.h"
#include "quant/ternary.h"

namespace rhapsode::model {
namespace {

using quant::kPanelRows;

// A row of sums over ternary values becomes the product; `factor` is the token's, `bias` may be null.
void finish_ternary(const Product& product, float factor, const float* bias, float* row, uint64_t count) {
  const kernels::Kernels& kernels = *product.worker->kernels;
  const plan::WeightFormat& format = product.part->format;
  const float scale = product.part->weight_scale;
  const auto add_bias = [&] {
    if (bias != nullptr) kernels.add_bias(row, bias, count);
  };
  if (format.kind == arch::LinearKind::ternary_over) {
    kernels.round_row(product.dtype, row, count);
    const float divisor = scale * factor;
    for (uint64_t i = 0; i < count; ++i) row[i] /= divisor;
    kernels.round_row(product.dtype, row, count);
    add_bias();
    if (bias != nullptr) kernels.round_row(product.dtype, row, count);
    return;
  }
  if (format.kind == arch::LinearKind::ternary_online) {
    kernels.scale(Dtype::f32, row, format.exact ? scale : scale / factor, count);
    add_bias();
    return kernels.round_row(product.dtype, row, count);
  }
  // weight_scale multiplies the bias too.
  if (!format.exact && bias == nullptr) return kernels.scale(product.dtype, row, scale / factor, count);
  if (!format.exact) kernels.scale(Dtype::f32, row, 1.0f / factor, count);
  add_bias();
  if (format.exact) kernels.round_row(product.dtype, row, count);
  kernels.scale(product.dtype, row, scale, count);
}

bool multiplies_integers(const plan::WeightFormat& format) {
  return format.format == quant::Format::ternary &&
         (!format.exact || format.kind == arch::LinearKind::ternary_over);
}

// Parts that can use what was packed for the part before them.
bool same_input(const Linear::Part& a, const Linear::Part& b) {
  return route_of(a.format) == route_of(b.format) && a.padded_cols == b.padded_cols &&
         a.format.compute == b.format.compute && a.format.format == b.format.format;
}

// Roundings of finished sums of any format but ternary.
void round_sums(const Product& product, float* sums, uint64_t count) {
  const Dtype compute = product.part->format.compute;
  if (compute != Dtype::f32) product.worker->kernels->round_row(compute, sums, count);
  if (product.dtype != compute) product.worker->kernels->round_row(product.dtype, sums, count);
}

// `packed_for`: the part whose tokens are packed now, or null. Returns the same for the part after it.
const Linear::Part* run_part(const Product& product, const Linear::Part* packed_for) {
  const Worker& worker = *product.worker;
  const Linear::Part& part = *product.part;
  const Range panels = share(part.panels, worker.member, worker.members);
  const Route route = route_of(part.format);
  const bool ready = packed_for != nullptr && same_input(*packed_for, part);
  if (!ready && takes_tiles(product, route)) {
    if (packed_for != nullptr) worker.pool->barrier();  // the others still read what is packed
    pack(product, route);
    worker.pool->barrier();
  }
  run(product, route, panels, ready);
  // A single token's codes lie where the outlier columns are expanded: the next part makes them anew.
  const bool spent = route == Route::int8 && add_outliers(product, panels) && product.tokens == 1;
  return spent ? nullptr : &part;
}

}  // namespace

Route route_of(const plan::WeightFormat& format) {
  if (multiplies_integers(format)) return Route::ternary;
  if (format.format == quant::Format::int8) return Route::int8;
  if (quant::is_four_bit(format.format) && !format.exact) return Route::fixed;
  return Route::dense;
}

void finish_row(const Product& product, Range panels) {
  const uint64_t first = (product.part->first_panel + panels.begin) * kPanelRows;
  const uint64_t count = (panels.end - panels.begin) * kPanelRows;
  float* row = product.y + first;
  if (product.part->format.format == quant::Format::ternary)
    return finish_ternary(product, product.x.factors[0],
                          product.linear->bias == nullptr ? nullptr : product.linear->bias + first, row,
                          count);
  if (product.linear->bias != nullptr)
    product.worker->kernels->add_bias(row, product.linear->bias + first, count);
  round_sums(product, row, count);
}

void finish_block(const Product& product, uint64_t panel, TokenBlock block, float* sums) {
  const float* bias = product.linear->bias;
  if (bias != nullptr) bias += (product.part->first_panel + panel) * kPanelRows;
  const bool ternary = product.part->format.format == quant::Format::ternary;
  for (uint32_t t = 0; t < block.tokens && (ternary || bias != nullptr); ++t) {
    float* row = sums + uint64_t{t} * kPanelRows;
    if (ternary)
      finish_ternary(product, product.x.factors[block.first + t], bias, row, kPanelRows);
    else
      product.worker->kernels->add_bias(row, bias, kPanelRows);
  }
  if (!ternary) round_sums(product, sums, uint64_t{block.tokens} * kPanelRows);
  for (uint32_t t = 0; t < block.tokens; ++t)
    std::memcpy(product.out(block.first + t, panel), sums + uint64_t{t} * kPanelRows,
                kPanelRows * sizeof(float));
}

float quantize_row(Dtype dtype, const Linear& linear, float* x) {
  float largest = 0.0f;
  for (uint64_t k = 0; k < linear.cols; ++k) largest = std::max(largest, std::fabs(x[k]));
  const plan::WeightFormat& format = linear.parts.front().format;
  float factor = quant::activation_factor(largest);
  if (format.kind == arch::LinearKind::ternary_over) factor = round_to(dtype, factor);
  for (uint64_t k = 0; k < linear.cols; ++k) x[k] = quant::activation_value(x[k], factor);
  if (multiplies_integers(format)) return factor;
  for (uint64_t k = 0; k < linear.cols; ++k) x[k] = round_to(dtype, x[k] / factor);
  return factor;
}

void multiply_panels(const Worker& worker, Dtype dtype, const Linear& linear,
                     std::span<const uint32_t> panels, Rows x, uint32_t tokens, float* y, uint64_t y_stride) {
  const Linear::Part& part = linear.parts.front();
  const Product product{&worker, &linear, &part, dtype, x, tokens, y, y_stride};
  const Route route = route_of(part.format);
  if (takes_tiles(product, route)) {
    pack(product, route);
    worker.pool->barrier();
  }
  const Range mine = share(panels.size(), worker.member, worker.members);
  for (uint64_t i = mine.begin; i < mine.end; ++i)
    run(product, route, {panels[i], uint64_t{panels[i]} + 1}, false);
}

Range part_columns(const Worker& worker, const Linear::Part& part) {
  const Range panels = share(part.panels, worker.member, worker.members);
  return {(part.first_panel + panels.begin) * kPanelRows, (part.first_panel + panels.end) * kPanelRows};
}

void multiply(const Worker& worker, Dtype dtype, const Linear& linear, Rows x, uint32_t tokens, float* y,
              uint64_t y_stride) {
  const Linear::Part* packed_for = nullptr;
  for (const Linear::Part& part : linear.parts)
    packed_for = run_part({&worker, &linear, &part, dtype, x, tokens, y, y_stride}, packed_for);
}

void multiply_part(const Worker& worker, Dtype dtype, const Linear& linear, const Linear::Part& part, Rows x,
                   uint32_t tokens, float* y, uint64_t y_stride) {
  run_part({&worker, &linear, &part, dtype, x, tokens, y, y_stride}, nullptr);
}

}  // namespace rhapsode::model
