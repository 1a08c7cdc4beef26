// Attention of one layer over the blocked cache. Work is cut in items that threads take whole; each query row
// sums its context in chunks of plan::kChunkBlocks blocks, merged in order, so the result never depends on
// who computed what.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "arch/spec.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "model/kv_cache.h"
#include "plan/footprint.h"

namespace rhapsode::model {

// Consecutive tokens of one sequence in a forward pass. Their keys and values are in the cache already.
struct AttentionSpan {
  const Sequence* sequence;
  uint64_t first_position;
  uint32_t first_token;  // row in the pass's buffers
  uint32_t tokens;
  int32_t partial_row = -1;  // first row in AttentionLayer::partials where threads split the context, else -1
};

struct AttentionItem {
  uint32_t span;
  uint32_t kv_head;
  uint32_t first_token;  // within the span
  uint32_t tokens;
  int32_t chunk;  // -1: all chunks, merged here
};

// The items of a pass, the same for every layer. Short spans are split over their context, up to
// plan::kSplitTokens tokens in all: their partial_row is set.
std::vector<AttentionItem> attention_items(const arch::Spec& spec, std::span<AttentionSpan> spans,
                                           uint32_t query_rows);

struct AttentionLayer {
  const arch::Spec* spec;
  const kernels::Kernels* kernels;
  const KvCache* cache;
  uint64_t layer;
  Dtype dtype;
  const float* qkv;  // q starts each row
  uint64_t qkv_stride;
  float* out;  // [token][num_attention_heads * head_dim]
  uint64_t out_stride;
  float* partials;  // [partial row][head][chunk][head_dim + 2]: m, l, o
  uint64_t chunks;  // chunks of the longest context
};

// Runs one item with this member's scratch (plan::WorkspaceLayout::thread_stride floats, after the expanded
// columns).
void attend_item(const AttentionLayer& layer, std::span<const AttentionSpan> spans, const AttentionItem& item,
                 uint32_t query_rows, float* scratch);

// Merges the partial states of one token and head of a split span; after a barrier.
void merge_partials(const AttentionLayer& layer, const AttentionSpan& span, uint32_t token, uint64_t head);

}  // namespace rhapsode::model
