// attend_block, attend_merge and attend_finish: against softmax in double, and each set against the
// reference.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "base/checked.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Codes of `floats` with a scale a token, token j of [rows][columns] being a column of K or a row of V;
// `floats` become what the codes stand for.
std::vector<float> to_codes(std::vector<float>& floats, bool keys, uint32_t head_dim,
                            std::vector<std::byte>& bytes) {
  std::vector<float> scales;
  for (uint32_t j = 0; j < kBlockTokens; ++j) {
    scales.push_back(0.02f + 0.001f * static_cast<float>(j % 7));
    for (uint32_t d = 0; d < head_dim; ++d) {
      const size_t at = keys ? d * kBlockTokens + j : j * head_dim + d;
      const float code = std::clamp(std::nearbyint(floats[at] / scales[j]), -127.0f, 127.0f);
      bytes[at] = static_cast<std::byte>(static_cast<int8_t>(code));
      floats[at] = code * scales[j];
    }
  }
  return scales;
}

// A cache of some blocks of one kv head, and query rows over it.
struct Scene {
  Dtype dtype;
  uint32_t head_dim, queries, blocks;
  float softcap = 0.0f;
  std::vector<float> q;                                // [queries][head_dim + 3]
  std::vector<std::vector<std::byte>> k, v;            // a block each
  std::vector<std::vector<float>> k_values, v_values;  // the same as floats
  std::vector<std::vector<uint32_t>> begin, end;       // [blocks][queries]
  std::vector<std::vector<float>> k_scales, v_scales;  // of int8, a token each

  uint64_t stride() const { return head_dim + 3; }
};

struct State {
  std::vector<float> m, l, o;
  State(uint32_t queries, uint32_t head_dim) : m(queries, -kInfinity), l(queries), o(queries * head_dim) {}
};

enum class Mask { all, causal, ragged };

Scene make_scene(uint32_t seed, Dtype dtype, uint32_t head_dim, uint32_t queries, uint32_t blocks,
                 Mask mask) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Scene scene{dtype, head_dim, queries, blocks, 0.0f, {}, {}, {}, {}, {}, {}, {}, {}, {}};
  scene.q.resize(queries * scene.stride());
  for (float& x : scene.q) x = normal(random) * (random() % 20 == 0 ? 6.0f : 1.0f);
  if (dtype == Dtype::bf16)
    for (float& x : scene.q) x = round_to(Dtype::bf16, x);
  for (uint32_t b = 0; b < blocks; ++b) {
    for (const bool keys : {true, false}) {
      std::vector<float> floats(head_dim * kBlockTokens), scales;
      for (float& x : floats) x = round_to(dtype, normal(random));
      std::vector<std::byte> bytes(floats.size() * dtype_bytes(dtype));
      if (dtype == Dtype::i8)
        scales = to_codes(floats, keys, head_dim, bytes);
      else
        select_kernels("reference").store(dtype, floats.data(), floats.size(), bytes.data());
      (keys ? scene.k : scene.v).push_back(std::move(bytes));
      (keys ? scene.k_values : scene.v_values).push_back(std::move(floats));
      (keys ? scene.k_scales : scene.v_scales).push_back(std::move(scales));
    }
    std::vector<uint32_t> begin(queries, 0), end(queries, kBlockTokens);
    for (uint32_t i = 0; i < queries; ++i) {
      if (mask == Mask::causal) end[i] = b + 1 < blocks ? kBlockTokens : std::min(kBlockTokens, i / 2 + 1);
      if (mask == Mask::ragged) {
        begin[i] = random() % (kBlockTokens + 1);
        end[i] = random() % (kBlockTokens + 1);  // empty for about half of the rows
      }
    }
    scene.begin.push_back(begin);
    scene.end.push_back(end);
  }
  return scene;
}

