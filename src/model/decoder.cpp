#include "model/decoder.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <limits>

#include "model/linear.h"

namespace rhapsode::model {

using arch::FfnKind;
using arch::LinearKind;
using arch::NormKind;
using arch::ResidualKind;

// One forward pass, as one member of the team executes it: each has a copy, since each crosses the borders
// between devices by itself. The steps between barriers either share out tokens or columns, and whoever owns
// a row computes all of it.
class Pass {
 public:
  Pass(Decoder& decoder, std::span<const Span> spans)
      : d_(decoder), kernels_(decoder.areas_.front().device->kernels()) {
    use(d_.layer_area_.front());
    for (const Span& span : spans) add_span(span);
    items_ = attention_items(*d_.spec_, spans_, at_.query_rows);
    chunks_ = (plan::kv_blocks(d_.limits_.context_tokens) + plan::kChunkBlocks - 1) / plan::kChunkBlocks;
  }

  // Units [first, end) of the model: layers, then the head. Between two calls no thread computes.
  void run(uint32_t member, size_t first, size_t end) {
    const Range mine = share(tokens(), member, d_.pool_->threads());
    const size_t layers = d_.weights_->layers.size();
    clock_.start(d_.times_ == nullptr ? nullptr : &d_.times_->members[member]);
    if (first == 0) {
      embed(mine);
      clock_.lap(Section::embed);
      if (d_.observer_) observe(0, member);
    }
    for (size_t layer = first; layer < std::min(end, layers); ++layer) {
      enter(d_.layer_area_[layer], mine);
      run_layer(worker(member), layer, mine);
      if (d_.observer_) observe(layer + 1, member);
    }
    if (end <= layers) return;
    enter(d_.head_area_, mine);
    head(worker(member));
  }

 private:
  uint32_t tokens() const { return static_cast<uint32_t>(ids_.size()); }
  float* x(uint64_t t) { return base_ + at_.x + t * at_.hidden_stride; }
  float* normed(uint64_t t) { return base_ + at_.normed + t * at_.hidden_stride; }
  float* qkv(uint64_t t) { return base_ + at_.qkv + t * at_.qkv_stride; }
  float* attn(uint64_t t) { return base_ + at_.attn + t * at_.attn_stride; }
  float* up(uint64_t t) { return base_ + at_.up + t * at_.up_stride; }
  float* branch(uint64_t t) { return base_ + at_.branch + t * at_.hidden_stride; }
  float* branch2(uint64_t t) { return base_ + at_.branch2 + t * at_.hidden_stride; }
  float* factors() { return base_ + at_.factors; }
  float* thread_area(uint32_t member) { return base_ + at_.threads + member * at_.thread_stride; }
  Dtype dtype() const { return d_.weights_->dtype; }

  Worker worker(uint32_t member) {
    float* own = thread_area(member);
    return {&kernels_,
            d_.pool_,
            member,
            d_.pool_->threads(),
            own,
            own + at_.sums,
            own + at_.rows,
            reinterpret_cast<uint32_t*>(own + at_.marks),
            base_ + at_.packed};
  }

  void use(size_t area) {
    area_ = area;
    at_ = d_.areas_[area].at;
    base_ = d_.areas_[area].base();
  }

  // The border between two devices: this member's tokens and their rotations are copied across.
  void enter(size_t area, Range mine) {
    if (area == area_) return;
    const plan::WorkspaceLayout from = at_;
    const float* base = base_;
    use(area);
    const uint64_t rotary = rotary_dims();
    for (uint64_t t = mine.begin; t < mine.end; ++t) {
      std::memcpy(x(t), base + from.x + t * from.hidden_stride, from.hidden_stride * sizeof(float));
      std::memcpy(base_ + at_.rope + t * rotary, base + from.rope + t * rotary, rotary * sizeof(float));
    }
  }

