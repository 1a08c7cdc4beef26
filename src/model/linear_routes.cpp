#include "model/linear_routes.h"

#include <algorithm>
#include <cstring>

#include "base/thread_pool.h"
#include "plan/footprint.h"

namespace rhapsode::model {
namespace {

using quant::kBlockCols;
using quant::kPanelRows;

// Columns that a step takes: those of a panel and of the longest tile of tokens take about two thirds of the
// first cache. In blocks, as 4-bit weights come, and no more than the expanded columns' area holds, beside an
// absmax a row for each block of codes.
constexpr uint64_t kLongestTile = 12;
constexpr uint64_t cached_columns(uint64_t first_cache, uint64_t element_bytes, uint64_t most_blocks) {
  const uint64_t block_bytes = (kPanelRows + kLongestTile) * kBlockCols * element_bytes;
  const uint64_t blocks = (first_cache * 2 / 3 + block_bytes / 2) / block_bytes;
  return std::clamp<uint64_t>(blocks, 1, most_blocks) * kBlockCols;
}
constexpr uint64_t kAreaBytes = plan::kColumnBlock * sizeof(float);  // a row
constexpr uint64_t kMostFloats = kAreaBytes / (kBlockCols * sizeof(float));
constexpr uint64_t kMostCodes = kAreaBytes / (kBlockCols * sizeof(int16_t) + sizeof(float));
static_assert(cached_columns(32 << 10, 4, kMostFloats) == 128 &&
              cached_columns(48 << 10, 4, kMostFloats) == 192);
static_assert(cached_columns(32 << 10, 2, kMostCodes) == 256 &&
              cached_columns(48 << 10, 2, kMostCodes) == 384);
const uint64_t kDenseColumns = cached_columns(first_cache_bytes(), sizeof(float), kMostFloats);
const uint64_t kCodeColumns = cached_columns(first_cache_bytes(), sizeof(int16_t), kMostCodes);
// Columns of weights as bytes: 16 KiB at most.
constexpr uint64_t kByteColumns = 512;
// A heavy code is taken out where there is at most one for so many codes of a tile: to multiply it apart
// costs about what it costs to move the signs of so many.
constexpr uint64_t kCodesOfHeavy = 16;
// Pairs of bf16 are a quarter of two columns of floats and their weights; sums are fetched less often.
constexpr uint64_t kPairColumns = 256;
// Weights that stay in a core's caches beside the tokens, and tokens of a member that they are worth passing
// for: each member then multiplies all of them by tokens of its own. Where cores share no cache, what another
// one wrote is as far as memory. Larger weights are read once for all.
constexpr uint64_t kCachedBytes = uint64_t{4} << 20;
constexpr uint32_t kMemberTokens = 96;

uint64_t dense_columns(const Product& product) {
  return takes_pairs(product) ? kPairColumns : kDenseColumns;
}

uint64_t group_count(const Product& product) {
  return (product.tokens + tile_of(product) - 1) / tile_of(product);
}

// Tokens that the packed ones are filled up to.
uint64_t packed_tokens(const Product& product) {
  if (!takes_matrix(product)) return group_count(product) * tile_of(product);
  return (product.tokens + kernels::kMatrixRows - 1) / kernels::kMatrixRows * kernels::kMatrixRows;
}

// Tokens in groups of a tile, and columns in blocks that a pass over a panel takes at a time: [block][group]
// [column of the block][tile], so that a pass reads one stream, group by group. Dense: floats; the quantized
// routes put codes into the first part of the area, [pair of columns][tile][2] int16 or [quad of
// columns][tile][4] bytes, and scales and the like behind them.
template <class T>
T* packed_at(const Product& product, uint64_t block, uint64_t group, uint64_t k) {
  const uint64_t count = std::min(block, product.part->padded_cols - k);
  return reinterpret_cast<T*>(product.worker->packed) +
         (k * group_count(product) + group * count) * tile_of(product);
}
float* packed_floats(const Product& product, uint64_t group, uint64_t k) {
  return packed_at<float>(product, dense_columns(product), group, k);
}
// [pair of columns][tile], of blocks as long as a step takes.
uint32_t* packed_pairs(const Product& product, uint64_t block, uint64_t group, uint64_t k) {
  return reinterpret_cast<uint32_t*>(packed_at<uint16_t>(product, block, group, k));
}
int16_t* packed_codes(const Product& product, uint64_t group, uint64_t k) {
  return packed_at<int16_t>(product, kCodeColumns, group, k);
}
float* behind_codes(const Product& product) {
  return product.worker->packed + group_count(product) * tile_of(product) * product.part->padded_cols / 2;
}
// Columns of a block of bytes, of about as many each. Sums of ternary products are words, which hold no more.
uint64_t byte_columns(const Product& product) {
  if (route_of(product) == Route::ternary) return plan::kColumnBlock;
  const uint64_t blocks = (product.part->padded_cols + kBlockCols - 1) / kBlockCols;
  const uint64_t pieces = (product.part->padded_cols + kByteColumns - 1) / kByteColumns;
  return (blocks + pieces - 1) / pieces * kBlockCols;
}
int8_t* packed_bytes(const Product& product, uint64_t group, uint64_t k) {
  return packed_at<int8_t>(product, byte_columns(product), group, k);
}
// The bytes route: behind the codes what scale and offset a block has, in the order of group_scales.
kernels::Kernels::ByteBlock* byte_blocks(const Product& product, uint64_t group) {
  float* behind =
      product.worker->packed + group_count(product) * tile_of(product) * product.part->padded_cols / 4;
  return reinterpret_cast<kernels::Kernels::ByteBlock*>(behind) +
         group * (product.part->padded_cols / kBlockCols) * tile_of(product);
}
// [group][block of 64 columns][tile].
float* group_scales(const Product& product, uint64_t group) {
  return behind_codes(product) + group * (product.part->padded_cols / kBlockCols) * tile_of(product);
}

uint32_t group_tokens(const Product& product, uint64_t group) {
  return std::min<uint32_t>(tile_of(product),
                            product.tokens - static_cast<uint32_t>(group) * tile_of(product));
}

// A few tokens are multiplied straight from the panels: what many share would cost more than it saves. Dense:
// groups as ever, but of all columns at once; fixed: rows of codes, and their scales behind them.
bool is_few(const Product& product) {
  const Route route = route_of(product);
  if (takes_matrix(product)) return false;
  if (route == Route::fixed || route == Route::bytes)
    return product.tokens <= 2 * product.worker->kernels->few_tokens;
  return quant::is_dense(product.part->format.format) && group_count(product) <= 2;
}
float* few_floats(const Product& product, uint64_t group) {
  return packed_at<float>(product, product.part->padded_cols, group, 0);
}
kernels::Kernels::FewCodes few_codes(const Product& product, uint32_t first, uint32_t tokens) {
  const uint64_t cols = product.part->padded_cols, blocks = cols / kBlockCols;
  return {reinterpret_cast<const int16_t*>(product.worker->packed) + first * cols, cols,
          behind_codes(product) + first * blocks, blocks, tokens};
}

kernels::Kernels::FewBytes few_bytes(const Product& product, uint32_t first, uint32_t tokens) {
  const uint64_t cols = product.part->padded_cols, blocks = cols / kBlockCols;
  return {reinterpret_cast<const int8_t*>(product.worker->packed) + first * cols, cols,
          byte_blocks(product, 0) + first * blocks, blocks, tokens};
}

struct CodeRow {
  std::byte* codes;
  float* scales;
};
// One token's codes and scales in this member's own area.
CodeRow own_area(const Product& product) {
  auto* codes = reinterpret_cast<std::byte*>(product.worker->rows);
  return {codes, product.worker->rows + product.part->padded_cols / 2};
}

// Rows of int16 codes, each padded_cols long, become the group's packed codes: a pair of them moves as the
// four bytes of a float.
void pack_code_rows(const Product& product, uint64_t group, const int16_t* rows) {
  const uint64_t cols = product.part->padded_cols;
  for (uint64_t k = 0; k < cols; k += kCodeColumns)
    product.worker->kernels->pack_tokens(
        reinterpret_cast<const float*>(rows), cols / 2, group_tokens(product, group), k / 2,
        std::min(kCodeColumns, cols - k) / 2, reinterpret_cast<float*>(packed_codes(product, group, k)));
}

void pack_fixed_group(const Product& product, uint64_t group) {
  const uint32_t tile = tile_of(product);
  const uint64_t cols = product.part->padded_cols, blocks = cols / kBlockCols;
  const auto quantize = [&](uint64_t t, int16_t* codes, float* scales) {
    product.worker->kernels->quantize_fixed(product.part->format.format, token(product, t), cols, codes,
                                            scales);
  };
  if (is_few(product)) {
    for (uint64_t t = group * tile; t < group * tile + group_tokens(product, group); ++t)
      quantize(t, reinterpret_cast<int16_t*>(product.worker->packed) + t * cols,
               behind_codes(product) + t * blocks);
    return;
  }
  auto* rows = reinterpret_cast<int16_t*>(product.worker->rows);
  float* scales = group_scales(product, group);
  float* own = product.worker->expand;
  for (uint32_t t = 0; t < group_tokens(product, group); ++t) {
    quantize(group * tile + t, rows + t * cols, own);
    for (uint64_t b = 0; b < blocks; ++b) scales[b * tile + t] = own[b];
  }
  pack_code_rows(product, group, rows);
}

// Rows of bytes, each padded_cols long, become quads of columns: four bytes move as a float.
void pack_byte_rows(const Product& product, uint64_t group, const int8_t* rows) {
  if (takes_matrix(product))
    return place_byte_rows(product, group * tile_of(product), group_tokens(product, group), rows);
  const uint64_t cols = product.part->padded_cols, block = byte_columns(product);
  for (uint64_t k = 0; k < cols; k += block)
    product.worker->kernels->pack_tokens(reinterpret_cast<const float*>(rows), cols / 4,
                                         group_tokens(product, group), k / 4, std::min(block, cols - k) / 4,
                                         reinterpret_cast<float*>(packed_bytes(product, group, k)));
}

void pack_bytes_group(const Product& product, uint64_t group) {
  const uint32_t tile = tile_of(product);
  const uint64_t cols = product.part->padded_cols, blocks = cols / kBlockCols;
  auto* rows = reinterpret_cast<int8_t*>(product.worker->rows);
  auto* own = reinterpret_cast<kernels::Kernels::ByteBlock*>(product.worker->expand);
  const auto quantize = [&](uint64_t t, int8_t* codes, kernels::Kernels::ByteBlock* of_blocks) {
    product.worker->kernels->quantize_bytes(product.part->format.format, token(product, t), cols, codes,
                                            of_blocks);
  };
  if (is_few(product)) {
    for (uint64_t t = group * tile; t < group * tile + group_tokens(product, group); ++t)
      quantize(t, reinterpret_cast<int8_t*>(product.worker->packed) + t * cols,
               byte_blocks(product, 0) + t * blocks);
    return;
  }
  kernels::Kernels::ByteBlock* of_tokens = byte_blocks(product, group);
  for (uint32_t t = 0; t < group_tokens(product, group); ++t) {
    quantize(group * tile + t, rows + t * cols, own);
    for (uint64_t b = 0; b < blocks; ++b) of_tokens[b * tile + t] = own[b];
  }
  pack_byte_rows(product, group, rows);
}

// One token's codes, without those of its call's outlier columns. `last` is the call whose marks are
// gathered.
void quantize_int8_token(const Product& product, uint32_t index, int8_t* codes, float* scale, Call& last) {
  product.worker->kernels->quantize_int8(token(product, index), product.linear->cols,
                                         product.linear->int8_threshold, codes, scale);
  const Call call = call_of(product, index);
  if (call.tokens == 1 || !marks_outliers(product)) return;  // its own outliers have code 0 already
  const bool gathered = call.first_token == last.first_token && call.tokens == last.tokens;
  if (!gathered && !is_one_call(product)) gather_marks(product, call);
  last = call;
  clear_marked(product, codes);
}

// int8: behind a quarter of codes come lists of heavy ones, half as many dwords as columns; then, one a
// token, scales, sums of codes and numbers of heavy ones; then marks. A token takes 25/32 of its columns and
// 4 dwords at most, of an area of a dword a column for 16 columns and more.
struct Int8Tokens {
  uint32_t* heavy;  // [token][padded_cols / 2]
  float* scales;
  int32_t* sums;
  uint32_t* heavy_counts;
  uint32_t* marks;  // [token][mark_words]
};
Int8Tokens int8_tokens(const Product& product) {
  const uint64_t tokens = packed_tokens(product), cols = product.part->padded_cols;
  float* heavy = product.worker->packed + tokens * cols / 4;
  float* scales = heavy + tokens * cols / 2;
  return {reinterpret_cast<uint32_t*>(heavy), scales, reinterpret_cast<int32_t*>(scales + tokens),
          reinterpret_cast<uint32_t*>(scales + 2 * tokens), reinterpret_cast<uint32_t*>(scales + 3 * tokens)};
}

// The number of heavy codes of a group that keeps them.
constexpr uint32_t kKept = UINT32_MAX;

// Whether a group is multiplied with all of its codes.
bool keeps_codes(const Product& product, uint64_t group) {
  return takes_matrix(product) || product.worker->kernels->take_heavy == nullptr ||
         int8_tokens(product).heavy_counts[group * tile_of(product)] == kKept;
}

// Takes the heavy codes out of a group's rows, or none of them where they are many.
void take_heavy(const Product& product, uint64_t group, int8_t* rows) {
  const uint64_t first = group * tile_of(product), cols = product.part->padded_cols;
  const uint64_t tokens = group_tokens(product, group);
  const Int8Tokens at = int8_tokens(product);
  uint64_t taken = 0;
  for (uint64_t t = first; t < first + tokens; ++t)
    taken += at.heavy_counts[t] = product.worker->kernels->take_heavy(rows + (t - first) * cols, cols,
                                                                      at.heavy + t * (cols / 2), at.sums + t);
  if (taken * kCodesOfHeavy <= tokens * cols) return;
  for (uint64_t t = first; t < first + tokens; ++t) {
    const std::span<const uint32_t> heavy(at.heavy + t * (cols / 2), at.heavy_counts[t]);
    for (const uint32_t code : heavy) rows[(t - first) * cols + code / 256] = static_cast<int8_t>(code);
    at.heavy_counts[t] = kKept;
  }
}

void pack_int8_group(const Product& product, uint64_t group) {
  const auto first = static_cast<uint32_t>(group) * tile_of(product), tokens = group_tokens(product, group);
  const uint64_t cols = product.part->padded_cols;
  auto* rows = reinterpret_cast<int8_t*>(product.worker->rows);
  Call last{0, 0};
  for (uint32_t t = 0; t < tokens; ++t)
    quantize_int8_token(product, first + t, rows + t * cols, int8_tokens(product).scales + first + t, last);
  if (takes_matrix(product)) return pack_byte_rows(product, group, rows);
  if (product.worker->kernels->take_heavy != nullptr) take_heavy(product, group, rows);
  const uint64_t moved = keeps_codes(product, group) ? tokens * cols : 0;
  for (uint64_t at = 0; at < moved; ++at) rows[at] = static_cast<int8_t>(rows[at] ^ -128);  // + 128
  pack_byte_rows(product, group, rows);
}

// Ternary: few tokens as rows of bytes, [token][padded_cols]; more in groups, [quad of columns][tile][4] as
// those of the bytes route. The sums of the tokens' codes stand behind them, with room for rows that are
// filled up.
int8_t* code_row(const Product& product, uint64_t t) {
  return reinterpret_cast<int8_t*>(product.worker->packed) + t * product.part->padded_cols;
}
int32_t* code_sums(const Product& product) {
  return reinterpret_cast<int32_t*>(product.worker->packed +
                                    packed_tokens(product) * product.part->padded_cols / 2);
}

// Rows hold int8 values already. Returns their sum.
int32_t narrow(const Product& product, uint64_t t, int8_t* codes) {
  const uint64_t cols = product.linear->cols;
  std::memset(codes + cols, 0, product.part->padded_cols - cols);
  return product.worker->kernels->narrow_codes(token(product, t), cols, codes);
}

void pack_ternary_group(const Product& product, uint64_t group) {
  const uint64_t first = group * tile_of(product), cols = product.part->padded_cols;
  auto* rows = reinterpret_cast<int8_t*>(product.worker->rows);
  for (uint32_t t = 0; t < group_tokens(product, group); ++t)
    code_sums(product)[first + t] =
        narrow(product, first + t, has_code_rows(product) ? code_row(product, first + t) : rows + t * cols);
  if (has_code_rows(product)) return;
  pack_byte_rows(product, group, rows);
}

void pack_dense_group(const Product& product, uint64_t group) {
  const uint32_t tile = tile_of(product);
  if (takes_matrix(product)) return place_pairs(product, group * tile, group_tokens(product, group));
  const uint64_t cols = product.part->padded_cols;
  const Rows& x = product.x;
  const uint64_t block = is_few(product) ? cols : dense_columns(product);
  for (uint64_t k = 0; k < cols; k += block) {
    const uint64_t count = std::min(block, cols - k);
    if (takes_pairs(product)) {
      product.worker->kernels->pack_pairs(x.data + group * tile * x.stride, x.stride,
                                          group_tokens(product, group), k, count,
                                          packed_pairs(product, block, group, k));
      continue;
    }
    float* packed = packed_at<float>(product, block, group, k);
    product.worker->kernels->pack_tokens(x.data + group * tile * x.stride, x.stride,
                                         group_tokens(product, group), k, count, packed);
    if (product.part->format.compute != product.dtype)
      product.worker->kernels->round_row(product.part->format.compute, packed, tile * count);
  }
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

void run_vector(const Product& product, Range panels) {
  const kernels::Kernels& kernels = *product.worker->kernels;
  const uint64_t cols = product.part->padded_cols;
  const Route route = route_of(product);
  if (takes_codes(product) || (kernels.matrix != nullptr && takes_pairs(product))) {
    const auto gemv =
        (takes_codes(product) ? kernels.matrix->gemv_codes : kernels.matrix->gemv)[format_index(product)];
    return in_pairs(product, panels, [&](const void* a, const void* b, float* y_a, float* y_b) {
      gemv(a, b, product.x.data, cols, y_a, y_b);
    });
  }
  const CodeRow row = own_area(product);
  if (route == Route::dense) {
    const Dtype compute = product.part->format.compute;
    const float* x = product.x.data;
    if (compute != product.dtype) x = reinterpret_cast<const float*>(row.codes);
    return in_pairs(product, panels, [&](const void* a, const void* b, float* y_a, float* y_b) {
      if (quant::is_four_bit(product.part->format.format))
        return kernels.dequantized[format_index(product)].gemv(compute, a, b, x, cols, y_a, y_b);
      kernels.gemv[format_index(product)](a, b, x, cols, y_a, y_b);
    });
  }
  if (route == Route::bytes) {
    const auto gemv = kernels.gemv_bytes[format_index(product)];
    return in_pairs(product, panels, [&](const void* a, const void* b, float* y_a, float* y_b) {
      gemv(a, b, reinterpret_cast<const int8_t*>(row.codes),
           reinterpret_cast<const kernels::Kernels::ByteBlock*>(row.scales), cols, y_a, y_b);
    });
  }
  const auto gemv = kernels.gemv_quantized[format_index(product)];
  in_pairs(product, panels, [&](const void* a, const void* b, float* y_a, float* y_b) {
    gemv(a, b, row.codes, row.scales, cols, y_a, y_b);
  });
}

// As add_dense, by pairs of columns.
void add_pairs(const Product& product, Step& step) {
  const kernels::Kernels& kernels = *product.worker->kernels;
  const uint32_t tile = tile_of(product);
  const std::byte* panel = product.part->panel(step.panel);
  if (is_few(product))
    return step.for_tiles(tile, [&](uint32_t t, uint32_t tokens) {
      kernels.few_pairs(panel, packed_pairs(product, product.part->padded_cols, t / tile, 0), tokens,
                        step.count / 2, step.sums + uint64_t{t} * kPanelRows, kPanelRows);
    });
  auto* expanded = reinterpret_cast<uint32_t*>(product.worker->expand);
  kernels.expand_pairs[format_index(product)](panel, product.part->padded_cols, step.k, step.count, expanded);
  const uint32_t* pairs = packed_pairs(product, kPairColumns, step.block.first / tile, step.k);
  step.for_tiles(tile, [&](uint32_t t, uint32_t tokens) {
    kernels.tile_pairs(expanded, pairs + t * step.count / 2, tokens, step.count / 2,
                       step.sums + uint64_t{t} * kPanelRows, kPanelRows, step.k == 0);
  });
}

// A block of a panel's columns is expanded once and used for all tokens.
void add_dense(const Product& product, Step& step) {
  const kernels::Kernels& kernels = *product.worker->kernels;
  const plan::WeightFormat& format = product.part->format;
  const uint32_t tile = tile_of(product);
  if (is_few(product))
    return step.for_tiles(tile, [&](uint32_t t, uint32_t tokens) {
      kernels.few_dense[format_index(product)](product.part->panel(step.panel), few_floats(product, t / tile),
                                               tokens, step.count, step.sums + uint64_t{t} * kPanelRows,
                                               kPanelRows);
    });
  float* expanded = product.worker->expand;
  const std::byte* panel = product.part->panel(step.panel);
  const size_t index = format_index(product);
  if (quant::is_four_bit(format.format))
    kernels.dequantized[index].expand(format.compute, panel, product.part->padded_cols, step.k, step.count,
                                      expanded);
  else
    kernels.expand[index](panel, product.part->padded_cols, step.k, step.count, expanded);
  const float* floats = packed_floats(product, step.block.first / tile, step.k);
  step.for_tiles(tile, [&](uint32_t t, uint32_t tokens) {
    kernels.gemm_tile(expanded, floats + t * step.count, tokens, step.count,
                      step.sums + uint64_t{t} * kPanelRows, kPanelRows, step.k == 0);
  });
}

void add_int8_codes(const Product& product, Step& step) {
  const kernels::Kernels& kernels = *product.worker->kernels;
  const uint32_t tile = tile_of(product);
  const std::byte* panel = product.part->panel(step.panel);
  const int8_t* codes = packed_bytes(product, step.block.first / tile, step.k);
  auto* expanded = reinterpret_cast<uint8_t*>(product.worker->expand);
  bool is_expanded = false;
  step.for_tiles(tile, [&](uint32_t t, uint32_t tokens) {
    const int8_t* a = codes + t * step.count;
    float* sums = step.sums + uint64_t{t} * kPanelRows;
    if (keeps_codes(product, (step.block.first + t) / tile))
      return kernels.tile_int8(panel, step.k, reinterpret_cast<const uint8_t*>(a), tokens, step.count, sums,
                               kPanelRows);
    if (!is_expanded)
      kernels.expand_bytes[format_index(product)](panel, product.part->padded_cols, step.k, step.count,
                                                  expanded, nullptr);
    is_expanded = true;
    kernels.tile_quads(expanded, a, tokens, step.count / 4, sums, kPanelRows, step.k == 0);
  });
}

void add_int8(const Product& product, Step& step) {
  takes_matrix(product) ? add_matrix(product, step) : add_int8_codes(product, step);
  const uint64_t cols = product.part->padded_cols;
  if (step.k + step.count < cols) return;
  const kernels::Kernels& kernels = *product.worker->kernels;
  const std::byte* panel = product.part->panel(step.panel);
  const Int8Tokens at = int8_tokens(product);
  for (uint32_t i = 0; i < step.block.tokens; ++i) {
    const uint32_t t = step.block.first + i;
    float* sums = step.sums + uint64_t{i} * kPanelRows;
    if (!keeps_codes(product, t / tile_of(product)))
      kernels.add_heavy(panel, at.heavy + t * (cols / 2), at.heavy_counts[t], at.sums[t], sums);
    kernels.finish_int8(reinterpret_cast<const float*>(panel), at.scales[t], sums);
  }
}

// Up to 2 * few_tokens tokens in one pass or in two of about the same length: work(first token, tokens).
template <class Work>
void in_halves(const Step& step, uint32_t few_tokens, Work work) {
  const uint32_t tokens = step.block.tokens, pass = tokens <= few_tokens ? tokens : (tokens + 1) / 2;
  for (uint32_t t = 0; t < tokens; t += pass) work(t, std::min(pass, tokens - t));
}

void add_fixed(const Product& product, Step& step) {
  const kernels::Kernels& kernels = *product.worker->kernels;
  const uint32_t tile = tile_of(product);
  if (is_few(product))
    return in_halves(step, kernels.few_tokens, [&](uint32_t t, uint32_t tokens) {
      kernels.few_fixed[format_index(product)](product.part->panel(step.panel), few_codes(product, t, tokens),
                                               step.count, step.sums + uint64_t{t} * kPanelRows, kPanelRows);
    });
  auto* expanded = reinterpret_cast<int16_t*>(product.worker->expand);
  float* absmax = product.worker->expand + kCodeColumns * kPanelRows / 2;
  kernels.expand_codes[format_index(product)](product.part->panel(step.panel), product.part->padded_cols,
                                              step.k, step.count, expanded, absmax);
  const uint64_t group = step.block.first / tile, blocks = product.part->padded_cols / kBlockCols;
  const int16_t* codes = packed_codes(product, group, step.k);
  const float* scales = group_scales(product, group) + step.k / kBlockCols * tile;
  step.for_tiles(tile, [&](uint32_t t, uint32_t tokens) {
    kernels.tile_fixed(
        {expanded, absmax, codes + t * step.count, scales + t * blocks, tokens, step.count / kBlockCols},
        step.sums + uint64_t{t} * kPanelRows, kPanelRows, step.k == 0);
  });
}

void add_bytes(const Product& product, Step& step) {
  const kernels::Kernels& kernels = *product.worker->kernels;
  const uint32_t tile = tile_of(product);
  if (is_few(product))
    return in_halves(step, kernels.few_tokens, [&](uint32_t t, uint32_t tokens) {
      kernels.few_bytes[format_index(product)](product.part->panel(step.panel), few_bytes(product, t, tokens),
                                               step.count, step.sums + uint64_t{t} * kPanelRows, kPanelRows);
    });
  auto* expanded = reinterpret_cast<uint8_t*>(product.worker->expand);
  float* absmax = product.worker->expand + kByteColumns * kPanelRows / 4;
  kernels.expand_bytes[format_index(product)](product.part->panel(step.panel), product.part->padded_cols,
                                              step.k, step.count, expanded, absmax);
  const uint64_t group = step.block.first / tile, blocks = product.part->padded_cols / kBlockCols;
  const int8_t* codes = packed_bytes(product, group, step.k);
  const kernels::Kernels::ByteBlock* scales = byte_blocks(product, group) + step.k / kBlockCols * tile;
  step.for_tiles(tile, [&](uint32_t t, uint32_t tokens) {
    kernels.tile_bytes(
        {expanded, absmax, codes + t * step.count, scales + t * blocks, tokens, step.count / kBlockCols},
        step.sums + uint64_t{t} * kPanelRows, kPanelRows, step.k == 0);
  });
}

void add_ternary(const Product& product, Step& step) {
  const kernels::Kernels& kernels = *product.worker->kernels;
  const uint64_t cols = product.part->padded_cols;
  const std::byte* panel = product.part->panel(step.panel);
  const int32_t* sums = code_sums(product) + step.block.first;
  if (has_code_rows(product))
    return kernels.dot_ternary(panel, code_row(product, step.block.first), cols, sums, step.block.tokens,
                               cols, step.sums, kPanelRows);
  if (takes_matrix(product)) {
    add_matrix(product, step);
  } else {
    static_assert(plan::kColumnBlock <= 4 * kernels::kTritQuads);
    const uint32_t tile = tile_of(product);
    auto* expanded = reinterpret_cast<uint8_t*>(product.worker->expand);
    const int8_t* codes = packed_bytes(product, step.block.first / tile, step.k);
    kernels.expand_trits(panel, step.k, step.count, expanded);
    step.for_tiles(tile, [&](uint32_t t, uint32_t tokens) {
      kernels.tile_trits(expanded, codes + t * step.count, tokens, step.count / 4,
                         step.sums + uint64_t{t} * kPanelRows, kPanelRows, step.k == 0);
    });
  }
  for (uint32_t t = 0; t < step.block.tokens && step.k + step.count == cols; ++t)
    kernels.finish_trits(sums[t], step.sums + uint64_t{t} * kPanelRows);
}

void add(const Product& product, Step& step) {
  switch (route_of(product)) {
    case Route::dense:
      if (takes_matrix(product)) return add_matrix(product, step);
      return takes_pairs(product) ? add_pairs(product, step) : add_dense(product, step);
    case Route::fixed:
      return takes_matrix(product) ? add_matrix(product, step) : add_fixed(product, step);
    case Route::bytes:
      return add_bytes(product, step);
    case Route::ternary:
      return add_ternary(product, step);
    case Route::int8:
      return add_int8(product, step);
  }
}

// Columns that one step takes.
uint64_t step_columns(const Product& product) {
  const Route route = route_of(product);
  if (takes_matrix(product)) return matrix_columns(product);
  if (is_few(product) || (route == Route::ternary && has_code_rows(product)))
    return product.part->padded_cols;
  if (route == Route::dense) return dense_columns(product);
  return route == Route::fixed ? kCodeColumns : byte_columns(product);
}

// Whether panels are multiplied one after the other, each from its first column to its last: their bytes then
// come in the order in which they lie, and few tokens stay in the second cache whole.
bool goes_by_panels(const Product& product, TokenBlock block) {
  return takes_matrix(product) && block.tokens <= kernels::kMatrixTokens;
}

// A few panels together: the tokens' columns of a step stay in the second cache from panel to panel, beside
// the sums.
void run_panels(const Product& product, Range panels, TokenBlock block) {
  const uint64_t cols = product.part->padded_cols, columns = step_columns(product);
  const auto sums = [&](uint64_t panel) {
    return product.worker->sums + (panel - panels.begin) * block.tokens * kPanelRows;
  };
  struct Place {
    uint64_t panel, k;
  };
  const uint64_t pieces = (cols + columns - 1) / columns, count = panels.end - panels.begin;
  const bool by_panels = goes_by_panels(product, block);
  const auto place = [&](uint64_t i) {
    return by_panels ? Place{panels.begin + i / pieces, i % pieces * columns}
                     : Place{panels.begin + i % count, i / count * columns};
  };
  // The columns of a step lie about here, in any format.
  const auto upcoming = [&](Place at) {
    const uint64_t bytes = product.part->panel_bytes, taken = std::min(columns, cols - at.k);
    return Upcoming(product.part->panel(at.panel) + bytes * at.k / cols, bytes * taken / cols,
                    (block.tokens + tile_of(product) - 1) / tile_of(product));
  };
  for (uint64_t i = 0; i < pieces * count; ++i) {
    const Place at = place(i);
    Step step{at.panel, at.k, std::min(columns, cols - at.k), block, sums(at.panel), {}};
    if (i + 1 < pieces * count)
      step.upcoming = upcoming(place(i + 1));
    else if (takes_matrix(product) && panels.end < product.part->panels)  // what comes next, as a rule
      step.upcoming = upcoming({panels.end, 0});
    add(product, step);
  }
  for (uint64_t panel = panels.begin; panel < panels.end; ++panel)
    finish_block(product, panel, block, sums(panel));
}

}  // namespace

void pack(const Product& product) {
  const Route route = route_of(product);
  const Range groups = share(group_count(product), product.worker->member, product.worker->members);
  if (route == Route::int8 && marks_outliers(product)) {
    const uint64_t tile = tile_of(product);
    mark_tokens(product, {groups.begin * tile, std::min<uint64_t>(groups.end * tile, product.tokens)});
    product.worker->pool->barrier();  // a call's tokens may be marked by several members
    if (is_one_call(product)) gather_marks(product, call_of(product, 0));
  }
  for (uint64_t group = groups.begin; group < groups.end; ++group) {
    if (route == Route::dense || takes_codes(product))
      pack_dense_group(product, group);
    else if (route == Route::fixed)
      pack_fixed_group(product, group);
    else if (route == Route::bytes)
      pack_bytes_group(product, group);
    else if (route == Route::ternary)
      pack_ternary_group(product, group);
    else
      pack_int8_group(product, group);
  }
}

void quantize_vector(const Product& product) {
  const kernels::Kernels& kernels = *product.worker->kernels;
  const float threshold = product.linear->int8_threshold;
  const float* x = token(product, 0);
  const CodeRow row = own_area(product);
  switch (route_of(product)) {
    case Route::dense: {
      const Dtype compute = product.part->format.compute;
      if (compute == product.dtype) return;
      auto* rounded = reinterpret_cast<float*>(row.codes);
      std::copy_n(x, product.part->padded_cols, rounded);
      return kernels.round_row(compute, rounded, product.part->padded_cols);
    }
    case Route::ternary:
      *row.scales = static_cast<float>(narrow(product, 0, reinterpret_cast<int8_t*>(row.codes)));
      return;
    case Route::fixed:
      if (takes_codes(product)) return;
      return kernels.quantize_fixed(product.part->format.format, x, product.part->padded_cols,
                                    reinterpret_cast<int16_t*>(row.codes), row.scales);
    case Route::bytes:
      return kernels.quantize_bytes(product.part->format.format, x, product.part->padded_cols,
                                    reinterpret_cast<int8_t*>(row.codes),
                                    reinterpret_cast<kernels::Kernels::ByteBlock*>(row.scales));
    case Route::int8:
      kernels.quantize_int8(x, product.linear->cols, threshold, reinterpret_cast<int8_t*>(row.codes),
                            row.scales);
      if (marks_outliers(product))
        kernels.mark_outliers(x, product.linear->cols, threshold, product.worker->marks);
  }
}

uint32_t token_parts(const Product& product) {
  const uint32_t members = product.worker->members;
  const bool cached = product.part->panels * product.part->panel_bytes <= kCachedBytes;
  return takes_tiles(product) && cached && product.tokens / members >= kMemberTokens ? members : 1;
}

TokenBlock token_part(const Product& product, uint32_t index) {
  const uint32_t unit = takes_matrix(product) ? kernels::kMatrixTokens : tile_of(product);
  const Range units = share((product.tokens + unit - 1) / unit, index, token_parts(product));
  const auto first = static_cast<uint32_t>(units.begin) * unit;
  return {first, std::min(static_cast<uint32_t>(units.end) * unit, product.tokens) - first};
}

void run(const Product& product, Range panels, TokenBlock part) {
  if (!takes_tiles(product)) {
    run_vector(product, panels);
    finish_row(product, panels);
  }
  const uint32_t block = takes_matrix(product) ? kMatrixTokenBlock : plan::kTokenBlock;
  for (uint32_t first = part.first; takes_tiles(product) && first < part.end(); first += block)
    run_panels(product, panels, {first, std::min(block, part.end() - first)});
  if (route_of(product) == Route::int8) add_outliers(product, panels, part);
}

uint32_t* token_marks(const Product& product, uint64_t t) {
  return int8_tokens(product).marks + t * mark_words(product);
}

}  // namespace rhapsode::model