// `scratch` is empty, or as the call before for the same queries left it.
void attend(const Kernels& set, const Scene& scene, uint32_t block, State& state,
            std::vector<float>& scratch) {
  const uint64_t room = round_up(scene.queries, kAttendRows);
  const bool same_queries = !scratch.empty();
  scratch.resize(room * attend_scratch(scene.head_dim), NAN);
  std::vector<float> o = state.o;
  o.resize(room * scene.head_dim, NAN);
  set.attend_block({.k = scene.k[block].data(),
                    .v = scene.v[block].data(),
                    .kv_dtype = scene.dtype,
                    .k_scales = scene.k_scales[block].data(),
                    .v_scales = scene.v_scales[block].data(),
                    .next_k = block + 1 < scene.blocks ? scene.k[block + 1].data() : nullptr,
                    .head_dim = scene.head_dim,
                    .queries = scene.queries,
                    .q = scene.q.data(),
                    .q_stride = scene.stride(),
                    .scale = 1.0f / std::sqrt(static_cast<float>(scene.head_dim)),
                    .softcap = scene.softcap,
                    .begin = scene.begin[block].data(),
                    .end = scene.end[block].data(),
                    .m = state.m.data(),
                    .l = state.l.data(),
                    .o = o.data(),
                    .scratch = scratch.data(),
                    .same_queries = same_queries});
  o.resize(state.o.size());
  state.o = o;
}

State attend_all(const Kernels& set, const Scene& scene) {
  State state(scene.queries, scene.head_dim);
  std::vector<float> scratch;
  for (uint32_t b = 0; b < scene.blocks; ++b) attend(set, scene, b, state, scratch);
  return state;
}

// Attention of one row in double; empty where it sees nothing.
std::vector<double> exact(const Scene& scene, uint32_t query) {
  std::vector<double> scores, out(scene.head_dim);
  double top = -kInfinity, sum = 0;
  for (uint32_t b = 0; b < scene.blocks; ++b) {
    for (uint32_t j = scene.begin[b][query]; j < scene.end[b][query]; ++j) {
      double s = 0;
      for (uint32_t d = 0; d < scene.head_dim; ++d)
        s += static_cast<double>(scene.q[query * scene.stride() + d]) *
             scene.k_values[b][d * kBlockTokens + j];
      s /= std::sqrt(static_cast<double>(scene.head_dim));
      if (scene.softcap != 0) s = scene.softcap * std::tanh(s / scene.softcap);
      scores.push_back(s);
      top = std::max(top, s);
    }
  }
  size_t at = 0;
  for (uint32_t b = 0; b < scene.blocks; ++b) {
    for (uint32_t j = scene.begin[b][query]; j < scene.end[b][query]; ++j) {
      const double p = std::exp(scores[at++] - top);
      sum += p;
      for (uint32_t d = 0; d < scene.head_dim; ++d) out[d] += p * scene.v_values[b][j * scene.head_dim + d];
    }
  }
  for (double& x : out) x /= sum;
  return scores.empty() ? std::vector<double>{} : out;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0;
}

// The reference of a set: those with matrix tiles have an order of their own.
const Kernels& reference_of(const Kernels& set) {
  return select_kernels(set.matrix != nullptr ? "reference-amx" : "reference");
}

void expect_softmax_attention(const Kernels& set, const Scene& scene, double tolerance) {
  const State state = attend_all(set, scene);
  for (uint32_t i = 0; i < scene.queries; ++i) {
    const std::vector<double> expected = exact(scene, i);
    if (expected.empty()) {
      EXPECT_EQ(state.m[i], -kInfinity);
      EXPECT_EQ(state.l[i], 0.0f);
      continue;
    }
    std::vector<float> out(scene.head_dim);
    set.attend_finish(Dtype::f32, scene.head_dim, state.l[i], state.o.data() + i * scene.head_dim,
                      out.data());
    for (uint32_t d = 0; d < scene.head_dim; ++d) EXPECT_NEAR(out[d], expected[d], tolerance);
  }
}

TEST(KernelsAttention, ReferencesAreSoftmaxAttention) {
  for (const std::string_view name : {"reference", "reference-amx"}) {
    for (Mask mask : {Mask::all, Mask::causal, Mask::ragged}) {
      for (const auto& [dtype, cap] : {std::pair{Dtype::bf16, 0.0f}, std::pair{Dtype::bf16, 5.0f},
                                       std::pair{Dtype::i8, 0.0f}, std::pair{Dtype::i8, 5.0f}}) {
        Scene scene = make_scene(1, dtype, 20, 9, 3, mask);
        scene.softcap = cap;
        expect_softmax_attention(select_kernels(name), scene, 3e-6);
      }
    }
  }
}

