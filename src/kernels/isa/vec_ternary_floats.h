// Ternary weights as floats: -1, 0 and 1 times what is no int8. Needs a vec_<isa>.h before it.
#pragma once

#include "kernels/isa/vec_ternary.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

constexpr float kTernaryValues[4] = {-1.0f, 0.0f, 1.0f, 2.0f};

// One of the sixteen columns of each dword.
template <uint32_t Column>
inline F ternary_column(F table, I packed) {
  return look_up4(table, shift_right<Column % 4 * 8 + Column / 4 * 2>(packed));
}

// Two vectors of rows of each panel, sixteen columns: as many chains as hide a multiply-add's latency.
template <uint32_t Panels>
inline void add_sixteen(F table, const uint8_t* const (&blocks)[Panels], const float* x, uint32_t v,
                        F (&sums)[Panels][kPanelVectors]) {
  I packed[Panels][2];
  F sum[Panels][2];
  at_each<2 * Panels>([&](auto at) {
    constexpr uint32_t p = decltype(at)::value / 2, i = decltype(at)::value % 2;
    packed[p][i] = load_dwords(blocks[p] + (v + i) * kWidth * 4);
    sum[p][i] = sums[p][v + i];
  });
  at_each<kTernaryCols>([&](auto column) {
    const F token = splat_from(x + column);
    at_each<2 * Panels>([&](auto at) {
      constexpr uint32_t p = decltype(at)::value / 2, i = decltype(at)::value % 2;
      sum[p][i] = fma(ternary_column<decltype(column)::value>(table, packed[p][i]), token, sum[p][i]);
    });
  });
  at_each<2 * Panels>([&](auto at) {
    constexpr uint32_t p = decltype(at)::value / 2, i = decltype(at)::value % 2;
    sums[p][v + i] = sum[p][i];
  });
}

template <uint32_t Panels>
inline void gemv_ternary_panels(const uint8_t* const* panels, const float* x, uint64_t cols,
                                float* const* y) {
  const F table = table4(kTernaryValues);
  F sums[Panels][kPanelVectors];
  for (auto& panel : sums)
    for (F& sum : panel) sum = zero();
  for (uint64_t k = 0; k < cols; k += kTernaryCols) {
    const uint8_t* blocks[Panels];
    for (uint32_t p = 0; p < Panels; ++p) {
      blocks[p] = panels[p] + k / kTernaryCols * kBlockBytes16;
      prefetch_unpacked(blocks[p]);
      prefetch_unpacked(blocks[p] + 64);
    }
    for (uint32_t v = 0; v < kPanelVectors; v += 2) add_sixteen<Panels>(table, blocks, x + k, v, sums);
  }
  for (uint32_t p = 0; p < Panels; ++p)
    for (uint32_t v = 0; v < kPanelVectors; ++v) store(y[p] + v * kWidth, sums[p][v]);
}

void gemv_trits(const void* panel_a, const void* panel_b, const float* x, uint64_t cols, float* y_a,
                float* y_b) {
  with_panels(panel_a, panel_b, y_a, y_b, [&](auto count, const uint8_t* const* panels, float* const* y) {
    gemv_ternary_panels<decltype(count)::value>(panels, x, cols, y);
  });
}

void expand_ternary(const void* panel, uint64_t, uint64_t k_begin, uint64_t k_count, float* out) {
  const F table = table4(kTernaryValues);
  const auto* p = static_cast<const uint8_t*>(panel) + k_begin / kTernaryCols * kBlockBytes16;
  for (uint64_t k = 0; k < k_count; k += kTernaryCols, p += kBlockBytes16)
    for (uint32_t v = 0; v < kPanelVectors; ++v) {
      const I packed = load_dwords(p + v * kWidth * 4);
      float* to = out + k * kPanelRows + v * kWidth;
      at_each<kTernaryCols>([&](auto column) {
        store(to + column * kPanelRows, ternary_column<decltype(column)::value>(table, packed));
      });
    }
}

}  // namespace
}  // namespace rhapsode::kernels