  uint64_t rotary_dims() const {
    uint64_t rotary = 0;
    for (const arch::RopeTable& table : d_.spec_->rope_tables) rotary += table.rotary_dims;
    return rotary;
  }

  void add_span(const Span& span) {
    const uint64_t first = span.sequence->length;
    spans_.push_back({span.sequence, first, tokens(), static_cast<uint32_t>(span.ids.size())});
    // Tokens that are verified together would have been computed one by one: each is a call of its own.
    const auto count = static_cast<uint32_t>(span.ids.size());
    for (uint32_t i = 0; span.verifies && i < count; ++i) calls_.push_back({tokens() + i, 1});
    if (!span.verifies) calls_.push_back({tokens(), count});
    const uint64_t length = std::max(first + span.ids.size(), span.rope_length);
    wanted_.push_back(span.wanted);
    rope_lengths_.push_back(grown_length(*span.sequence, length));
    for (size_t i = 0; i < span.ids.size(); ++i) {
      ids_.push_back(span.ids[i]);
      span_of_token_.push_back(static_cast<uint32_t>(spans_.size() - 1));
      if (i + span.logits_rows >= span.ids.size()) logits_tokens_.push_back(tokens() - 1);
    }
  }

  // Dynamic scaling grows with the longest length seen and falls back only when a pass is shorter than the
  // original.
  uint64_t grown_length(Sequence& sequence, uint64_t length) const {
    const uint64_t original = d_.spec_->max_position_embeddings;
    if (length > std::max(sequence.rope_length, original))
      sequence.rope_length = length;
    else if (length < original)
      sequence.rope_length = length;
    return std::max(sequence.rope_length, length);
  }

  void norm(NormKind kind, const Norm& norm, const float* in, float* out) const {
    const float eps = d_.spec_->norm_eps;
    switch (kind) {
      case NormKind::rms_l:
        return kernels_.rms_norm_l(dtype(), in, norm.weight, norm.length, eps, out);
      case NormKind::rms_g:
        return kernels_.rms_norm_g(dtype(), in, norm.weight, norm.length, eps, out);
      case NormKind::layernorm:
        return kernels_.layer_norm(dtype(), in, norm.weight, norm.bias, norm.length, eps, out);
    }
  }
  void norm(const Norm& weights, const float* in, float* out) const {
    norm(d_.spec_->norm, weights, in, out);
  }

  // The row as the linear multiplies it. The parallel residual's one norm feeds two linears of one kind.
  // Where projections have norms of their own, project() does it.
  void quantize(const Linear& linear, uint64_t t, float* row) {
    if (d_.spec_->linear != LinearKind::dense && !d_.spec_->linear_norm_eps)
      factors()[t] = quantize_row(kernels_, dtype(), linear, row);
  }

  struct Area {
    float* data;  // [tokens][stride]
    uint64_t stride;
  };

  // out = linear(in), complete after a barrier. Where its parts have norms of their own, each part's input is
  // made in `scratch`, rows as long as those of `in`, which may be `in` if there is one part.
  void project(const Worker& worker, const Linear& linear, Area in, float* scratch, Area out) {
    const std::optional<float> eps = d_.spec_->linear_norm_eps;
    if (!eps)
      return multiply(worker, dtype(), linear, {in.data, in.stride, calls_, factors()}, tokens(), out.data,
                      out.stride);
    const Range mine = share(tokens(), worker.member, worker.members);
    for (const Linear::Part& part : linear.parts) {
      for (uint64_t t = mine.begin; t < mine.end; ++t) {
        float* row = scratch + t * in.stride;
        kernels_.rms_norm_l(dtype(), in.data + t * in.stride, part.own_norm.weight, part.own_norm.length,
                            *eps, row);
        factors()[t] = quantize_row(kernels_, dtype(), linear, row);
      }
      d_.pool_->barrier();
      multiply_part(worker, dtype(), linear, part, {scratch, in.stride, calls_, factors()}, tokens(),
                    out.data, out.stride);
      if (&part != &linear.parts.back()) d_.pool_->barrier();  // the others still read scratch
    }
  }