TEST(KernelsAttention, EverySetEqualsItsReferenceBitForBit) {
  for (const KernelSet& entry : kernel_sets()) {
    if (!entry.supported || entry.kernels->name == "reference") continue;
    for (Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::i8}) {
      for (uint32_t head_dim : {1u, 7u, 16u, 31u, 64u, 80u, 100u, 129u}) {
        for (uint32_t queries : {1u, 3u, 6u, 7u, 13u, 16u, 29u, 67u}) {
          for (Mask mask : {Mask::all, Mask::causal, Mask::ragged}) {
            Scene scene = make_scene(head_dim * 100 + queries, dtype, head_dim, queries, 2, mask);
            scene.softcap = queries % 2 == 0 ? 0.0f : 8.0f;
            const State expected = attend_all(reference_of(*entry.kernels), scene);
            const State found = attend_all(*entry.kernels, scene);
            ASSERT_TRUE(same(expected.m, found.m)) << "m " << head_dim << " " << queries;
            ASSERT_TRUE(same(expected.l, found.l)) << "l " << head_dim << " " << queries;
            ASSERT_TRUE(same(expected.o, found.o)) << "o " << head_dim << " " << queries;
          }
        }
      }
    }
  }
}

// Of scores that are peaked too, whose weights go down to nothing.
TEST(KernelsAttention, ARowDoesNotDependOnItsCompany) {
  for (const KernelSet& entry : kernel_sets()) {
    if (!entry.supported) continue;
    for (const float factor : {1.0f, 32.0f}) {
      Scene scene = make_scene(3, Dtype::bf16, 48, 14, 2, Mask::causal);
      for (float& x : scene.q) x *= factor;
      const State together = attend_all(*entry.kernels, scene);
      for (uint32_t i = 0; i < scene.queries; ++i) {
        Scene alone = scene;
        alone.queries = 1;
        alone.q.assign(scene.q.begin() + i * scene.stride(), scene.q.begin() + (i + 1) * scene.stride());
        for (uint32_t b = 0; b < scene.blocks; ++b) {
          alone.begin[b] = {scene.begin[b][i]};
          alone.end[b] = {scene.end[b][i]};
        }
        const State state = attend_all(*entry.kernels, alone);
        EXPECT_EQ(state.l[0], together.l[i]);
        EXPECT_EQ(0, std::memcmp(state.o.data(), together.o.data() + i * scene.head_dim, scene.head_dim * 4));
      }
    }
  }
}

TEST(KernelsAttention, WhatMaskedTokensHoldIsOfNoConsequence) {
  for (const KernelSet& entry : kernel_sets()) {
    if (!entry.supported) continue;
    for (const auto& [dtype, nan] :
         {std::pair{Dtype::f16, uint16_t{0x7e01}}, std::pair{Dtype::bf16, uint16_t{0x7fc1}}}) {
      Scene scene = make_scene(4, dtype, 40, 8, 1, Mask::all);
      for (uint32_t i = 0; i < scene.queries; ++i) {
        scene.begin[0][i] = 5 + i % 3;
        scene.end[0][i] = i == 6 ? 0 : 40 + i;
      }
      const State clean = attend_all(*entry.kernels, scene);
      for (uint32_t j = 0; j < kBlockTokens; ++j) {
        if (j >= 5 && j < 47) continue;
        for (uint32_t d = 0; d < scene.head_dim; ++d) {
          std::memcpy(scene.k[0].data() + (d * kBlockTokens + j) * 2, &nan, 2);
          std::memcpy(scene.v[0].data() + (j * scene.head_dim + d) * 2, &nan, 2);
        }
      }
      const State dirty = attend_all(*entry.kernels, scene);
      EXPECT_TRUE(same(clean.m, dirty.m) && same(clean.l, dirty.l) && same(clean.o, dirty.o))
          << entry.kernels->name;
      EXPECT_EQ(dirty.m[6], -kInfinity);
    }
  }
}

