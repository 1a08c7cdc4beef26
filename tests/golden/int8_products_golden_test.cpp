// LLM.int8() products equal to bitsandbytes' own on identical inputs: codes and scales of activations, which
// columns are outliers, and what comes out. Without outlier columns every bit is the library's; with them the
// sum over the columns is taken in another order than its BLAS takes, and what that may change is bounded.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/json.h"
#include "model/linear.h"
#include "models/paths.h"
#include "models/seeded_matrix.h"
#include "plan/footprint.h"
#include "quant/codec.h"
#include "support/tensor_hash.h"

namespace rhapsode {
namespace {

using quant::Format;
using quant::kPanelRows;

struct Case {
  uint64_t seed, tokens, rows, cols;
  Dtype dtype;
  float threshold;
  std::vector<float> x;  // [tokens][cols]
  std::vector<float> weight;
  std::vector<float> bias;  // empty: none
};

void round_all(std::vector<float>& values, Dtype dtype) {
  for (float& value : values) value = round_to(dtype, value);
}

// As tools/golden/int8_products.py makes them.
std::vector<float> activations(const Json& c, Dtype dtype) {
  const uint64_t tokens = c["tokens"], cols = c["cols"];
  std::vector<float> x = seeded_matrix(c["seed"], tokens * cols, 0.5f);
  const std::string kind = c["kind"];
  for (uint64_t t = 0; t < tokens; ++t) {
    for (uint64_t k = 3; kind == "columns" && k < cols; k += 11) x[t * cols + k] *= 16;
    if (kind == "scattered") x[t * cols + 37 * t % cols] *= 16;
  }
  if (kind == "zeros") std::fill_n(x.begin(), cols, 0.0f);
  if (kind == "overflow" && dtype != Dtype::f16) x[(tokens - 1) * cols + cols / 2] = 70000;
  round_all(x, dtype);
  return x;
}

Case read_case(const Json& c) {
  Case out{c["seed"],      c["tokens"], c["rows"], c["cols"], *dtype_from_name(c["dtype"].get<std::string>()),
           c["threshold"], {},          {},        {}};
  out.x = activations(c, out.dtype);
  out.weight = seeded_matrix(out.seed + 1, out.rows * out.cols, 0.1f);
  round_all(out.weight, out.dtype);
  round_all(out.weight, Dtype::f16);
  if (c["bias"].get<bool>()) out.bias = seeded_matrix(out.seed + 2, out.rows, 0.3f);
  round_all(out.bias, out.dtype);
  return out;
}

// The matrix as codes, and as the panels that kernels read.
struct Int8Matrix {
  std::vector<int8_t> codes;
  std::vector<float> scb;
  std::vector<std::byte> panels;

