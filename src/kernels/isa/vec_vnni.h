// Integer products with AVX512-VNNI, as reference_quantized.cpp and reference_ternary.cpp have them: a dword
// lane is an output row, its sum an exact integer, so the bits are those of every other set. Bytes are
// multiplied unsigned by signed: one side is moved by 128, and 128 times the sum of the other comes off.
// Needs vec_avx512.h and vec_table.h before it.
#pragma once

#include "kernels/isa/vec_vnni_four_bit.h"
#include "kernels/isa/vec_vnni_ternary.h"
#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

inline I moved_by_128(I signed_bytes) {
  return _mm512_xor_si512(signed_bytes, splat_i(0x80808080u));
}

// Here it is the activations that are moved: a panel knows the sums of its codes.
template <uint32_t Panels>
inline void gemv_int8_dots(const uint8_t* const* panels, const int8_t* x, float scale, uint64_t cols,
                           float* const* y) {
  I sums[Panels][kPanelVectors];
  at_each<Panels * kPanelVectors>([&](auto at) {
    sums[decltype(at)::value / kPanelVectors][decltype(at)::value % kPanelVectors] = splat_i(0);
  });
  for (uint64_t k = 0; k < cols; k += 4) {
    const I quad = moved_by_128(splat_dword(x + k));
    at_each<Panels * kPanelVectors>([&](auto at) {
      constexpr uint32_t p = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
      const uint8_t* w = panels[p] + quant::kInt8HeaderBytes + k * kPanelRows + v * kWidth * 4;
      prefetch_streamed(w);
      sums[p][v] = dot_bytes(sums[p][v], quad, load_dwords(w));
    });
  }
  at_each<Panels * kPanelVectors>([&](auto at) {
    constexpr uint32_t p = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
    const float* scb = reinterpret_cast<const float*>(panels[p]) + v * kWidth;
    const I excess = shift_left<7>(load_dwords(panels[p] + (kPanelRows + v * kWidth) * 4));
    store(y[p] + v * kWidth, int8_result(sub_i(sums[p][v], excess), splat(scale), load(scb)));
  });
}

void gemv_int8_vnni(const void* panel_a, const void* panel_b, const void* codes, const float* scales,
                    uint64_t cols, float* y_a, float* y_b) {
  const auto* x = static_cast<const int8_t*>(codes);
  with_panels(panel_a, panel_b, y_a, y_b, [&](auto count, const uint8_t* const* panels, float* const* y) {
    gemv_int8_dots<decltype(count)::value>(panels, x, *scales, cols, y);
  });
}

// A tile straight from a panel. The sums begin at -128 times those of the rows' codes and end exact.
struct Int8Tile {
  const uint8_t* panel;
  uint64_t k_begin;
  const uint8_t* a;
  uint64_t quads;
  float* c;
  uint64_t c_stride;

  I start(uint32_t r, uint32_t v) const {
    if (k_begin != 0) return bits(load(c + r * c_stride + v * kWidth));
    return sub_i(splat_i(0), shift_left<7>(load_dwords(panel + (kPanelRows + v * kWidth) * 4)));
  }

  template <uint32_t Rows>
  void run() const {
    I sums[Rows][kPanelVectors];
    at_each<Rows * kPanelVectors>([&](auto at) {
      constexpr uint32_t r = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
      sums[r][v] = start(r, v);
    });
    const uint8_t* w = panel + quant::kInt8HeaderBytes + k_begin * kPanelRows;
    const uint8_t* x = a;
    for (uint64_t quad = 0; quad < quads; ++quad, w += kPanelRows * 4, x += kGemmTokens * 4) {
      I weights[kPanelVectors];
      at_each<kPanelVectors>(
          [&](auto v) { weights[decltype(v)::value] = load_dwords(w + decltype(v)::value * kWidth * 4); });
      at_each<Rows>([&](auto r) {
        const I codes = splat_dword(x + decltype(r)::value * 4);
        at_each<kPanelVectors>([&](auto v) {
          I& sum = sums[decltype(r)::value][decltype(v)::value];
          sum = dot_bytes(sum, codes, weights[decltype(v)::value]);
        });
      });
    }
    at_each<Rows * kPanelVectors>([&](auto at) {
      constexpr uint32_t r = decltype(at)::value / kPanelVectors, v = decltype(at)::value % kPanelVectors;
      store(c + r * c_stride + v * kWidth, from_bits(sums[r][v]));
    });
  }
};

void tile_int8_vnni(const void* panel, uint64_t k_begin, const uint8_t* a, uint32_t tokens, uint64_t k_count,
                    float* c, uint64_t c_stride) {
  run_rows<kGemmTokens>(tokens,
                        Int8Tile{static_cast<const uint8_t*>(panel), k_begin, a, k_count / 4, c, c_stride});
}

// Independent sums in registers: more than an instruction's latency times its throughput.
template <class Sum, class Step>
inline uint64_t register_chains(uint64_t rounds, uint64_t per_lane, Sum start, Step step) {
  constexpr uint32_t kChains = 16;
  Sum sums[kChains];
  at_each<kChains>([&](auto at) { sums[decltype(at)::value] = start; });
  for (uint64_t round = 0; round < rounds; ++round)
    at_each<kChains>([&](auto at) { sums[decltype(at)::value] = step(sums[decltype(at)::value]); });
  at_each<kChains>([&](auto at) { pin(sums[decltype(at)::value]); });
  return rounds * kChains * kWidth * per_lane;
}

uint64_t probe_int16_vnni(uint64_t rounds) {
  const I ones = splat_i(0x00010001u);
  return register_chains(rounds, 4, splat_i(0), [=](I sum) { return add_pairs16(sum, ones, ones); });
}
uint64_t probe_int8_vnni(uint64_t rounds) {
  const I ones = splat_i(0x01010101u);
  return register_chains(rounds, 8, splat_i(0), [=](I sum) { return dot_bytes(sum, ones, ones); });
}

constexpr Kernels vnni_table(std::string_view name) {
  Kernels kernels = table(name);
  const auto gemv_of = [&](Format format) -> Kernels::GemvQuantized& {
    return kernels.gemv_quantized[static_cast<uint32_t>(format)];
  };
  gemv_of(Format::int8) = gemv_int8_vnni;
  gemv_of(Format::nf4) = gemv_fixed_vnni<Format::nf4>;
  gemv_of(Format::nf4_nested) = gemv_fixed_vnni<Format::nf4_nested>;
  gemv_of(Format::fp4) = gemv_fixed_vnni<Format::fp4>;
  gemv_of(Format::fp4_nested) = gemv_fixed_vnni<Format::fp4_nested>;
  gemv_of(Format::ternary) = gemv_ternary_vnni;
  kernels.tile_int8 = tile_int8_vnni;
  kernels.take_heavy = nullptr;
  kernels.tile_quads = nullptr;
  kernels.add_heavy = nullptr;
  kernels.dot_ternary = dot_ternary_vnni;
  kernels.tile_trits = tile_quads;  // exact of any columns
  kernels.probe_int16 = probe_int16_vnni;
  kernels.probe_int8 = probe_int8_vnni;
  return kernels;
}

}  // namespace
}  // namespace rhapsode::kernels