// One row sees a token that is no number, the others do not.
TEST(KernelsAttention, WhatOneRowSeesDoesNotReachAnother) {
  for (const KernelSet& entry : kernel_sets()) {
    if (!entry.supported) continue;
    Scene scene = make_scene(9, Dtype::bf16, 40, 35, 1, Mask::all);
    for (uint32_t i = 0; i < scene.queries; ++i) scene.end[0][i] = i == 0 ? 0 : 20 + i;
    const State clean = attend_all(*entry.kernels, scene);
    const uint16_t infinite = 0x7f80;
    std::memcpy(scene.v[0].data() + (53 * scene.head_dim + 39) * 2, &infinite, 2);
    const State dirty = attend_all(*entry.kernels, scene);
    for (uint32_t i = 0; i < scene.queries; ++i) {
      const float last = dirty.o[i * scene.head_dim + 39];
      EXPECT_EQ(std::isfinite(last), i < 34) << entry.kernels->name << " " << i;
      const size_t equal = i < 34 ? scene.head_dim : 39;
      EXPECT_EQ(0, std::memcmp(&clean.o[i * scene.head_dim], &dirty.o[i * scene.head_dim], equal * 4))
          << entry.kernels->name << " " << i;
    }
  }
}

TEST(KernelsAttention, ScalesOfMaskedTokensAreOfNoConsequence) {
  for (const KernelSet& entry : kernel_sets()) {
    if (!entry.supported) continue;
    Scene scene = make_scene(8, Dtype::i8, 40, 8, 1, Mask::all);
    for (uint32_t i = 0; i < scene.queries; ++i) scene.begin[0][i] = 5 + i % 3, scene.end[0][i] = 40 + i;
    const State clean = attend_all(*entry.kernels, scene);
    for (uint32_t j = 0; j < kBlockTokens; ++j)
      if (j < 5 || j >= 47) scene.k_scales[0][j] = scene.v_scales[0][j] = NAN;
    const State dirty = attend_all(*entry.kernels, scene);
    EXPECT_TRUE(same(clean.m, dirty.m) && same(clean.l, dirty.l) && same(clean.o, dirty.o))
        << entry.kernels->name;
  }
}

TEST(KernelsAttention, MergingChunksIsAttentionOverBoth) {
  const Scene scene = make_scene(5, Dtype::f32, 37, 6, 4, Mask::ragged);
  for (const KernelSet& entry : kernel_sets()) {
    if (!entry.supported) continue;
    const Kernels& set = *entry.kernels;
    State first(scene.queries, scene.head_dim), second = first, expected = first;
    std::vector<float> scratch;
    for (uint32_t b : {0u, 1u}) attend(select_kernels("reference"), scene, b, first, scratch);
    for (uint32_t b : {2u, 3u}) attend(select_kernels("reference"), scene, b, second, scratch);
    expected = first;
    for (uint32_t i = 0; i < scene.queries; ++i) {
      const uint64_t at = i * scene.head_dim;
      for (auto [kernels, state] :
           {std::pair{&set, &first}, std::pair{&select_kernels("reference"), &expected}})
        kernels->attend_merge(scene.head_dim, &state->m[i], &state->l[i], &state->o[at], second.m[i],
                              second.l[i], &second.o[at]);
      const std::vector<double> out = exact(scene, i);
      for (uint32_t d = 0; d < out.size(); ++d) EXPECT_NEAR(first.o[at + d] / first.l[i], out[d], 3e-6);
      for (Dtype D : {Dtype::f32, Dtype::f16, Dtype::bf16}) {
        std::vector<float> a(scene.head_dim), b(scene.head_dim);
        set.attend_finish(D, scene.head_dim, 1.7f, &first.o[at], a.data());
        select_kernels("reference").attend_finish(D, scene.head_dim, 1.7f, &first.o[at], b.data());
        EXPECT_TRUE(same(a, b));
      }
    }
    EXPECT_TRUE(same(first.m, expected.m) && same(first.l, expected.l) && same(first.o, expected.o))
        << set.name;
  }
}

}  // namespace
}  // namespace rhapsode::kernels
