// The workspace of a pass: areas that are in use together have room of their own, those that follow one
// another share.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "arch/spec.h"
#include "plan/footprint.h"

namespace rhapsode::plan {
namespace {

constexpr uint64_t kTokens = 6;

arch::Spec spec_of(arch::ResidualKind residual) {
  arch::Spec spec;
  spec.hidden_size = 96;
  spec.intermediate_size = 160;
  spec.num_hidden_layers = 1;
  spec.num_attention_heads = 6;
  spec.num_key_value_heads = 2;
  spec.head_dim = 16;
  spec.vocab_size = 50;
  spec.residual = residual;
  return spec;
}

constexpr StepLimits kLimits{40, kTokens, 1, 2, {6, 1, kPanelGroup}};

struct Area {
  uint64_t begin, floats;
};

void expect_apart(std::vector<Area> areas, uint64_t end) {
  std::sort(areas.begin(), areas.end(), [](const Area& a, const Area& b) { return a.begin < b.begin; });
  for (size_t i = 0; i < areas.size(); ++i)
    EXPECT_LE(areas[i].begin + areas[i].floats, i + 1 < areas.size() ? areas[i + 1].begin : end)
        << "area " << i;
}

// Attention reads what it norms and writes a branch; the feed-forward block begins when it is over.
void expect_rooms(const arch::Spec& spec) {
  const WorkspaceLayout at = workspace_layout(spec, kLimits);
  const uint64_t hidden = kTokens * at.hidden_stride, end = at.packed;
  const Area x{at.x, hidden}, normed{at.normed, hidden}, branch{at.branch, hidden};
  const Area qkv{at.qkv, kTokens * at.qkv_stride}, attn{at.attn, kTokens * at.attn_stride};
  const Area up{at.up, kTokens * at.up_stride};
  expect_apart({x, normed, qkv, attn}, end);
  expect_apart({x, branch, qkv, attn}, end);
  expect_apart({x, normed, up}, end);
  expect_apart({x, branch, up}, end);
  if (spec.residual == arch::ResidualKind::sequential) return;
  expect_apart({x, normed, branch, {at.branch2, hidden}, up}, end);
}

TEST(Workspace, WhatIsInUseTogetherHasRoomOfItsOwn) {
  for (const auto residual : {arch::ResidualKind::sequential, arch::ResidualKind::parallel_shared,
                              arch::ResidualKind::parallel_two})
    for (const auto ffn : {arch::FfnKind::glu, arch::FfnKind::fc})
      for (const uint64_t inner : {32, 160, 1000}) {
        SCOPED_TRACE(testing::Message()
                     << static_cast<int>(residual) << ' ' << static_cast<int>(ffn) << ' ' << inner);
        arch::Spec spec = spec_of(residual);
        spec.ffn = ffn;
        spec.intermediate_size = inner;
        expect_rooms(spec);
      }
}

TEST(Workspace, MatricesThatNormTheirInputHaveABranchBesideIt) {
  arch::Spec spec = spec_of(arch::ResidualKind::sequential);
  const WorkspaceLayout shared = workspace_layout(spec, kLimits);
  EXPECT_EQ(shared.branch, shared.normed);
  spec.linear_norm_eps = 1e-5f;
  const WorkspaceLayout own = workspace_layout(spec, kLimits);
  expect_apart({{own.normed, kTokens * own.hidden_stride}, {own.branch, kTokens * own.hidden_stride}},
               own.packed);
  EXPECT_EQ(own.total_floats - shared.total_floats, kTokens * own.hidden_stride);
}

}  // namespace
}  // namespace rhapsode::plan
