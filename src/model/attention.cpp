#include "model/attention.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/checked.h"

namespace rhapsode::model {
namespace {

using kernels::kBlockTokens;
constexpr uint64_t kChunkTokens = plan::kChunkBlocks * kBlockTokens;
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// Softmax so far, as kernels::AttendBlock has it.
struct State {
  float *m, *l, *o;
};

// This member's working rows; sizes as in plan::workspace_layout.
struct Scratch {
  Scratch(float* base, uint32_t rows, uint64_t head_dim) {
    const auto take = [&base](uint64_t floats) {
      float* at = base;
      base += round_up(floats, 16);
      return at;
    };
    const uint64_t room = round_up(rows, kernels::kAttendRows);
    q = take(rows * head_dim), all.o = take(room * head_dim), chunk.o = take(room * head_dim);
    scratch = take(room * kernels::attend_scratch(head_dim));
    all.m = take(rows), all.l = take(rows), chunk.m = take(rows), chunk.l = take(rows);
    begin = reinterpret_cast<uint32_t*>(take(rows));
    end = reinterpret_cast<uint32_t*>(take(rows));
  }
  float *q, *scratch;
  State all, chunk;  // of the chunks so far, and of one
  uint32_t *begin, *end;
};

// First visible and one past the last visible position of a query.
Range visible(uint64_t position, uint32_t window) {
  const uint64_t begin = window == 0 || position + 1 <= window ? 0 : position + 1 - window;
  return {begin, position + 1};
}

uint64_t chunk_count(uint64_t context) {
  return (context + kChunkTokens - 1) / kChunkTokens;
}

// One item at work: rows are (token, head of the group), token-major.
class ItemRun {
 public:
  ItemRun(const AttentionLayer& layer, const AttentionSpan& span, const AttentionItem& item,
          const Scratch& scratch)
      : layer_(layer), spec_(*layer.spec), span_(span), item_(item), s_(scratch) {
    group_ = static_cast<uint32_t>(spec_.num_attention_heads / spec_.num_key_value_heads);
    rows_ = item.tokens * group_;
  }

  void load_queries() {
    const uint64_t d = spec_.head_dim;
    for (uint32_t t = 0; t < item_.tokens; ++t)
      std::memcpy(s_.q + t * group_ * d,
                  layer_.qkv + token_row(t) * layer_.qkv_stride + item_.kv_head * group_ * d,
                  group_ * d * sizeof(float));
  }

  void run_chunk(uint64_t chunk, const State& state) {
    std::fill_n(state.m, rows_, kNothing);
    std::fill_n(state.l, rows_, 0.0f);
    std::fill_n(state.o, rows_ * spec_.head_dim, 0.0f);
    const uint64_t seen = (visible(position(item_.tokens - 1), 0).end + kBlockTokens - 1) / kBlockTokens;
    const uint64_t end = std::min((chunk + 1) * plan::kChunkBlocks, seen);
    for (uint64_t b = chunk * plan::kChunkBlocks; b < end; ++b)
      if (set_ranges(b * kBlockTokens)) run_block(b, b + 1 < end, state);
  }

  void run_all() {
    const uint32_t window = layer_.spec->layers[layer_.layer].window;
    const uint64_t first = visible(position(0), window).begin / kChunkTokens;
    const uint64_t chunks = chunk_count(position(item_.tokens - 1) + 1);
    const uint32_t d = static_cast<uint32_t>(spec_.head_dim);
    const State &all = s_.all, &one = s_.chunk;
    run_chunk(first, all);
    for (uint64_t chunk = first + 1; chunk < chunks; ++chunk) {
      run_chunk(chunk, one);
      for (uint32_t r = 0; r < rows_; ++r)
        layer_.kernels->attend_merge(d, all.m + r, all.l + r, all.o + uint64_t{r} * d, one.m[r], one.l[r],
                                     one.o + uint64_t{r} * d);
    }
    for (uint32_t r = 0; r < rows_; ++r)
      layer_.kernels->attend_finish(layer_.dtype, d, all.l[r], all.o + uint64_t{r} * d, out_row(r));
  }

  void store_partials(uint64_t chunk) {
    const uint64_t d = spec_.head_dim;
    run_chunk(chunk, s_.chunk);
    for (uint32_t r = 0; r < rows_; ++r) {
      const uint64_t row = static_cast<uint64_t>(span_.partial_row) + item_.first_token + r / group_;
      const uint64_t head = item_.kv_head * group_ + r % group_;
      float* at =
          layer_.partials + ((row * spec_.num_attention_heads + head) * layer_.chunks + chunk) * (d + 2);
      at[0] = s_.chunk.m[r], at[1] = s_.chunk.l[r];
      std::memcpy(at + 2, s_.chunk.o + r * d, d * sizeof(float));
    }
  }

 private:
  uint64_t token_row(uint32_t t) const { return uint64_t{span_.first_token} + item_.first_token + t; }
  uint64_t position(uint32_t t) const { return span_.first_position + item_.first_token + t; }
  float* out_row(uint32_t r) const {
    return layer_.out + token_row(r / group_) * layer_.out_stride +
           (item_.kv_head * group_ + r % group_) * spec_.head_dim;
  }

