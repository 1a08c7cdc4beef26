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

// Of one token, panels that are multiplied as two streams of memory requests: each piece begins with lines
// that nobody asked for ahead.
constexpr uint64_t kStreamedPanels = 8;

uint64_t piece_panels(const Product& product) {
  if (!takes_tiles(product)) return kStreamedPanels;
  return takes_matrix(product) ? plan::kMatrixPanelGroup : plan::kPanelGroup;
}

// Brings the tokens into the form that the part multiplies. `packed_for`: the part whose tokens are so now,
// or null.
void prepare(const Product& product, const Linear::Part* packed_for) {
  const Worker& worker = *product.worker;
  const bool ready = packed_for != nullptr && same_input(*packed_for, *product.part);
  if (ready) return;
  if (!takes_tiles(product)) return quantize_vector(product);
  if (packed_for != nullptr) worker.pool->barrier();  // the others still read what is packed
  pack(product);
  worker.pool->barrier();
}

// All members work off the panels of parts that have one form of tokens and one length. Where tokens are in
// parts of their own, a member begins with those that it works on between the products too.
void run_parts(std::span<const Product> parts, const Finished& finished) {
  const Product& first = parts.front();
  const Worker& worker = *first.worker;
  const uint64_t panels = first.part->panels;
  const auto run_part = [&](uint64_t index, Range piece) {
    const TokenBlock tokens = token_part(first, static_cast<uint32_t>(index));
    for (const Product& product : parts) run(product, piece, tokens);
    if (finished) finished({piece.begin * kPanelRows, piece.end * kPanelRows}, {tokens.first, tokens.end()});
  };
  worker.pool->hand_out(worker.member, token_parts(first) * panels, piece_panels(first), [&](Range piece) {
    for (uint64_t at = piece.begin, end = 0; at < piece.end; at = end) {
      const uint64_t index = at / panels, start = index * panels;
      end = std::min(piece.end, start + panels);
      run_part(index, {at - start, end - start});
    }
  });
}

}  // namespace

Route route_of(const plan::WeightFormat& format) {
  if (multiplies_integers(format)) return Route::ternary;
  if (format.format == quant::Format::int8) return Route::int8;
  if (quant::is_four_bit(format.format) && !format.exact) return format.bytes ? Route::bytes : Route::fixed;
  return Route::dense;
}

bool multiplies_pairs(const kernels::Kernels& kernels, const plan::WeightFormat& format, Dtype dtype) {
  const auto index = static_cast<size_t>(format.format);
  const bool known = kernels.matrix != nullptr ? kernels.matrix->gemv[index] != nullptr
                                               : kernels.expand_pairs[index] != nullptr;
  return known && route_of(format) == Route::dense && format.compute == Dtype::bf16 && dtype == Dtype::bf16;
}

bool multiplies_codes(const kernels::Kernels& kernels, const plan::WeightFormat& format, Dtype dtype) {
  return kernels.matrix != nullptr && route_of(format) == Route::fixed && format.compute == Dtype::bf16 &&
         dtype == Dtype::bf16;
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
  const kernels::Kernels& kernels = *product.worker->kernels;
  const plan::WeightFormat& format = product.part->format;
  const float* bias = product.linear->bias;
  if (bias != nullptr) bias += (product.part->first_panel + panel) * kPanelRows;
  const bool ternary = format.format == quant::Format::ternary;
  for (uint32_t t = 0; t < block.tokens && (ternary || bias != nullptr); ++t) {
    float* row = sums + uint64_t{t} * kPanelRows;
    if (ternary)
      finish_ternary(product, product.x.factors[block.first + t], bias, row, kPanelRows);
    else
      kernels.add_bias(row, bias, kPanelRows);
  }
  if (!ternary && format.compute != Dtype::f32 && format.compute != product.dtype)
    kernels.round_row(format.compute, sums, uint64_t{block.tokens} * kPanelRows);
  kernels.round_sums(ternary ? Dtype::f32 : product.dtype, sums, block.tokens,
                     product.out(block.first, panel), product.y_stride);
}

float quantize_row(const kernels::Kernels& kernels, Dtype dtype, const Linear& linear, float* x) {
  const plan::WeightFormat& format = linear.parts.front().format;
  float factor = quant::activation_factor(kernels.largest_magnitude(x, linear.cols));
  if (format.kind == arch::LinearKind::ternary_over) factor = round_to(dtype, factor);
  kernels.round_codes(x, linear.cols, factor);
  if (multiplies_integers(format)) return factor;
  for (uint64_t k = 0; k < linear.cols; ++k) x[k] = round_to(dtype, x[k] / factor);
  return factor;
}

void multiply_panels(const Worker& worker, Dtype dtype, const Linear& linear,
                     std::span<const uint32_t> panels, Rows x, uint32_t tokens, float* y, uint64_t y_stride) {
  const Product product{&worker, &linear, &linear.parts.front(), dtype, x, tokens, y, y_stride};
  prepare(product, nullptr);
  worker.pool->hand_out(worker.member, panels.size(), 1, [&](Range mine) {
    const uint64_t panel = panels[mine.begin];
    run(product, {panel, panel + 1}, {0, tokens});
  });
}

void multiply(const Worker& worker, Dtype dtype, const Linear& linear, Rows x, uint32_t tokens, float* y,
              uint64_t y_stride, const Finished& finished) {
  const auto product = [&](size_t i) {
    return Product{&worker, &linear, &linear.parts[i], dtype, x, tokens, y, y_stride};
  };
  const std::vector<Linear::Part>& parts = linear.parts;
  if (parts.size() == 2 && parts[0].panels == parts[1].panels && same_input(parts[0], parts[1])) {
    const Product both[2] = {product(0), product(1)};
    prepare(both[0], nullptr);
    return run_parts(both, finished);
  }
  const Linear::Part* packed_for = nullptr;
  for (size_t i = 0; i < parts.size(); ++i) {
    const Product one = product(i);
    prepare(one, packed_for);
    run_parts({&one, 1}, parts.size() == 1 ? finished : Finished{});
    packed_for = &parts[i];
  }
  if (!finished || parts.size() == 1) return;
  worker.pool->barrier();
  const Range panels = share(parts.front().panels, worker.member, worker.members);
  finished({panels.begin * kPanelRows, panels.end * kPanelRows}, {0, tokens});
}

void multiply_part(const Worker& worker, Dtype dtype, const Linear& linear, const Linear::Part& part, Rows x,
                   uint32_t tokens, float* y, uint64_t y_stride) {
  const Product product{&worker, &linear, &part, dtype, x, tokens, y, y_stride};
  prepare(product, nullptr);
  run_parts({&product, 1}, {});
}

}  // namespace rhapsode::model