  explicit Int8Matrix(const Case& c) : codes(c.rows * c.cols), scb(c.rows) {
    const uint64_t each = quant::panel_bytes(Format::int8, c.cols);
    for (uint64_t r = 0; r < c.rows; ++r)
      scb[r] = quant::int8_row(std::span(c.weight).subspan(r * c.cols, c.cols), codes.data() + r * c.cols);
    panels.resize(each * quant::panel_count(c.rows));
    for (uint64_t first = 0; first < c.rows; first += kPanelRows) {
      const uint64_t count = std::min<uint64_t>(kPanelRows, c.rows - first);
      quant::pack_int8_panel(std::span(codes).subspan(first * c.cols, count * c.cols),
                             std::span(scb).subspan(first, count), c.cols,
                             std::span(panels).subspan(first / kPanelRows * each, each));
    }
  }
};

// y [tokens][rows] by model::multiply, all tokens as one call.
std::vector<float> product(const Case& c, const Int8Matrix& matrix, const kernels::Kernels& kernels,
                           uint32_t threads) {
  const uint64_t panels = quant::panel_count(c.rows), cols = quant::padded_cols(Format::int8, c.cols);
  std::vector<float> bias(c.bias);
  bias.resize(panels * kPanelRows);
  model::Linear linear;
  linear.cols = c.cols;
  linear.panels = panels;
  linear.bias = c.bias.empty() ? nullptr : bias.data();
  linear.int8_threshold = plan::outlier_threshold(c.threshold);
  model::Linear::Part part;
  part.rows = c.rows, part.panels = panels, part.padded_cols = cols;
  part.panel_bytes = quant::panel_bytes(Format::int8, c.cols);
  std::vector<std::byte> held(matrix.panels);
  part.data = held.data();
  part.format.format = Format::int8;
  part.format.compute = c.dtype;
  linear.parts = {part};
  struct Own {
    std::vector<float> expand, sums, rows;
    std::vector<uint32_t> marks;
  };
  const uint64_t tile = kernels.gemm_tokens;
  std::vector<Own> own(threads);
  for (Own& areas : own) {
    areas.expand.resize(std::max(plan::kColumnBlock * kPanelRows, 2 * cols));
    areas.sums.resize(plan::kTokenBlock * plan::tile_shape(kernels).panels * kPanelRows);
    areas.rows.resize(tile * cols / 2 + tile);
    areas.marks.resize(cols / 32 + 1);
  }
  std::vector<float> packed((c.tokens + tile + kernels::kMatrixRows) * (2 * cols + cols / 32 + 2)),
      y(c.tokens * panels * kPanelRows);
  const auto tokens = static_cast<uint32_t>(c.tokens);
  const model::Call call{0, tokens};
  ThreadPool pool(threads);
  pool.run([&](uint32_t member) {
    Own& areas = own[member];
    const model::Worker worker{&kernels,
                               &pool,
                               member,
                               threads,
                               areas.expand.data(),
                               areas.sums.data(),
                               areas.rows.data(),
                               areas.marks.data(),
                               packed.data()};
    model::multiply(worker, c.dtype, linear, {c.x.data(), c.cols, {&call, 1}}, tokens, y.data(),
                    panels * kPanelRows);
  });
  std::vector<float> out;
  for (uint64_t t = 0; t < c.tokens; ++t)
    out.insert(out.end(), y.begin() + static_cast<ptrdiff_t>(t * panels * kPanelRows),
               y.begin() + static_cast<ptrdiff_t>(t * panels * kPanelRows + c.rows));
  return out;
}

// How far two sums of the outlier columns of one output may be apart, whatever their orders: each rounds at
// most once a column, of terms that are no larger than the sum of their magnitudes; then one rounding to the
// dtype each.
double reordering(const Case& c, const Int8Matrix& matrix, const std::vector<uint32_t>& columns, uint64_t t,
                  uint64_t r, float y) {
  double magnitudes = std::fabs(y);
  for (const uint32_t k : columns)
    magnitudes +=
        std::fabs(c.x[t * c.cols + k] * quant::int8_value(matrix.codes[r * c.cols + k], matrix.scb[r]));
  const double unit = c.dtype == Dtype::f32 ? 0x1p-24 : c.dtype == Dtype::f16 ? 0x1p-11 : 0x1p-8;
  return 2 * 0x1p-24 * static_cast<double>(columns.size() + 1) * magnitudes +
         (c.dtype == Dtype::f32 ? 0.0 : 2 * unit * std::fabs(y));
}

struct Count {
  size_t outputs = 0, equal = 0;
};

void compare(const Json& c, const Case& made, const Int8Matrix& matrix, const std::vector<float>& y,
             Count& with_columns) {
  const auto columns = c["columns"].get<std::vector<uint32_t>>();
  ASSERT_EQ(y.size(), c["y"].size());
  for (size_t i = 0; i < y.size(); ++i) {
    const auto expected = std::bit_cast<float>(c["y"][i].get<int32_t>());
    const uint64_t t = i / made.rows, r = i % made.rows;
    const bool same = y[i] == expected || (std::isnan(y[i]) && std::isnan(expected));
    if (columns.empty()) {
      ASSERT_TRUE(same) << t << "," << r << ": " << y[i] << " " << expected << " of " << c["seed"];
      continue;
    }
    ++with_columns.outputs;
    with_columns.equal += same;
    if (!same) {
      ASSERT_NEAR(y[i], expected, reordering(made, matrix, columns, t, r, expected)) << c["seed"];
    }
  }
}

TEST(Int8Products, AreTheLibrarysOnTheSameInputs) {
  const Json cases = read_json_file(paths::fixtures() + "/golden/int8_products.json")["cases"];
  ASSERT_GE(cases.size(), 60u);
  Count with_columns;
  for (const kernels::KernelSet& set : kernels::kernel_sets()) {
    if (!set.supported) continue;
    for (size_t i = 0; i < cases.size(); ++i) {
      const Case made = read_case(cases[i]);
      const Int8Matrix matrix(made);
      compare(cases[i], made, matrix, product(made, matrix, *set.kernels, 1 + i % 2), with_columns);
      if (HasFatalFailure()) return;
    }
  }
  RecordProperty("outputs_with_columns", static_cast<int>(with_columns.outputs));
  RecordProperty("of_them_equal", static_cast<int>(with_columns.equal));
  EXPECT_GT(with_columns.outputs, 10000u);
  EXPECT_GT(with_columns.equal, with_columns.outputs / 2);
}

// What the products start from: quantize_int8 leaves a column that is an outlier of another token alone, so
// the codes are compared once such columns are cleared.
TEST(Int8Products, ActivationsAreTheLibrarysCodes) {
  const Json cases = read_json_file(paths::fixtures() + "/golden/int8_products.json")["cases"];
  for (const kernels::KernelSet& set : kernels::kernel_sets()) {
    if (!set.supported) continue;
    for (const Json& c : cases) {
      const Case made = read_case(c);
      const float threshold = plan::outlier_threshold(made.threshold);
      const auto columns = c["columns"].get<std::vector<uint32_t>>();
      testing::TensorHash codes, scales;
      std::vector<uint32_t> found, marks((made.cols + 31) / 32), all(marks.size());
      for (uint64_t t = 0; t < made.tokens; ++t) {
        std::vector<int8_t> row((made.cols + 3) / 4 * 4);
        float scale = 0;
        set.kernels->quantize_int8(&made.x[t * made.cols], made.cols, threshold, row.data(), &scale);
        for (const uint32_t k : columns) row[k] = 0;
        codes.add(std::as_bytes(std::span(row).first(made.cols)));
        scales.add(std::as_bytes(std::span(&scale, 1)));
        if (std::isnan(threshold)) continue;
        set.kernels->mark_outliers(&made.x[t * made.cols], made.cols, threshold, marks.data());
        for (size_t word = 0; word < marks.size(); ++word) all[word] |= marks[word];
      }
      for (uint32_t k = 0; k < made.cols; ++k)
        if (all[k / 32] >> k % 32 & 1) found.push_back(k);
      EXPECT_EQ(found, columns) << set.kernels->name << c["seed"];
      EXPECT_EQ(codes.text(), c["codes"]) << set.kernels->name << c["seed"];
      EXPECT_EQ(scales.text(), c["scales"]) << set.kernels->name << c["seed"];
    }
  }
}

// Tokens whose codes are spread evenly, and some whose codes are small but for one, are multiplied in two
// ways where bytes are multiplied to words: each as it is alone.
TEST(Int8Products, TokensOfLargeAndOfSmallCodesGiveWhatEachGivesAlone) {
  Case all{
      5, 20, 70, 580, Dtype::f32, 0.0f, seeded_matrix(5, 20 * 580, 0.5f), seeded_matrix(6, 70 * 580, 0.1f),
      {}};
  for (uint64_t t = 9; t < all.tokens; ++t)
    for (uint64_t k = 0; k < all.cols; ++k) all.x[t * all.cols + k] *= k == t ? 10.0f : 0.1f;
  const Int8Matrix matrix(all);
  for (const kernels::KernelSet& set : kernels::kernel_sets()) {
    if (!set.supported) continue;
    const std::vector<float> together = product(all, matrix, *set.kernels, 2);
    for (uint64_t t = 0; t < all.tokens; ++t) {
      Case one = all;
      one.tokens = 1;
      const auto row = all.x.begin() + static_cast<ptrdiff_t>(t * all.cols);
      one.x.assign(row, row + static_cast<ptrdiff_t>(all.cols));
      const std::vector<float> alone = product(one, matrix, *set.kernels, 1);
      ASSERT_EQ(std::memcmp(alone.data(), together.data() + t * all.rows, all.rows * sizeof(float)), 0)
          << set.kernels->name << " token " << t;
    }
  }
}

}  // namespace
}  // namespace rhapsode
