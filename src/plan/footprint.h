// The arithmetic of memory: how many bytes each allocation has. The planner prints it, the loader and the
// decoder allocate by it; there is no second formula.
#pragma once

#include <cstdint>

#include "arch/spec.h"
#include "kernels/kernels.h"
#include "plan/formats.h"

namespace rhapsode::plan {

// How kernels take the products of many tokens.
struct TileShape {
  uint32_t tokens = 1;       // Kernels::gemm_tokens
  uint32_t matrix_rows = 1;  // kernels::kMatrixRows where there are matrix tiles
  uint32_t panels = 1;       // whose sums are formed side by side, at most
};
TileShape tile_shape(const kernels::Kernels& kernels);

// What a step of the decoder may hold at most.
struct StepLimits {
  uint64_t context_tokens = 0;  // longest sequence: prompt and answer
  uint32_t chunk_tokens = 0;    // tokens in one forward pass
  uint32_t logits_rows = 1;     // rows of logits kept per pass
  uint32_t threads = 1;
  TileShape tiles;
};

constexpr uint64_t kColumnBlock = 256;  // columns of a panel expanded at a time
constexpr uint32_t kTokenBlock = 264;   // tokens that a pass over the panels takes; a multiple of any tile
constexpr uint32_t kPanelGroup = 4;     // panels whose sums are formed side by side
// By matrix tiles: it takes longer to read the tokens of a step anew than to hold so many sums.
constexpr uint32_t kMatrixPanelGroup = 8;
constexpr uint64_t kChunkBlocks = 8;  // KV blocks in one chunk of the attention sum
constexpr uint32_t kQueryRows = 64;   // query rows of one attention item, at least one token's group
constexpr uint32_t kSplitTokens = 4;  // up to this many tokens of a sequence split the context over threads
constexpr uint64_t kAlignBytes = 64;

// Rows of a part are padded to whole panels, so each part starts at a panel of its own.
uint64_t padded_rows(uint64_t rows);
// Of one part: its panels and what stands behind them.
uint64_t part_bytes(const WeightFormat& format, uint64_t rows, uint64_t cols);
uint64_t linear_rows(const arch::LinearSource& source);  // sum of the padded parts
uint64_t linear_bytes(const Formats& formats, const arch::LinearSource& source);
uint64_t linear_metadata_bytes(const Formats& formats, const arch::LinearSource& source);  // of these, scales
uint64_t bias_bytes(const arch::LinearSource& source);  // 0 where no part has one
uint64_t norm_bytes(const arch::NormSource& norm);
uint64_t embed_bytes(const arch::Spec& spec,
                     Dtype dtype);  // 0 where tied: rows are read from the head's panels
uint64_t layer_bytes(const Formats& formats, const arch::LayerTensors& layer);
// The part of layer_bytes that is scales of quantized formats.
uint64_t layer_metadata_bytes(const Formats& formats, const arch::LayerTensors& layer);
uint64_t head_bytes(const Formats& formats, const arch::ModelTensors& tensors);
// Keys or values of one head in a block: the elements and, of i8, a scale a token after them.
uint64_t kv_head_bytes(const arch::Spec& spec, Dtype kv_dtype);
uint64_t kv_block_bytes(const arch::Spec& spec, Dtype kv_dtype);  // one block of all layers
uint64_t kv_blocks(uint64_t context_tokens);
uint64_t kv_bytes(const arch::Spec& spec, Dtype kv_dtype, uint64_t context_tokens);

// Of the screen of a head: int8 copies of its rows, and twice a bound for each.
uint64_t screen_codes_bytes(uint64_t rows, uint64_t cols);
uint64_t screen_bounds_bytes(uint64_t rows);
uint64_t head_screen_bytes(const arch::LinearSource& head);

// Buffers of a forward pass: strides and offsets in floats from the start of the workspace.
struct WorkspaceLayout {
  uint64_t hidden_stride, qkv_stride, attn_stride, up_stride, logits_stride;
  uint64_t x, normed, qkv, attn, up, branch, branch2;
  uint64_t rope;      // [table][token][rotary_dims], cos then sin
  uint64_t factors;   // [token], of rows that were quantized to integers
  uint64_t packed;    // tokens packed for the matrix product
  uint64_t partials;  // attention states of chunks that threads share out
  uint64_t logits;
  uint64_t threads;  // first of the per-thread areas
  uint64_t thread_stride;
  // Of a thread's area, which begins with expanded columns, or one token's codes and scales.
  uint64_t sums, rows, marks, attention;
  uint32_t query_rows;  // rows of one attention item
  uint64_t total_floats;
};
WorkspaceLayout workspace_layout(const arch::Spec& spec, const StepLimits& limits);
uint64_t workspace_bytes(const arch::Spec& spec, const StepLimits& limits);

}  // namespace rhapsode::plan
