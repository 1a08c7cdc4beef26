// See ternary_source.h.
#include "model/ternary_source.h"

#include <cassert>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "model/element.h"
#include "quant/ternary.h"

namespace rhapsode::model {
namespace {

constexpr uint64_t kPieceElements = 1 << 18;

// The sum of the magnitudes of a tensor as the model's dtype has them.
float read_factor(const Checkpoint& checkpoint, const TensorInfo& tensor, Dtype dtype) {
  const uint64_t width = dtype_bytes(tensor.dtype), count = tensor.length_bytes / width;
  std::vector<std::byte> piece;
  double sum = 0;
  for (uint64_t done = 0; done < count; done += kPieceElements) {
    const uint64_t elements = std::min(kPieceElements, count - done);
    piece.resize(elements * width);
    checkpoint.read(tensor, done * width, piece);
    for (uint64_t i = 0; i < elements; ++i)
      sum += static_cast<double>(
          std::fabs(round_to(dtype, element_to_float(tensor.dtype, piece.data() + i * width))));
  }
  return quant::ternary_factor(sum, count);
}

void require_finite(float value, const Checkpoint& checkpoint, const TensorInfo& tensor) {
  if (std::isfinite(value) && value != 0.0f) return;
  throw Error(ErrorKind::integrity, "ternary-scale", "the scale of a ternary weight is unusable")
      .in(checkpoint.shards()[tensor.shard].path())
      .at(tensor.name)
      .saw(std::to_string(value))
      .want("a finite number other than zero");
}

}  // namespace

TernarySource::TernarySource(const arch::ModelTensors& tensors, const Checkpoint& checkpoint, Dtype dtype,
                             ThreadPool& pool)
    : checkpoint_(checkpoint), dtype_(dtype) {
  for (const arch::LayerTensors& layer : tensors.layers)
    for (const arch::LinearSource* source : {&layer.qkv, &layer.o, &layer.up, &layer.down})
      for (const arch::LinearPart& part : source->parts)
        if (part.kind == arch::LinearKind::ternary_online)
          for (const arch::RowRun& run : part.weight) factors_[run.tensor] = 0.0f;
  std::vector<std::pair<const TensorInfo*, float*>> jobs;
  for (auto& [name, factor] : factors_) jobs.emplace_back(checkpoint.find(name), &factor);
  pool.run([&](uint32_t member) {
    for (size_t i = member; i < jobs.size(); i += pool.threads())
      *jobs[i].second = read_factor(checkpoint, *jobs[i].first, dtype);
  });
  for (const auto& [tensor, factor] : jobs) require_finite(*factor, checkpoint, *tensor);
}

float TernarySource::scale(const arch::LinearPart& part) const {
  if (part.kind == arch::LinearKind::ternary_online)
    return round_to(dtype_, 1.0f / factors_.at(part.weight.front().tensor));
  const TensorInfo& tensor = *checkpoint_.find(part.weight_scale);
  std::byte raw[8];
  checkpoint_.read(tensor, 0, {raw, dtype_bytes(tensor.dtype)});
  const float value = round_to(dtype_, element_to_float(tensor.dtype, raw));
  require_finite(value, checkpoint_, tensor);
  return value;
}

void TernarySource::read_row(const arch::LinearPart& part, const arch::RowRun& run, uint64_t cols,
                             uint64_t row, std::vector<std::byte>& staging, std::span<int8_t> out) const {
  const TensorInfo& tensor = *checkpoint_.find(run.tensor);
  const uint64_t row_bytes = cols * dtype_bytes(tensor.dtype);
  staging.resize(row_bytes);
  if (part.is_packed()) {
    const uint64_t packed_rows = tensor.shape[0];
    checkpoint_.read(tensor, row % packed_rows * row_bytes, staging);
    const quant::TernaryRows rows{staging, row % packed_rows, packed_rows, cols};
    if (!quant::unpack_ternary_row(rows, row, out))
      throw Error(ErrorKind::integrity, "ternary-field", "a packed ternary weight holds the field 3")
          .in(checkpoint_.shards()[tensor.shard].path())
          .at(tensor.name)
          .saw("row " + std::to_string(row))
          .want("fields 0, 1 and 2: -1, 0 and 1");
    return;
  }
  checkpoint_.read(tensor, row * row_bytes, staging);
  const bool stored = part.kind == arch::LinearKind::ternary_stored;
  const float factor = stored ? 1.0f : factors_.at(run.tensor);
  const uint64_t width = dtype_bytes(tensor.dtype);
  for (uint64_t k = 0; k < cols; ++k) {
    const float value = round_to(dtype_, element_to_float(tensor.dtype, staging.data() + k * width));
    out[k] = quant::ternary_value(value, factor);
    if (stored && static_cast<float>(out[k]) != value)
      throw Error(ErrorKind::unsupported, "not-ternary", "an unpacked ternary weight holds another value")
          .in(checkpoint_.shards()[tensor.shard].path())
          .at(tensor.name)
          .saw(std::to_string(value) + " in row " + std::to_string(row))
          .want("-1, 0 and 1, which weight_scale multiplies");
  }
}

void TernarySource::read_rows(const arch::LinearPart& part, uint64_t cols, uint64_t first, uint64_t count,
                              std::vector<std::byte>& staging, std::vector<int8_t>& values) const {
  values.resize(count * cols);
  uint64_t run_start = 0, done = 0;
  for (const arch::RowRun& run : part.weight) {
    for (; done < count && first + done < run_start + run.row_count; ++done)
      read_row(part, run, cols, run.first_row + (first + done - run_start), staging,
               std::span(values).subspan(done * cols, cols));
    run_start += run.row_count;
  }
  assert(done == count);
}

}  // namespace rhapsode::model
