#include "model/linear_routes.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "plan/footprint.h"
#include "quant/codec.h"

namespace rhapsode::model {
namespace {

using quant::kBlockCols;
using quant::kPanelRows;

uint32_t tile_of(const Product& product) {
  return product.worker->kernels->gemm_tokens;
}

size_t format_index(const Product& product) {
  return static_cast<size_t>(product.part->format.format);
}

// Tokens in groups of a tile, one after the other: [group][padded_cols][tile] floats for dense; the quantized
// routes put [padded_cols / 2][tile][2] int16 codes there and the group's scales behind them.
float* group_area(const Product& product, uint64_t group) {
  return product.worker->packed + group * tile_of(product) * product.part->padded_cols;
}
int16_t* group_codes(const Product& product, uint64_t group) {
  return reinterpret_cast<int16_t*>(group_area(product, group));
}
float* group_scales(const Product& product, uint64_t group) {
  return group_area(product, group) + tile_of(product) * product.part->padded_cols / 2;
}

uint32_t group_tokens(const Product& product, uint64_t group) {
  return std::min<uint32_t>(tile_of(product),
                            product.tokens - static_cast<uint32_t>(group) * tile_of(product));
}

const float* token(const Product& product, uint64_t t) {
  return product.x.data + t * product.x.stride;
}

// An element of a token that int8 leaves to the outlier columns.
bool is_outlier(const Product& product, uint64_t t, uint64_t k) {
  return std::fabs(round_to(Dtype::f16, token(product, t)[k])) >= product.linear->int8_threshold;
}

Call call_of(const Product& product, uint32_t t) {
  if (!product.linear->int8_row_outliers)
    for (const Call& call : product.x.calls)
      if (t - call.first_token < call.tokens) return call;
  return {t, 1};
}

// Columns that are outliers for any token of the call, ascending.
void outlier_columns(const Product& product, Call call, std::vector<uint32_t>& columns) {
  columns.clear();
  if (std::isnan(product.linear->int8_threshold)) return;
  // Rounding to f16 is monotonic: below this nothing can reach the threshold.
  const float at_least = product.linear->int8_threshold * 0.999f;
  for (uint32_t t = call.first_token; t < call.first_token + call.tokens; ++t)
    for (uint32_t k = 0; k < product.linear->cols; ++k)
      if (std::fabs(token(product, t)[k]) >= at_least && is_outlier(product, t, k)) columns.push_back(k);
  std::sort(columns.begin(), columns.end());
  columns.erase(std::unique(columns.begin(), columns.end()), columns.end());
}

struct CodeRow {
  std::byte* codes;
  float* scales;
};
// One token's codes and scales in this member's own area.
CodeRow own_area(const Product& product) {
  auto* codes = reinterpret_cast<std::byte*>(product.worker->expand);
  return {codes, product.worker->expand + product.part->padded_cols / 2};
}

CodeRow quantize_token(const Product& product, Route route, uint64_t t) {
  const CodeRow row = own_area(product);
  const kernels::Kernels& kernels = *product.worker->kernels;
  if (route == Route::int8)
    kernels.quantize_int8(token(product, t), product.linear->cols, product.linear->int8_threshold,
                          reinterpret_cast<int8_t*>(row.codes), row.scales);
  else
    kernels.quantize_fixed(product.part->format.format, token(product, t), product.part->padded_cols,
                           reinterpret_cast<int16_t*>(row.codes), row.scales);
  return row;
}

void pack_fixed_group(const Product& product, uint64_t group) {
  const uint32_t tile = tile_of(product);
  const uint64_t pairs = product.part->padded_cols / 2, blocks = product.part->padded_cols / kBlockCols;
  int16_t* codes = group_codes(product, group);
  float* scales = group_scales(product, group);
  for (uint32_t t = 0; t < group_tokens(product, group); ++t) {
    const CodeRow row = quantize_token(product, Route::fixed, group * tile + t);
    for (uint64_t p = 0; p < pairs; ++p) std::memcpy(codes + (p * tile + t) * 2, row.codes + p * 4, 4);
    for (uint64_t b = 0; b < blocks; ++b) scales[b * tile + t] = row.scales[b];
  }
}

void pack_int8_group(const Product& product, uint64_t group, std::vector<uint32_t>& columns) {
  const uint32_t tile = tile_of(product);
  int16_t* codes = group_codes(product, group);
  Call last{0, 0};
  for (uint32_t t = 0; t < group_tokens(product, group); ++t) {
    const uint32_t index = static_cast<uint32_t>(group) * tile + t;
    const CodeRow row = quantize_token(product, Route::int8, index);
    const auto* bytes = reinterpret_cast<const int8_t*>(row.codes);
    for (uint64_t k = 0; k < product.part->padded_cols; ++k) codes[(k / 2 * tile + t) * 2 + k % 2] = bytes[k];
    group_scales(product, group)[t] = *row.scales;
    const Call call = call_of(product, index);
    if (call.tokens == 1) continue;  // its own outliers have code 0 already
    if (call.first_token != last.first_token || call.tokens != last.tokens)
      outlier_columns(product, call, columns);
    last = call;
    for (const uint32_t k : columns) codes[(k / 2 * tile + t) * 2 + k % 2] = 0;
  }
}

// Rows hold int8 values already: [token][padded_cols] bytes from the start of the packed area.
int8_t* ternary_codes(const Product& product, uint64_t t) {
  return reinterpret_cast<int8_t*>(product.worker->packed) + t * product.part->padded_cols;
}

void narrow(const Product& product, uint64_t t, int8_t* codes) {
  const float* x = token(product, t);
  for (uint64_t k = 0; k < product.linear->cols; ++k) codes[k] = static_cast<int8_t>(x[k]);
  std::memset(codes + product.linear->cols, 0, product.part->padded_cols - product.linear->cols);
}

void pack_ternary_group(const Product& product, uint64_t group) {
  const uint64_t first = group * tile_of(product);
  for (uint32_t t = 0; t < group_tokens(product, group); ++t)
    narrow(product, first + t, ternary_codes(product, first + t));
}

void pack_dense_group(const Product& product, uint64_t group) {
  const uint32_t tile = tile_of(product);
  const uint64_t cols = product.part->padded_cols;
  const Rows& x = product.x;
  float* packed = group_area(product, group);
  product.worker->kernels->pack_tokens(x.data + group * tile * x.stride, x.stride,
                                       group_tokens(product, group), 0, cols, packed);
  if (product.part->format.compute != product.dtype)
    product.worker->kernels->round_row(product.part->format.compute, packed, tile * cols);
}

// All tokens by one panel, which stays in the first cache.
void run_ternary_panel(const Product& product, uint64_t panel) {
  for (uint32_t t = 0; t < product.tokens; t += kernels::kTernaryTokens)
    product.worker->kernels->dot_ternary(product.part->panel(panel), ternary_codes(product, t),
                                         product.part->padded_cols,
                                         std::min(kernels::kTernaryTokens, product.tokens - t),
                                         product.part->padded_cols, product.out(t, panel), product.y_stride);
}

// One token: two distant panels at a time, so that each thread keeps two streams of memory requests in
// flight. gemv(a, b, y_a, y_b) with b null for a last one.
template <class Gemv>
void in_pairs(const Product& product, Range panels, Gemv gemv) {
  const uint64_t half = (panels.end - panels.begin) / 2;
  for (uint64_t i = 0; i < half; ++i) {
    const uint64_t a = panels.begin + i, b = panels.begin + half + i;
    gemv(product.part->panel(a), product.part->panel(b), product.out(0, a), product.out(0, b));
  }
  if ((panels.end - panels.begin) % 2 != 0)
    gemv(product.part->panel(panels.end - 1), static_cast<const std::byte*>(nullptr),
         product.out(0, panels.end - 1), static_cast<float*>(nullptr));
}

void run_vector(const Product& product, Route route, Range panels, bool ready) {
  const kernels::Kernels& kernels = *product.worker->kernels;
  const uint64_t cols = product.part->padded_cols;
  if (route == Route::dense) {
    const auto gemv = kernels.gemv[format_index(product)];
    return in_pairs(product, panels, [&](const void* a, const void* b, float* y_a, float* y_b) {
      gemv(a, b, product.x.data, cols, y_a, y_b);
    });
  }
  if (route == Route::ternary) {
    auto* codes = reinterpret_cast<int8_t*>(own_area(product).codes);
    if (!ready) narrow(product, 0, codes);
    for (uint64_t panel = panels.begin; panel < panels.end; ++panel)
      kernels.dot_ternary(product.part->panel(panel), codes, cols, 1, cols, product.out(0, panel),
                          product.y_stride);
    return;
  }
  const CodeRow row = ready ? own_area(product) : quantize_token(product, route, 0);
  const auto gemv = kernels.gemv_quantized[format_index(product)];
  in_pairs(product, panels, [&](const void* a, const void* b, float* y_a, float* y_b) {
    gemv(a, b, row.codes, row.scales, cols, y_a, y_b);
  });
}

// Many tokens: a block of a panel's columns is expanded once and used for all of them.
void run_dense_panel(const Product& product, uint64_t panel) {
  const kernels::Kernels& kernels = *product.worker->kernels;
  const plan::WeightFormat& format = product.part->format;
  const uint32_t tile = tile_of(product);
  const uint64_t cols = product.part->padded_cols;
  float* expanded = product.worker->expand;
  for (uint64_t k = 0; k < cols; k += plan::kColumnBlock) {
    const uint64_t count = std::min(plan::kColumnBlock, cols - k);
    kernels.expand[format_index(product)](product.part->panel(panel), cols, k, count, expanded);
    if (quant::is_four_bit(format.format)) kernels.round_row(format.compute, expanded, count * kPanelRows);
    for (uint32_t t = 0; t < product.tokens; t += tile)
      kernels.gemm_tile(expanded, group_area(product, t / tile) + k * tile,
                        std::min(tile, product.tokens - t), count, product.out(t, panel), product.y_stride,
                        k == 0);
  }
}

void run_int8_panel(const Product& product, uint64_t panel) {
  const kernels::Kernels& kernels = *product.worker->kernels;
  const uint32_t tile = tile_of(product);
  const uint64_t cols = product.part->padded_cols;
  auto* expanded = reinterpret_cast<int16_t*>(product.worker->expand);
  for (uint64_t k = 0; k < cols; k += plan::kColumnBlock) {
    const uint64_t count = std::min(plan::kColumnBlock, cols - k);
    kernels.expand_codes[format_index(product)](product.part->panel(panel), cols, k, count, expanded,
                                                nullptr);
    for (uint32_t t = 0; t < product.tokens; t += tile)
      kernels.tile_int16(expanded, group_codes(product, t / tile) + k * tile,
                         std::min(tile, product.tokens - t), count / 2, product.out(t, panel),
                         product.y_stride, k == 0);
  }
  const auto* scb = reinterpret_cast<const float*>(product.part->panel(panel));
  for (uint32_t t = 0; t < product.tokens; ++t)
    kernels.finish_int8(scb, group_scales(product, t / tile)[t % tile], product.out(t, panel));
}

void run_fixed_panel(const Product& product, uint64_t panel) {
  const kernels::Kernels& kernels = *product.worker->kernels;
  const uint32_t tile = tile_of(product);
  const uint64_t cols = product.part->padded_cols;
  auto* expanded = reinterpret_cast<int16_t*>(product.worker->expand);
  float* absmax = product.worker->expand + plan::kColumnBlock * kPanelRows / 2;
  for (uint64_t k = 0; k < cols; k += plan::kColumnBlock) {
    const uint64_t count = std::min(plan::kColumnBlock, cols - k);
    kernels.expand_codes[format_index(product)](product.part->panel(panel), cols, k, count, expanded, absmax);
    for (uint32_t t = 0; t < product.tokens; t += tile) {
      const uint64_t group = t / tile;
      kernels.tile_fixed({expanded, absmax, group_codes(product, group) + k * tile,
                          group_scales(product, group) + k / kBlockCols * tile,
                          std::min(tile, product.tokens - t), count / kBlockCols},
                         product.out(t, panel), product.y_stride, k == 0);
    }
  }
}

// y = R(y + sum over columns of x * dequantized weight), the sum by fma in ascending order.
void add_columns(const Product& product, Call call, const std::vector<uint32_t>& columns, uint64_t panel) {
  const std::byte* data = product.part->panel(panel);
  for (uint32_t t = call.first_token; t < call.first_token + call.tokens; ++t) {
    float sums[kPanelRows] = {};
    for (const uint32_t k : columns) {
      const float x = token(product, t)[k];
      for (uint32_t row = 0; row < kPanelRows; ++row) {
        float scb;
        std::memcpy(&scb, data + row * 4, 4);
        const auto code =
            std::to_integer<int8_t>(data[quant::kInt8HeaderBytes + (k / 4 * kPanelRows + row) * 4 + k % 4]);
        sums[row] = std::fma(x, round_to(product.dtype, quant::int8_value(code, scb)), sums[row]);
      }
    }
    float* y = product.out(t, panel);
    for (uint32_t row = 0; row < kPanelRows; ++row) y[row] = round_to(product.dtype, y[row] + sums[row]);
  }
}

}  // namespace

bool takes_tiles(const Product& product, Route route) {
  return product.tokens > 1 || (route == Route::dense && (!quant::is_dense(product.part->format.format) ||
                                                          product.part->format.compute != product.dtype));
}

void pack(const Product& product, Route route) {
  const uint32_t tile = tile_of(product);
  const Range groups =
      share((product.tokens + tile - 1) / tile, product.worker->member, product.worker->members);
  std::vector<uint32_t> columns;
  for (uint64_t group = groups.begin; group < groups.end; ++group) {
    if (route == Route::dense)
      pack_dense_group(product, group);
    else if (route == Route::fixed)
      pack_fixed_group(product, group);
    else if (route == Route::ternary)
      pack_ternary_group(product, group);
    else
      pack_int8_group(product, group, columns);
  }
}

void run(const Product& product, Route route, Range panels, bool ready) {
  if (!takes_tiles(product, route)) return run_vector(product, route, panels, ready);
  for (uint64_t panel = panels.begin; panel < panels.end; ++panel) {
    if (route == Route::dense)
      run_dense_panel(product, panel);
    else if (route == Route::fixed)
      run_fixed_panel(product, panel);
    else if (route == Route::ternary)
      run_ternary_panel(product, panel);
    else
      run_int8_panel(product, panel);
  }
}

void add_outliers(const Product& product, Range panels) {
  std::vector<uint32_t> columns;
  for (uint32_t t = 0; t < product.tokens;) {
    const Call call = call_of(product, t);
    outlier_columns(product, call, columns);
    for (uint64_t panel = panels.begin; panel < panels.end && !columns.empty(); ++panel)
      add_columns(product, call, columns, panel);
    t = call.first_token + call.tokens;
  }
}

}  // namespace rhapsode::model
