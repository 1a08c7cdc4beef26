#include "plan/footprint.h"

#include <algorithm>
#include <utility>

#include "arch/tensor_names.h"
#include "base/checked.h"
#include "kernels/kernels.h"

namespace rhapsode::plan {

uint64_t padded_rows(uint64_t rows) {
  return quant::panel_count(rows) * quant::kPanelRows;
}

uint64_t linear_rows(const arch::LinearSource& source) {
  uint64_t rows = 0;
  for (const arch::LinearPart& part : source.parts) rows += padded_rows(part.rows);
  return rows;
}

uint64_t part_bytes(const WeightFormat& format, uint64_t rows, uint64_t cols) {
  return quant::packed_bytes(format.format, rows, cols) + (format.own_map ? quant::kNestedMapBytes : 0);
}

uint64_t linear_bytes(const Formats& formats, const arch::LinearSource& source) {
  uint64_t bytes = 0;
  for (const arch::LinearPart& part : source.parts)
    bytes += round_up(part_bytes(formats.of(part, source.cols), part.rows, source.cols), kAlignBytes);
  return bytes;
}

uint64_t linear_metadata_bytes(const Formats& formats, const arch::LinearSource& source) {
  uint64_t bytes = 0;
  for (const arch::LinearPart& part : source.parts) {
    const WeightFormat format = formats.of(part, source.cols);
    bytes += quant::panel_count(part.rows) * quant::panel_metadata_bytes(format.format, source.cols) +
             (format.own_map ? quant::kNestedMapBytes : 0);
  }
  return bytes;
}

uint64_t bias_bytes(const arch::LinearSource& source) {
  for (const arch::LinearPart& part : source.parts)
    if (!part.bias.empty()) return linear_rows(source) * sizeof(float);
  return 0;
}

uint64_t norm_bytes(const arch::NormSource& norm) {
  const uint64_t vectors = (norm.weight.empty() ? 0 : 1) + (norm.bias.empty() ? 0 : 1);
  return vectors * round_up(norm.length * sizeof(float), kAlignBytes);
}

uint64_t embed_bytes(const arch::Spec& spec, Dtype dtype) {
  if (spec.tie_word_embeddings) return 0;
  return round_up(spec.vocab_size * spec.hidden_size * dtype_bytes(dtype), kAlignBytes);
}

namespace {

uint64_t whole_linear(const Formats& formats, const arch::LinearSource& source) {
  return linear_bytes(formats, source) + bias_bytes(source);
}

}  // namespace

uint64_t layer_bytes(const Formats& formats, const arch::LayerTensors& layer) {
  uint64_t bytes = 0;
  for (const arch::LinearSource* linear : {&layer.qkv, &layer.o, &layer.up, &layer.down})
    bytes += whole_linear(formats, *linear);
  for (const arch::NormSource* norm : arch::layer_norms(layer)) bytes += norm_bytes(*norm);
  return bytes;
}

uint64_t head_bytes(const Formats& formats, const arch::ModelTensors& tensors) {
  return whole_linear(formats, tensors.lm_head);
}

uint64_t layer_metadata_bytes(const Formats& formats, const arch::LayerTensors& layer) {
  uint64_t bytes = 0;
  for (const arch::LinearSource* linear : {&layer.qkv, &layer.o, &layer.up, &layer.down})
    bytes += linear_metadata_bytes(formats, *linear);
  return bytes;
}

uint64_t kv_head_bytes(const arch::Spec& spec, Dtype kv_dtype) {
  const uint64_t elements = spec.head_dim * kernels::kBlockTokens * dtype_bytes(kv_dtype);
  return elements + (kv_dtype == Dtype::i8 ? kernels::kBlockTokens * sizeof(float) : 0);
}

uint64_t kv_block_bytes(const arch::Spec& spec, Dtype kv_dtype) {
  return spec.num_hidden_layers * 2 * spec.num_key_value_heads * kv_head_bytes(spec, kv_dtype);
}

uint64_t kv_blocks(uint64_t context_tokens) {
  return (context_tokens + kernels::kBlockTokens - 1) / kernels::kBlockTokens;
}

uint64_t kv_bytes(const arch::Spec& spec, Dtype kv_dtype, uint64_t context_tokens) {
  return kv_blocks(context_tokens) * kv_block_bytes(spec, kv_dtype);
}

uint64_t screen_codes_bytes(uint64_t rows, uint64_t cols) {
  return round_up(quant::packed_bytes(quant::Format::int8, rows, cols), kAlignBytes);
}

uint64_t screen_bounds_bytes(uint64_t rows) {
  return round_up(padded_rows(rows) * sizeof(float), kAlignBytes);
}

uint64_t head_screen_bytes(const arch::LinearSource& head) {
  const uint64_t rows = head.parts.front().rows;
  return screen_codes_bytes(rows, head.cols) + 2 * screen_bounds_bytes(rows);
}

TileShape tile_shape(const kernels::Kernels& kernels) {
  if (kernels.matrix == nullptr) return {kernels.gemm_tokens, 1, kPanelGroup};
  return {kernels.gemm_tokens, kernels::kMatrixRows, kMatrixPanelGroup};
}

namespace {

// Of the sums of a pass over panels: those of the layers' matrices, and of the head's, whose tokens are rows
// of logits.
uint64_t sums_floats(const arch::Spec& spec, const StepLimits& limits) {
  const auto floats = [&](uint64_t tokens, uint64_t rows) {
    return std::min<uint64_t>(kTokenBlock, tokens) *
           std::min<uint64_t>(limits.tiles.panels, quant::panel_count(rows)) * quant::kPanelRows;
  };
  // A part may be query, key and value rows together, or gate and up.
  const uint64_t rows =
      std::max({spec.hidden_size, spec.q_rows() + 2 * spec.kv_rows(), 2 * spec.intermediate_size});
  return std::max(floats(limits.chunk_tokens, rows), floats(limits.logits_rows, spec.vocab_size));
}

}  // namespace

WorkspaceLayout workspace_layout(const arch::Spec& spec, const StepLimits& limits) {
  const uint64_t tokens = limits.chunk_tokens;
  const uint64_t group = spec.num_attention_heads / spec.num_key_value_heads;
  const uint64_t split_tokens = std::min<uint64_t>(tokens, kSplitTokens);
  const uint64_t chunks = (kv_blocks(limits.context_tokens) + kChunkBlocks - 1) / kChunkBlocks;
  const uint64_t inner = padded_rows(spec.intermediate_size);
  const bool parallel = spec.residual != arch::ResidualKind::sequential;

  WorkspaceLayout at{};
  at.hidden_stride = padded_rows(spec.hidden_size);
  at.qkv_stride = padded_rows(spec.q_rows()) + 2 * padded_rows(spec.kv_rows());
  at.attn_stride = padded_rows(spec.q_rows());
  at.up_stride = spec.ffn == arch::FfnKind::glu ? 2 * inner : inner;
  at.logits_stride = padded_rows(spec.vocab_size);
  at.query_rows = static_cast<uint32_t>(std::max<uint64_t>(group, kQueryRows / group * group));
  uint64_t next = 0;
  const auto take = [&next](uint64_t floats) {
    const uint64_t start = next;
    next += round_up(floats, kAlignBytes / sizeof(float));
    return start;
  };
  at.x = take(tokens * at.hidden_stride);
  at.normed = take(tokens * at.hidden_stride);
  // The inner state of a feed-forward block begins when attention is over.
  at.qkv = take(tokens * at.qkv_stride);
  at.attn = take(tokens * at.attn_stride);
  const uint64_t after_attention = std::exchange(next, at.qkv);
  at.up = take(tokens * at.up_stride);
  next = std::max(next, after_attention);
  // What a block adds is there when its input is not needed any more, but where a matrix norms its own input.
  at.branch = parallel || spec.linear_norm_eps ? take(tokens * at.hidden_stride) : at.normed;
  at.branch2 = take(parallel ? tokens * at.hidden_stride : 0);
  uint64_t rotary = 0;
  for (const arch::RopeTable& table : spec.rope_tables) rotary += table.rotary_dims;
  at.rope = take(tokens * rotary);
  at.factors = take(tokens);
  const uint64_t widest = round_up(std::max({spec.hidden_size, spec.q_rows(), inner}), quant::kTernaryCols);
  at.packed = take(
      std::max(round_up(tokens, limits.tiles.tokens), round_up(tokens, limits.tiles.matrix_rows)) * widest);
  at.partials = take(split_tokens * spec.num_attention_heads * chunks * (spec.head_dim + 2));
  at.logits = take(limits.logits_rows * at.logits_stride);
  at.threads = next;
  // Of each thread: a block of expanded columns; sums of a panel; codes of a tile of tokens; outlier bits;
  // then for attention q, o, o of a chunk, scores, m, l, m and l of a chunk, and visible ranges.
  const uint64_t rows = at.query_rows;
  next = round_up(std::max(kColumnBlock * quant::kPanelRows, widest), 16);
  at.sums = take(sums_floats(spec, limits));
  at.rows = take(limits.tiles.tokens * widest / 2);
  at.marks = take((widest + 31) / 32);
  at.attention = take(round_up(rows, kernels::kAttendRows) *
                          (3 * round_up(spec.head_dim, 16) + kernels::attend_scratch(spec.head_dim)) +
                      round_up(rows, 16) * 6);
  at.thread_stride = next;
  at.total_floats = at.threads + limits.threads * at.thread_stride;
  return at;
}

uint64_t workspace_bytes(const arch::Spec& spec, const StepLimits& limits) {
  return workspace_layout(spec, limits).total_floats * sizeof(float);
}

}  // namespace rhapsode::plan
