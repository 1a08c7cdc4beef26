// Attention to a bf16 cache by tiles, in the order of kernels/matrix_tiles.h. Included by vec_amx.h.
#pragma once

#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

// 32 elements of each of some rows of the cache, rows being head dims of K or tokens of V.
struct CachedRows {
  const uint8_t* from;  // of row 0
  uint64_t stride;
  Visible rows;    // others count as zeros
  uint32_t count;  // of elements, if not all 32
  int64_t ahead;   // bytes to what is fetched beside each row; 0: nothing

  I row(uint32_t r) const {
    if (r < rows.begin || r >= rows.end) return splat_i(0);
    const uint8_t* at = from + r * stride;
    if (ahead != 0) prefetch_beside(at + ahead);
    if (count == kPieceColumns) return load_dwords(at);
    uint8_t some[kPieceColumns * 2] = {};
    __builtin_memcpy(some, at, count * 2);
    return load_dwords(some);
  }
  // Rows up to `end`, an even number: out[rows / 2][32] dwords, the earlier row in the lower half.
  void pair(uint32_t end, uint8_t* out) const {
    const I first = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38,
                                     6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const I second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
    for (uint32_t r = 0; r < end; r += 2, out += kDwordBytes) {
      const I earlier = row(r), later = row(r + 1);
      _mm512_storeu_si512(out, _mm512_permutex2var_epi16(earlier, first, later));
      _mm512_storeu_si512(out + kWidth * 4, _mm512_permutex2var_epi16(earlier, second, later));
    }
  }
};

inline int64_t distance(const void* from, const void* to) {
  return static_cast<const uint8_t*>(to) - static_cast<const uint8_t*>(from);
}
inline int64_t distance_if_any(const void* from, const void* to) {
  return to != nullptr ? distance(from, to) : 0;
}

// Query rows, 32 at a time: work(more than 16, query, rows). Then the tiles are whole, since configuring them
// takes as long as multiplying by 8 of them.
static_assert(kAttendRows == kMatrixTokens);
template <class Work>
inline void for_query_tiles(const AttendBlock& block, uint32_t& configured, Work work) {
  for (uint32_t query = 0; query < block.queries; query += kMatrixTokens) {
    const uint32_t left = block.queries - query, rows = left < kMatrixTokens ? left : kMatrixTokens;
    configure_for(rows > kMatrixRows ? kMatrixTokens : rows, configured);
    if (rows > kMatrixRows) {
      work(std::true_type{}, query, rows);
    } else {
      work(std::false_type{}, query, rows);
    }
  }
}

// Weights as three bf16 whose sum they are: of each 32 tokens the parts one after the other. Scores stand
// further behind, so that each is read before its place is taken.
constexpr uint32_t kParts = 3;
constexpr uint64_t kPartsBytes = kParts * kMatrixLine;

struct PartedWeights {
  static constexpr bool kInt8 = false;
  static constexpr uint32_t kStride = kAttendScratch;
  static constexpr uint32_t kScores = kAttendScratch - kBlockTokens;

  // Never -0, so that tokens which are not seen change nothing by adding 0.
  static F corrected(F o, F factor) { return fma(o, factor, zero()); }
  static void see_nothing(float* scores) {
    for (uint32_t j = 0; j < kAttendScratch; j += kWidth) store(scores - kScores + j, zero());
  }
  static F cut(F x) { return from_bits(and_i(bits(x), splat_i(0xffff0000u))); }
  static float weigh_row(const AttendBlock&, Visible seen, float maximum, float* scores) {
    const I upper_words = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31,
                                           29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    auto* out = reinterpret_cast<uint8_t*>(scores - kScores);
    F sum = zero();
    for (uint32_t j = 0; j < kBlockTokens; j += 2 * kWidth) {
      F left[2];
      at_each<2>([&](auto at) {
        const uint32_t first = j + decltype(at)::value * kWidth;
        F weight = weight_of(load(scores + first) - splat(maximum));
        if (!seen.whole()) weight = choose(lanes_between(first, seen.begin, seen.end), weight, zero());
        sum = sum + weight;
        left[decltype(at)::value] = weight;
      });
      for (uint32_t part = 0; part < kParts; ++part, out += kMatrixLine) {
        _mm512_storeu_si512(out, _mm512_permutex2var_epi16(bits(left[0]), upper_words, bits(left[1])));
        for (F& weight : left) weight = weight - cut(weight);
      }
    }
    return total(&sum);
  }
  // The parts of a row as floats.
  static void read(const float* row, float (&parts)[kParts][kBlockTokens]) {
    for (uint32_t j = 0; j < kBlockTokens; j += kWidth)
      for (uint32_t part = 0; part < kParts; ++part) {
        const auto* words = reinterpret_cast<const uint8_t*>(row) + j / 32 * kPartsBytes + part * kMatrixLine;
        store(parts[part] + j, from_bits(shift_left<16>(load_u16(words + j % 32 * 2))));
      }
  }
};