  void embed(Range mine) {
    const arch::Spec& spec = *d_.spec_;
    const Linear::Part& head = d_.weights_->lm_head.parts.front();
    const uint64_t row_bytes = spec.hidden_size * dtype_bytes(dtype());
    for (uint64_t t = mine.begin; t < mine.end; ++t) {
      const uint64_t id = ids_[t];
      if (d_.weights_->embed_row)
        d_.weights_->embed_row(id, x(t));
      else if (d_.weights_->embed != nullptr)
        kernels_.load(dtype(), d_.weights_->embed + id * row_bytes, spec.hidden_size, x(t));
      else
        quant::unpack_row(head.format.format, {head.panel(id / quant::kPanelRows), head.panel_bytes},
                          static_cast<uint32_t>(id % quant::kPanelRows), spec.hidden_size, x(t));
      if (spec.embed_scale != 1.0f)
        kernels_.scale(dtype(), x(t), round_to(dtype(), spec.embed_scale), spec.hidden_size);
      rope_tables(t);
    }
  }

  // cos and sin of a token for every table: [table][cos, sin][rotary_dims / 2].
  void rope_tables(uint64_t t) {
    float* out = rope_row_of(t);
    for (size_t i = 0; i < d_.spec_->rope_tables.size(); ++i) {
      const arch::RopeTable& table = d_.spec_->rope_tables[i];
      const AttentionSpan& span = spans_[span_of_token_[t]];
      const uint64_t position = span.first_position + (t - span.first_token);
      const uint32_t half = table.rotary_dims / 2;
      if (depends_on_length(table))
        rope_row(rope_frequencies(table, rope_lengths_[span_of_token_[t]]), position, dtype(), out,
                 out + half);
      else
        rope_row(d_.frequencies_[i], position, dtype(), out, out + half);
      out += table.rotary_dims;
    }
  }

  float* rope_row_of(uint64_t t) { return base_ + at_.rope + t * rotary_dims(); }

  void wait(Section worked) {
    clock_.lap(worked);
    d_.pool_->barrier();
    clock_.lap(Section::waiting);
  }

  void run_layer(const Worker& worker, uint64_t index, Range mine) {
    const LayerWeights& layer = d_.weights_->layers[index];
    const arch::Spec& spec = *d_.spec_;
    for (uint64_t t = mine.begin; t < mine.end; ++t) {
      norm(layer.input_norm, x(t), normed(t));
      quantize(layer.qkv, t, normed(t));
    }
    wait(Section::norms);
    project(worker, layer.qkv, {normed(0), at_.hidden_stride}, branch(0), {qkv(0), at_.qkv_stride});
    wait(Section::qkv);
    for (uint64_t t = mine.begin; t < mine.end; ++t) prepare_token(layer, index, t);
    wait(Section::rope);
    attend(worker, index);
    wait(Section::attention);
    if (spec.attn_sub_norm || spec.linear != LinearKind::dense) {
      for (uint64_t t = mine.begin; t < mine.end; ++t) {
        if (spec.attn_sub_norm) norm(layer.attn_sub_norm, attn(t), attn(t));
        quantize(layer.o, t, attn(t));
      }
      wait(Section::norms);
    }
    project(worker, layer.o, {attn(0), at_.attn_stride}, attn(0), {branch(0), at_.hidden_stride});
    wait(Section::out);
    if (spec.residual != ResidualKind::parallel_shared) {
      for (uint64_t t = mine.begin; t < mine.end; ++t) before_ffn(layer, t);
      wait(Section::norms);
    }
    feed_forward(worker, layer, mine);
    wait(Section::down);
    for (uint64_t t = mine.begin; t < mine.end; ++t) after_ffn(layer, t);
    clock_.lap(Section::norms);
  }

