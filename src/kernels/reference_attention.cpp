// Attention of the reference set: online softmax over blocks of 64 tokens, one query row at a time.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/math.h"
#include "kernels/reference.h"

namespace rhapsode::kernels::reference {
namespace {

float cached(Dtype dtype, const void* data, uint64_t index) {
  if (dtype == Dtype::i8) return static_cast<const int8_t*>(data)[index];
  float x;
  load(dtype, static_cast<const std::byte*>(data) + index * dtype_bytes(dtype), 1, &x);
  return x;
}

// How sums run: as chains over all dims and tokens.
struct Chains {
  template <class Key>
  static float dot(const float* q, uint32_t head_dim, Key key) {
    float sum = 0.0f;
    for (uint32_t d = 0; d < head_dim; ++d) sum = std::fma(q[d], key(d), sum);
    return sum;
  }
  static float corrected(float o, float factor) { return o * factor; }
  template <class Value>
  static float add_values(float o, const float* p, uint32_t begin, uint32_t end, Value value) {
    for (uint32_t j = begin; j < end; ++j) o = std::fma(p[j], value(j), o);
    return o;
  }
};

// As matrix_tiles.h has it.
struct Tiles {
  template <class Key>
  static float dot(const float* q, uint32_t head_dim, Key key) {
    float sum = 0.0f;
    for (uint32_t d = 0; d < head_dim; d += kPairColumns)
      sum = add_pair_columns(
          sum, std::min<uint64_t>(kPairColumns, head_dim - d), [&](uint64_t i) { return q[d + i]; },
          [&](uint64_t i) { return key(static_cast<uint32_t>(d + i)); });
    return sum;
  }
  static float corrected(float o, float factor) { return std::fma(o, factor, 0.0f); }
  static float cut(float x) { return std::bit_cast<float>(std::bit_cast<uint32_t>(x) & 0xffff0000u); }
  static float upper(float weight) { return cut(weight); }
  static float middle(float weight) { return cut(weight - cut(weight)); }
  static float lower(float weight) { return weight - upper(weight) - middle(weight); }
  template <class Value>
  static float add_values(float o, const float* p, uint32_t begin, uint32_t end, Value value) {
    for (uint32_t first = 0; first < kBlockTokens; first += kPairColumns) {
      const auto add = [&](float (*part)(float)) {
        const auto seen = [&](uint64_t i) { return first + i >= begin && first + i < end; };
        o = add_pair_columns(
            o, kPairColumns, [&](uint64_t i) { return seen(i) ? part(p[first + i]) : 0.0f; },
            [&](uint64_t i) { return seen(i) ? value(static_cast<uint32_t>(first + i)) : 0.0f; });
      };
      add(upper), add(middle), add(lower);
    }
    return o;
  }
};

template <class Order>
float score(const AttendBlock& block, const float* q, uint32_t token) {
  float sum = Order::dot(q, block.head_dim, [&](uint32_t d) {
    return cached(block.kv_dtype, block.k, uint64_t{d} * kBlockTokens + token);
  });
  if (block.kv_dtype == Dtype::i8) sum = sum * block.k_scales[token];
  sum = sum * block.scale;
  return block.softcap == 0.0f ? sum : block.softcap * tanh_f32(sum / block.softcap);
}

template <class Order>
void attend_row(const AttendBlock& block, uint32_t query) {
  const uint32_t begin = block.begin[query], end = block.end[query];
  if (begin >= end) return;
  float* p = block.scratch + uint64_t{query} * kBlockTokens;
  float* o = block.o + uint64_t{query} * block.head_dim;
  float maximum = block.m[query];
  for (uint32_t j = begin; j < end; ++j) {
    p[j] = score<Order>(block, block.q + query * block.q_stride, j);
    maximum = p[j] > maximum ? p[j] : maximum;
  }
  maximum += 0.0f;  // -0 becomes 0, so that the state does not tell in which order zeros were compared
  const float correction = weight_f32(block.m[query] - maximum);
  std::array<float, 16> partials{};
  for (uint32_t j = begin; j < end; ++j) {
    p[j] = weight_f32(p[j] - maximum);
    partials[j % 16] += p[j];
    if (block.kv_dtype == Dtype::i8) p[j] = p[j] * block.v_scales[j];
  }
  for (uint32_t width = 8; width > 0; width /= 2)
    for (uint32_t j = 0; j < width; ++j) partials[j] += partials[j + width];
  block.m[query] = maximum;
  block.l[query] = block.l[query] * correction + partials[0];
  for (uint32_t d = 0; d < block.head_dim; ++d) {
    const auto value = [&](uint32_t j) {
      return cached(block.kv_dtype, block.v, uint64_t{j} * block.head_dim + d);
    };
    o[d] = Order::add_values(Order::corrected(o[d], correction), p, begin, end, value);
  }
}

}  // namespace

void attend_block(const AttendBlock& block) {
  for (uint32_t query = 0; query < block.queries; ++query) attend_row<Chains>(block, query);
}
void attend_block_tiles(const AttendBlock& block) {
  if (block.kv_dtype != Dtype::bf16) return attend_block(block);
  for (uint32_t query = 0; query < block.queries; ++query) attend_row<Tiles>(block, query);
}

void attend_merge(uint32_t head_dim, float* m, float* l, float* o, float m2, float l2, const float* o2) {
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  if (m2 == kNothing) return;
  if (*m == kNothing) {
    *m = m2, *l = l2;
    std::memcpy(o, o2, head_dim * sizeof(float));
    return;
  }
  const float maximum = (m2 > *m ? m2 : *m) + 0.0f;
  const float mine = weight_f32(*m - maximum), theirs = weight_f32(m2 - maximum);
  *m = maximum;
  *l = std::fma(l2, theirs, *l * mine);
  for (uint32_t d = 0; d < head_dim; ++d) o[d] = std::fma(o2[d], theirs, o[d] * mine);
}

void attend_finish(Dtype D, uint32_t head_dim, float l, const float* o, float* out) {
  for (uint32_t d = 0; d < head_dim; ++d) out[d] = round_to(D, o[d] / l);
}

}  // namespace rhapsode::kernels::reference