constexpr uint32_t kTileDims = 128;  // that are multiplied at a time
constexpr uint32_t kHalves = kBlockTokens / kPieceColumns;
constexpr uint64_t kTilePairBytes = kMatrixDwords * kDwordBytes;  // of 32 rows of the cache

// q as bf16, zeros up to a multiple of 32 dims; behind the weights of all rows.
inline uint64_t query_bytes(const AttendBlock& block) {
  return (block.head_dim + 31) / 32 * kMatrixLine;
}
inline uint8_t* rounded_queries(const AttendBlock& block) {
  const uint64_t room = (block.queries + kAttendRows - 1) / kAttendRows * kAttendRows;
  return reinterpret_cast<uint8_t*>(block.scratch + room * kAttendScratch);
}
inline void round_queries(const AttendBlock& block) {
  uint8_t* out = rounded_queries(block);
  for (uint32_t query = 0; query < block.queries; ++query) {
    const float* q = block.q + query * block.q_stride;
    const auto some = [&](uint32_t d) {
      if (d + kWidth <= block.head_dim) return load(q + d);
      return d < block.head_dim ? load_first(q + d, block.head_dim - d) : zero();
    };
    for (uint32_t d = 0; d < block.head_dim; d += 2 * kWidth, out += kMatrixLine)
      _mm512_storeu_si512(out, bf16_words(some(d + kWidth), some(d)));
  }
}

// scores[query][token] = dot(q, k), unscaled, at least for the tokens of `all`.
inline void tile_scores(const AttendBlock& block, Visible all, uint32_t& configured) {
  alignas(64) uint8_t keys[kHalves][kTileDims / 32 * kTilePairBytes];
  constexpr uint64_t kStride = kBlockTokens * 2;
  const uint32_t first = all.begin / kPieceColumns, end = (all.end + kPieceColumns - 1) / kPieceColumns;
  for (uint32_t d = 0; d < block.head_dim; d += kTileDims) {
    const uint32_t dims = block.head_dim - d < kTileDims ? block.head_dim - d : kTileDims;
    const uint32_t steps = (dims + 31) / 32;
    for (uint32_t half = first; half < end; ++half)
      CachedRows{static_cast<const uint8_t*>(block.k) + d * kStride + half * kPieceColumns * 2,
                 kStride,
                 {0, dims},
                 kPieceColumns,
                 distance(block.k, block.v)}
          .pair(steps * 32, keys[half]);
    for_query_tiles(block, configured, [&](auto both, uint32_t query, uint32_t) {
      const uint8_t* queries = rounded_queries(block) + query * query_bytes(block) + d * 2;
      for (uint32_t half = first; half < end; ++half) {
        const TileSums<PairProducts, decltype(both)::value> sums{
            block.scratch + uint64_t{query} * kAttendScratch + PartedWeights::kScores + half * kPieceColumns,
            kAttendScratch, query_bytes(block), kMatrixRows * query_bytes(block)};
        sums.begin(d == 0);
        for (uint32_t step = 0; step < steps; ++step) {
          sums.load_weights(keys[half] + step * kTilePairBytes);
          sums.add(queries + step * kMatrixLine);
        }
        sums.end();
      }
    });
  }
}