  // Query and key norms, rotation, and the token's keys and values into the cache.
  void prepare_token(const LayerWeights& layer, uint64_t index, uint64_t t) {
    const arch::Spec& spec = *d_.spec_;
    float* q = qkv(t);
    float* k = q + layer.qkv.parts[1].first_panel * quant::kPanelRows;
    const float* v = q + layer.qkv.parts[2].first_panel * quant::kPanelRows;
    for (uint64_t h = 0; h < spec.num_attention_heads; ++h)
      prepare_head(layer.q_norm, index, t, q + h * spec.head_dim);
    for (uint64_t h = 0; h < spec.num_key_value_heads; ++h) {
      prepare_head(layer.k_norm, index, t, k + h * spec.head_dim);
      store_token(index, t, h, k + h * spec.head_dim, v + h * spec.head_dim);
    }
  }

  void prepare_head(const Norm& head_norm, uint64_t index, uint64_t t, float* head) {
    if (d_.spec_->qk_norm) norm(*d_.spec_->qk_norm, head_norm, head, head);
    const int32_t table = d_.spec_->layers[index].rope_table;
    if (table < 0) return;
    const float* row = rope_row_of(t);
    for (int32_t i = 0; i < table; ++i) row += d_.spec_->rope_tables[static_cast<size_t>(i)].rotary_dims;
    const uint32_t rotary = d_.spec_->rope_tables[static_cast<size_t>(table)].rotary_dims;
    kernels_.rope(dtype(), head, row, row + rotary / 2, rotary);
  }

  void store_token(uint64_t index, uint64_t t, uint64_t head, const float* k, const float* v) {
    const AttentionSpan& span = spans_[span_of_token_[t]];
    const uint64_t position = span.first_position + (t - span.first_token);
    const uint32_t block = span.sequence->blocks[position / kernels::kBlockTokens];
    const uint64_t slot = position % kernels::kBlockTokens, width = dtype_bytes(d_.cache_->dtype());
    const uint64_t dim = d_.spec_->head_dim;
    std::byte* keys = d_.cache_->keys(block, index, head);
    std::byte* values = d_.cache_->values(block, index, head);
    // Keys lie transposed, one column a token: the row is converted in the token's room for the attention's
    // result, then scattered.
    std::byte* row = reinterpret_cast<std::byte*>(attn(t));
    if (d_.cache_->dtype() == Dtype::i8) {
      d_.cache_->scales(values)[slot] = to_codes(v, dim, row);
      std::memcpy(values + slot * dim, row, dim);
      d_.cache_->scales(keys)[slot] = to_codes(k, dim, row);
    } else {
      kernels_.store(d_.cache_->dtype(), v, dim, values + slot * dim * width);
      kernels_.store(d_.cache_->dtype(), k, dim, row);
    }
    std::byte* column = keys + slot * width;
    for (uint64_t i = 0; i < dim; ++i)
      std::memcpy(column + i * kernels::kBlockTokens * width, row + i * width, width);
  }

  // A head's row as int8 codes of its largest magnitude; returns what a code stands for. A row that is not
  // finite gives a scale that is not.
  float to_codes(const float* x, uint64_t n, std::byte* codes) const {
    float largest = 0.0f;
    kernels_.quantize_int8(x, n, std::numeric_limits<float>::quiet_NaN(), reinterpret_cast<int8_t*>(codes),
                           &largest);
    return largest / 127.0f;
  }

  void attend(const Worker& worker, uint64_t index) {
    const AttentionLayer layer{d_.spec_, &kernels_,      d_.cache_, index,           dtype(),
                               qkv(0),   at_.qkv_stride, attn(0),   at_.attn_stride, base_ + at_.partials,
                               chunks_};
    float* scratch = worker.expand + at_.attention;
    worker.pool->hand_out(worker.member, items_.size(), 1, [&](Range items) {
      attend_item(layer, spans_, items_[items.begin], at_.query_rows, scratch);
    });
    bool split = false;
    for (const AttentionSpan& span : spans_) split = split || span.partial_row >= 0;
    if (!split) return;
    wait(Section::attention);
    const Range heads = share(d_.spec_->num_attention_heads, worker.member, worker.members);
    for (const AttentionSpan& span : spans_)
      for (uint32_t t = 0; span.partial_row >= 0 && t < span.tokens; ++t)
        for (uint64_t head = heads.begin; head < heads.end; ++head) merge_partials(layer, span, t, head);
  }

