// Attention of few query rows to a bf16 cache, in the order of kernels/matrix_tiles.h: to put the cache in
// order for tiles would take longer than to multiply it as it lies. Included by vec_amx.h.
#pragma once

#include "kernels/kernels.h"

namespace rhapsode::kernels {
namespace {

constexpr uint32_t kFewRows = 3;

// Tiles take what is below 2^-126 for zero and make none; vectors do so within. A weight so small, or a part
// of one, would take a hundred cycles otherwise: of peaked scores many are.
class WithoutSubnormals {
 public:
  WithoutSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040u); }
  ~WithoutSubnormals() { _mm_setcsr(before_); }
  WithoutSubnormals(const WithoutSubnormals&) = delete;
  WithoutSubnormals& operator=(const WithoutSubnormals&) = delete;

 private:
  uint32_t before_;
};

// c[r][columns] (+)= sum over rows [rows.begin, rows.end) of b times a. A row has `Parts` factors, whose
// products are summed one after the other for each 32 rows of b.
struct FewTile {
  const uint8_t* b;
  uint64_t b_stride;
  Visible rows;
  const float* a;  // [r][Parts][a_stride]
  uint64_t a_stride;
  float* c;
  uint64_t c_stride;
  bool first;
  int64_t ahead;  // bytes from b to what is fetched beside it; 0: nothing
};

// Sums over 32 rows of b at most: [part][row % 2], each of some vectors.
template <uint32_t Rows, uint32_t Parts, uint32_t Vectors>
struct FewSums {
  F of[Rows][Parts][2][Vectors];

  void begin() {
    for (auto& row : of)
      for (auto& part : row)
        for (auto& half : part)
          for (F& sum : half) sum = zero();
  }
  template <uint32_t Half>
  void add(const FewTile& at, uint32_t k) {
    const uint8_t* b = at.b + k * at.b_stride;
    if (at.ahead != 0)
      for (uint32_t line = 0; line < Vectors / 2; ++line) prefetch_beside(b + line * 64 + at.ahead);
    F w[Vectors];
    load_row_of<Dtype::bf16>(b, w);
    at_each<Rows * Parts>([&](auto row_part) {
      constexpr uint32_t r = decltype(row_part)::value / Parts, part = decltype(row_part)::value % Parts;
      const F x = splat_from(at.a + (r * Parts + part) * at.a_stride + k);
      at_each<Vectors>([&](auto v) {
        F& sum = of[r][part][Half][decltype(v)::value];
        sum = fma(x, w[decltype(v)::value], sum);
      });
    });
  }
  void add_to(F (&sums)[Rows][Vectors]) const {
    at_each<Rows * Vectors>([&](auto at) {
      constexpr uint32_t r = decltype(at)::value / Vectors, v = decltype(at)::value % Vectors;
      for (uint32_t part = 0; part < Parts; ++part)
        sums[r][v] = sums[r][v] + (of[r][part][0][v] + of[r][part][1][v]);
    });
  }
};

template <uint32_t Rows, uint32_t Parts, uint32_t Vectors>
[[gnu::noinline]] void sum_few_rows(const FewTile& at) {
  F sums[Rows][Vectors];
  for (uint32_t r = 0; r < Rows; ++r) {
    for (F& sum : sums[r]) sum = zero();
    if (!at.first) load_sums<Dtype::bf16>(at.c + r * at.c_stride, sums[r]);
  }
  for (uint32_t k = at.rows.begin; k < at.rows.end;) {
    const uint32_t stop = k / 32 * 32 + 32 < at.rows.end ? k / 32 * 32 + 32 : at.rows.end;
    FewSums<Rows, Parts, Vectors> some;
    some.begin();
    if (k % 2 != 0) some.template add<1>(at, k++);
    for (; k + 2 <= stop; k += 2) {
      some.template add<0>(at, k);
      some.template add<1>(at, k + 1);
    }
    if (k < stop) some.template add<0>(at, k++);
    some.add_to(sums);
  }
  for (uint32_t r = 0; r < Rows; ++r) store_sums<Dtype::bf16>(at.c + r * at.c_stride, sums[r]);
}

// tile_scores of few rows.
inline void few_scores(const AttendBlock& block) {
  const FewTile tile{static_cast<const uint8_t*>(block.k),
                     kBlockTokens * 2,
                     {0, block.head_dim},
                     block.q,
                     block.q_stride,
                     block.scratch + PartedWeights::kScores,
                     kAttendScratch,
                     true,
                     distance(block.k, block.v)};
  constexpr uint32_t kVectors = kBlockTokens / kWidth;
  static_assert(kFewRows == 3);
  if (block.queries == 1) return sum_few_rows<1, 1, kVectors>(tile);
  if (block.queries == 2) return sum_few_rows<2, 1, kVectors>(tile);
  sum_few_rows<3, 1, kVectors>(tile);
}

// Of all rows, two at a time.
inline void add_few_columns(uint32_t rows, FewTile tile) {
  for (; rows > 1; rows -= 2) {
    sum_few_rows<2, kParts, 2>(tile);
    tile.a += 2 * kParts * tile.a_stride, tile.c += 2 * tile.c_stride;
    tile.ahead = 0;
  }
  if (rows == 1) sum_few_rows<1, kParts, 2>(tile);
}

// add_tile_values of few rows.
inline void add_few_values(const AttendBlock& block, Visible all) {
  float parts[kFewRows][kParts][kBlockTokens];
  for (uint32_t r = 0; r < block.queries; ++r)
    PartedWeights::read(block.scratch + uint64_t{r} * kAttendScratch, parts[r]);
  const uint64_t stride = uint64_t{block.head_dim} * 2;
  uint32_t d = 0;
  const auto* v = static_cast<const uint8_t*>(block.v);
  const int64_t ahead = distance_if_any(block.v, block.next_k);
  for (; d + kPieceColumns <= block.head_dim; d += kPieceColumns)
    add_few_columns(block.queries, {v + d * 2, stride, all, parts[0][0], kBlockTokens, block.o + d,
                                    block.head_dim, false, ahead});
  if (d == block.head_dim) return;
  const uint32_t count = block.head_dim - d;
  uint8_t last[kBlockTokens][kPieceColumns * 2] = {};
  float o[kFewRows][kPieceColumns] = {};
  for (uint32_t token = all.begin; token < all.end; ++token)
    __builtin_memcpy(last[token], v + token * stride + d * 2, count * 2);
  for (uint32_t r = 0; r < block.queries; ++r)
    __builtin_memcpy(o[r], block.o + uint64_t{r} * block.head_dim + d, count * sizeof(float));
  add_few_columns(block.queries,
                  {last[0], sizeof last[0], all, parts[0][0], kBlockTokens, o[0], kPieceColumns, false, 0});
  for (uint32_t r = 0; r < block.queries; ++r)
    __builtin_memcpy(block.o + uint64_t{r} * block.head_dim + d, o[r], count * sizeof(float));
}

inline void attend_few(const AttendBlock& block, Visible all) {
  const WithoutSubnormals within;
  few_scores(block);
  weigh<PartedWeights>(block);
  add_few_values(block, all);
}

}  // namespace
}  // namespace rhapsode::kernels