  // What each row sees of the block that starts at `start`; false where no row sees anything.
  bool set_ranges(uint64_t start) {
    const uint32_t window = spec_.layers[layer_.layer].window;
    bool any = false;
    for (uint32_t t = 0; t < item_.tokens; ++t) {
      const Range range = visible(position(t), window);
      const uint64_t begin = std::clamp(range.begin, start, start + kBlockTokens) - start;
      const uint64_t end = std::max(std::clamp(range.end, start, start + kBlockTokens) - start, begin);
      any = any || begin < end;
      std::fill_n(s_.begin + t * group_, group_, static_cast<uint32_t>(begin));
      std::fill_n(s_.end + t * group_, group_, static_cast<uint32_t>(end));
    }
    return any;
  }

  void run_block(uint64_t index, bool has_next, const State& state) {
    const uint32_t block = span_.sequence->blocks[index];
    kernels::AttendBlock work{};
    if (has_next)
      work.next_k = layer_.cache->keys(span_.sequence->blocks[index + 1], layer_.layer, item_.kv_head);
    work.k = layer_.cache->keys(block, layer_.layer, item_.kv_head);
    work.v = layer_.cache->values(block, layer_.layer, item_.kv_head);
    work.kv_dtype = layer_.cache->dtype();
    if (work.kv_dtype == Dtype::i8) {
      work.k_scales = layer_.cache->scales(layer_.cache->keys(block, layer_.layer, item_.kv_head));
      work.v_scales = layer_.cache->scales(layer_.cache->values(block, layer_.layer, item_.kv_head));
    }
    work.head_dim = static_cast<uint32_t>(spec_.head_dim);
    work.queries = rows_;
    work.q = s_.q;
    work.q_stride = spec_.head_dim;
    work.scale = spec_.attention_scale;
    work.softcap = spec_.attn_softcap;
    work.begin = s_.begin, work.end = s_.end;
    work.m = state.m, work.l = state.l, work.o = state.o;
    work.scratch = s_.scratch;
    work.same_queries = queries_seen_;
    queries_seen_ = true;
    layer_.kernels->attend_block(work);
  }

  const AttentionLayer& layer_;
  const arch::Spec& spec_;
  const AttentionSpan& span_;
  const AttentionItem& item_;
  const Scratch& s_;
  uint32_t group_ = 1;
  uint32_t rows_ = 0;
  bool queries_seen_ = false;  // by the kernel
};

}  // namespace

std::vector<AttentionItem> attention_items(const arch::Spec& spec, std::span<AttentionSpan> spans,
                                           uint32_t query_rows) {
  const uint64_t group = spec.num_attention_heads / spec.num_key_value_heads;
  const uint32_t tile = static_cast<uint32_t>(query_rows / group);
  std::vector<AttentionItem> items;
  uint32_t split_tokens = 0;
  for (uint32_t s = 0; s < spans.size(); ++s) {
    AttentionSpan& span = spans[s];
    const uint64_t chunks = chunk_count(span.first_position + span.tokens);
    const bool split = chunks > 1 && span.tokens <= tile && split_tokens + span.tokens <= plan::kSplitTokens;
    if (split) {
      span.partial_row = static_cast<int32_t>(split_tokens);
      split_tokens += span.tokens;
    }
    for (uint32_t head = 0; head < spec.num_key_value_heads; ++head) {
      if (split) {
        for (uint64_t c = 0; c < chunks; ++c)
          items.push_back({s, head, 0, span.tokens, static_cast<int32_t>(c)});
        continue;
      }
      for (uint32_t t = 0; t < span.tokens; t += tile)
        items.push_back({s, head, t, std::min(tile, span.tokens - t), -1});
    }
  }
  return items;
}

void attend_item(const AttentionLayer& layer, std::span<const AttentionSpan> spans, const AttentionItem& item,
                 uint32_t query_rows, float* scratch) {
  const Scratch rows(scratch, query_rows, layer.spec->head_dim);
  ItemRun run(layer, spans[item.span], item, rows);
  run.load_queries();
  if (item.chunk < 0) return run.run_all();
  run.store_partials(static_cast<uint64_t>(item.chunk));
}

void merge_partials(const AttentionLayer& layer, const AttentionSpan& span, uint32_t token, uint64_t head) {
  const uint64_t d = layer.spec->head_dim;
  const uint64_t row = static_cast<uint64_t>(span.partial_row) + token;
  float* states = layer.partials + (row * layer.spec->num_attention_heads + head) * layer.chunks * (d + 2);
  const uint64_t chunks = chunk_count(span.first_position + token + 1);
  // The first chunk that the token sees is the state that others are merged into, as run_all has it.
  const uint32_t window = layer.spec->layers[layer.layer].window;
  const uint64_t first = visible(span.first_position + token, window).begin / kChunkTokens;
  float* all = states + first * (d + 2);
  for (uint64_t c = first + 1; c < chunks; ++c) {
    const float* state = states + c * (d + 2);
    layer.kernels->attend_merge(static_cast<uint32_t>(d), all, all + 1, all + 2, state[0], state[1],
                                state + 2);
  }
  float* out = layer.out + (span.first_token + token) * layer.out_stride + head * d;
  layer.kernels->attend_finish(layer.dtype, static_cast<uint32_t>(d), all[1], all + 2, out);
}

}  // namespace rhapsode::model