  void before_ffn(const LayerWeights& layer, uint64_t t) {
    if (d_.spec_->residual == ResidualKind::sequential) {
      if (d_.spec_->post_norms) norm(layer.post_attention_norm, branch(t), branch(t));
      kernels_.add(dtype(), x(t), branch(t), d_.spec_->hidden_size);
    }
    norm(layer.pre_ffn_norm, x(t), normed(t));
    quantize(layer.up, t, normed(t));
  }

  // `count` values of the inner state at `gate`, with those of the second part where there is one.
  void activate(const Linear& linear, float* gate, uint64_t count) const {
    const auto activation = static_cast<kernels::Activation>(d_.spec_->activation);
    if (d_.spec_->ffn == FfnKind::glu)
      kernels_.activate_mul(activation, dtype(), gate, gate + linear.parts[1].first_panel * quant::kPanelRows,
                            count);
    else
      kernels_.activate(activation, dtype(), gate, count);
  }

  void feed_forward(const Worker& worker, const LayerWeights& layer, Range mine) {
    const arch::Spec& spec = *d_.spec_;
    const bool sequential = spec.residual == ResidualKind::sequential;
    float* scratch = sequential ? branch(0) : branch2(0);  // of a parallel residual, branch is in use
    const auto act = [&](Range rows, Range of_tokens) {
      const uint64_t end = std::min(rows.end, spec.intermediate_size);
      for (uint64_t t = of_tokens.begin; t < of_tokens.end && rows.begin < end; ++t)
        activate(layer.up, up(t) + rows.begin, end - rows.begin);
    };
    if (spec.linear_norm_eps) {
      project(worker, layer.up, {normed(0), at_.hidden_stride}, scratch, {up(0), at_.up_stride});
      wait(Section::up);
      act({0, spec.intermediate_size}, mine);
    } else {
      multiply(worker, dtype(), layer.up, {normed(0), at_.hidden_stride, calls_, factors()}, tokens(), up(0),
               at_.up_stride, std::ref(act));
    }
    wait(Section::up);
    if (spec.ffn_sub_norm || spec.linear != LinearKind::dense) {
      for (uint64_t t = mine.begin; t < mine.end; ++t) {
        if (spec.ffn_sub_norm) norm(layer.ffn_sub_norm, up(t), up(t));
        quantize(layer.down, t, up(t));
      }
      wait(Section::norms);
    }
    project(worker, layer.down, {up(0), at_.up_stride}, up(0), {scratch, at_.hidden_stride});
  }

  void after_ffn(const LayerWeights& layer, uint64_t t) {
    const uint64_t h = d_.spec_->hidden_size;
    if (d_.spec_->residual == ResidualKind::sequential) {
      if (d_.spec_->post_norms) norm(layer.post_ffn_norm, branch(t), branch(t));
    } else {
      kernels_.add(dtype(), branch(t), branch2(t), h);
    }
    kernels_.add(dtype(), x(t), branch(t), h);
  }