// o continues by the values times PartedWeights.
inline void add_tile_values(const AttendBlock& block, Visible all, uint32_t& configured) {
  alignas(64) uint8_t values[kHalves * kTilePairBytes];
  alignas(64) float some[kMatrixTokens * kPieceColumns];
  const uint64_t stride = block.head_dim * 2;
  const uint32_t first = all.begin / kPieceColumns, end = (all.end + kPieceColumns - 1) / kPieceColumns;
  for (uint32_t d = 0; d < block.head_dim; d += kPieceColumns) {
    const uint32_t count = block.head_dim - d < kPieceColumns ? block.head_dim - d : kPieceColumns;
    const auto* v = static_cast<const uint8_t*>(block.v);
    CachedRows{v + d * 2, stride, all, count, distance_if_any(v, block.next_k)}.pair(kBlockTokens, values);
    for_query_tiles(block, configured, [&](auto both, uint32_t query, uint32_t rows) {
      float* o = block.o + uint64_t{query} * block.head_dim + d;
      const auto copy = [&](float* to, uint64_t to_stride, const float* from, uint64_t from_stride) {
        for (uint32_t r = 0; r < rows; ++r)
          __builtin_memcpy(to + r * to_stride, from + r * from_stride, count * sizeof(float));
      };
      const bool apart = count < kPieceColumns;
      if (apart) copy(some, kPieceColumns, o, block.head_dim);
      const TileSums<PairProducts, decltype(both)::value> sums{
          apart ? some : o, apart ? kPieceColumns : block.head_dim, kAttendScratch * 4,
          kMatrixRows * kAttendScratch * 4};
      sums.begin(false);
      for (uint32_t half = first; half < end; ++half) {
        const auto* weights =
            reinterpret_cast<const uint8_t*>(block.scratch + uint64_t{query} * kAttendScratch) +
            half * kPartsBytes;
        sums.load_weights(values + half * kTilePairBytes);
        for (uint32_t part = 0; part < kParts; ++part) sums.add(weights + part * kMatrixLine);
      }
      sums.end();
      if (apart) copy(o, block.head_dim, some, kPieceColumns);
    });
  }
}

inline bool all_see_the_same(const AttendBlock& block) {
  for (uint32_t query = 1; query < block.queries; ++query)
    if (block.begin[query] != block.begin[0] || block.end[query] != block.end[0]) return false;
  return true;
}

// Whether 0 times a value of these tokens is 0.
inline bool values_are_finite(const AttendBlock& block, Visible all) {
  const auto* from = static_cast<const uint8_t*>(block.v) + uint64_t{all.begin} * block.head_dim * 2;
  const uint64_t bytes = uint64_t{all.end - all.begin} * block.head_dim * 2;
  F differences = zero();
  const auto look_at = [&](I words) {
    const F odd = from_bits(and_i(words, splat_i(0xffff0000u))), even = from_bits(shift_left<16>(words));
    differences = differences + (odd - odd) + (even - even);
  };
  uint64_t at = 0;
  for (; at + 64 <= bytes; at += 64) look_at(load_dwords(from + at));
  uint8_t rest[64] = {};
  __builtin_memcpy(rest, from + at, bytes - at);
  look_at(load_dwords(rest));
  return is_nan(differences) == 0;
}

}  // namespace
}  // namespace rhapsode::kernels

#include "kernels/isa/vec_amx_few.h"

namespace rhapsode::kernels {
namespace {

void attend_rows(const AttendBlock& block, Visible all) {
  if (block.queries <= kFewRows) return attend_few(block, all);
  uint32_t configured = 0;
  tile_scores(block, all, configured);
  {
    const WithoutSubnormals within;
    weigh<PartedWeights>(block);
  }
  add_tile_values(block, all, configured);
  release_tiles();
}

void attend_block_tiles(const AttendBlock& block) {
  if (block.kv_dtype != Dtype::bf16) return attend_block(block);
  if (block.queries > kFewRows && !block.same_queries) round_queries(block);
  const Visible all = visible_to_any(block);
  if (all.empty()) return;
  if (all_see_the_same(block) || values_are_finite(block, all)) return attend_rows(block, all);
  AttendBlock one = block;  // a token that a row does not see must not reach it
  one.queries = 1;
  for (uint32_t query = 0; query < block.queries; ++query) {
    if (!visible(one, 0).empty()) attend_rows(one, visible(one, 0));
    ++one.begin, ++one.end, ++one.m, ++one.l;
    one.q += block.q_stride, one.o += block.head_dim;
  }
}

}  // namespace
}  // namespace rhapsode::kernels