  void head(const Worker& worker) {
    const arch::Spec& spec = *d_.spec_;
    const uint32_t rows = static_cast<uint32_t>(logits_tokens_.size());
    if (rows == 0) return;
    wait(Section::norms);  // rows are owned by token until here
    const Range mine = share(rows, worker.member, worker.members);
    for (uint64_t r = mine.begin; r < mine.end; ++r)
      norm(d_.weights_->final_norm, x(logits_tokens_[r]), normed(r));
    wait(Section::norms);
    float* logits = base_ + at_.logits;
    if (is_screened() && screen(worker, rows)) return;
    const auto cap = [&](Range columns, Range of_rows) {
      for (uint64_t r = of_rows.begin; r < of_rows.end; ++r)
        kernels_.softcap(dtype(), logits + r * at_.logits_stride + columns.begin, spec.final_softcap,
                         columns.end - columns.begin);
    };
    multiply(worker, dtype(), d_.weights_->lm_head, {normed(0), at_.hidden_stride, {}}, rows, logits,
             at_.logits_stride, spec.final_softcap == 0.0f ? Finished{} : std::ref(cap));
    clock_.lap(Section::head);
  }

  bool is_screened() const {
    if (!d_.screen_ || !d_.screen_->usable() || logits_tokens_.size() > kScreenedRows) return false;
    for (const uint32_t token : logits_tokens_) {
      const uint32_t best = wanted_[span_of_token_[token]].best;
      if (best == 0 || best > kMostBest) return false;
    }
    return true;
  }

  // The panels that may hold a row's best logits; false where the hidden state is not finite.
  bool screen(const Worker& worker, uint32_t count) {
    HeadScreen& screen = *d_.screen_;
    std::vector<HeadScreen::Row> rows;
    for (uint32_t r = 0; r < count; ++r)
      rows.push_back({normed(r), base_ + at_.logits + r * at_.logits_stride,
                      wanted_[span_of_token_[logits_tokens_[r]]],
                      reinterpret_cast<std::byte*>(worker.packed + r * at_.hidden_stride)});
    screen.quantize(rows, share(count, worker.member, worker.members));
    wait(Section::head);
    if (!screen.finite(count)) return false;
    screen.estimate(rows, *worker.pool, worker.member);
    wait(Section::head);
    screen.mark(rows, worker.member);
    wait(Section::head);
    if (worker.member == 0) screen.list_marked();
    wait(Section::head);
    multiply_panels(worker, dtype(), d_.weights_->lm_head, screen.marked(),
                    {normed(0), at_.hidden_stride, {}}, count, base_ + at_.logits, at_.logits_stride);
    clock_.lap(Section::head);
    return true;
  }

  void observe(uint64_t layer, uint32_t member) {
    d_.pool_->barrier();
    if (member == 0) d_.observer_(layer, x(0), at_.hidden_stride, tokens());
    d_.pool_->barrier();
  }

  Decoder& d_;
  const kernels::Kernels& kernels_;
  SectionClock clock_;
  size_t area_ = 0;  // of the device that this member is on
  plan::WorkspaceLayout at_{};
  float* base_ = nullptr;
  std::vector<AttentionSpan> spans_;
  std::vector<Call> calls_;
  std::vector<WantedLogits> wanted_;  // of each span
  std::vector<uint64_t> rope_lengths_;
  std::vector<uint32_t> ids_;
  std::vector<uint32_t> span_of_token_;
  std::vector<uint32_t> logits_tokens_;
  std::vector<AttentionItem> items_;
  uint64_t chunks_ = 0;
};

Decoder::Decoder(const arch::Spec& spec, Weights& weights, devices::Device& device, ThreadPool& pool,
                 KvCache& cache, const plan::StepLimits& limits)
    : Decoder(spec, weights,
              ExecDevices{std::vector<devices::Device*>(spec.num_hidden_layers, &device), &device}, pool,
              cache, limits) {}

Decoder::Decoder(const arch::Spec& spec, Weights& weights, const ExecDevices& devices, ThreadPool& pool,
                 KvCache& cache, const plan::StepLimits& limits)
    : spec_(&spec), weights_(&weights), pool_(&pool), cache_(&cache), limits_(limits) {
  for (devices::Device* device : devices.layers)
    layer_area_.push_back(area_of(device, device == devices.head));
  head_area_ = area_of(devices.head, true);
  for (const arch::RopeTable& table : spec.rope_tables) frequencies_.push_back(rope_frequencies(table, 0));
}

size_t Decoder::area_of(devices::Device* device, bool has_head) {
  for (size_t i = 0; i < areas_.size(); ++i)
    if (areas_[i].device == device) return i;
  plan::StepLimits limits = limits_;
  if (!has_head) limits.logits_rows = 0;
  const plan::WorkspaceLayout at = plan::workspace_layout(*spec_, limits);
  areas_.push_back({device, at, device->allocate(at.total_floats * sizeof(float), "the workspace")});
  return areas_.size() - 1;
}

void Decoder::screen_head(devices::Device& device) {
  screen_.emplace(weights_->lm_head, weights_->dtype, device, *pool_, limits_.logits_rows);
}

void Decoder::forward(std::span<const Span> spans) {
  if (before_pass_) before_pass_();
  [[maybe_unused]] uint64_t tokens = 0, rows = 0;
  for (const Span& span : spans) {
    tokens += span.ids.size();
    rows += std::min<uint64_t>(span.logits_rows, span.ids.size());
    cache_->extend(*span.sequence, span.ids.size());
  }
  assert(tokens <= limits_.chunk_tokens && rows <= limits_.logits_rows);
  if (times_ != nullptr) times_->members.resize(pool_->threads());
  std::vector<Pass> members(pool_->threads(), Pass(*this, spans));
  const bool tunes = access_tuner_ != nullptr && tokens == 1;
  if (tunes) access_tuner_->begin();
  const size_t units = weights_->layers.size() + 1;
  for (size_t first = 0; first < units;) {
    if (weights_->is_staged(first)) weights_->bring(first, *pool_);
    size_t end = first + 1;
    while (end < units && !weights_->is_staged(end)) ++end;
    weights_->bring_ahead(first, end);
    pool_->run([&](uint32_t member) { members[member].run(member, first, end); });
    first = end;
  }
  if (tunes) access_tuner_->end();
  if (after_pass_) after_pass_();
  for (const Span& span : spans) span.sequence->length += span.ids.size();
}

std::span<const float> Decoder::logits(uint32_t row) const {
  const Area& area = areas_[head_area_];
  return {area.base() + area.at.logits + row * area.at.logits_stride, spec_->vocab_size};
}

std::span<float> Decoder::scores(uint32_t row) {
  const Area& area = areas_[head_area_];
  return {area.base() + area.at.logits + row * area.at.logits_stride, spec_->vocab_size};
}

bool Decoder::crosses_rope_switch(const Sequence& sequence, uint64_t tokens) const {
  for (const arch::RopeTable& table : spec_->rope_tables) {
    const uint64_t original = table.original_max_position_embeddings;
    if (table.recomputes && sequence.length > 0 && sequence.length <= original &&
        sequence.length + tokens > original)
      return true;
  }
  return false;
}

bool Decoder::rotates_alike(const Sequence& sequence, uint64_t tokens) const {
  for (const arch::RopeTable& table : spec_->rope_tables) {
    const uint64_t original = table.original_max_position_embeddings;
    if (table.kind == arch::RopeKind::dynamic && sequence.length + tokens > table.max_position_embeddings)
      return false;
    if (table.kind == arch::RopeKind::longrope && sequence.length < original &&
        sequence.length + tokens > original)
      return false;
  }
  return true;
}

void Decoder::prefill(Sequence& sequence, std::span<const uint32_t> ids) {
  const uint64_t rope_length = sequence.length + ids.size();
  for (size_t done = 0; done < ids.size();) {
    const size_t count = std::min<size_t>(limits_.chunk_tokens, ids.size() - done);
    const bool last = done + count == ids.size();
    const Span span{&sequence, ids.subspan(done, count), last ? 1u : 0u, rope_length};
    forward({&span, 1});
    done += count;
  }
}

}  // namespace rhapsode::model
