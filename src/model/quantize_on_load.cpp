#include "model/quantize_on_load.h"

#include <cmath>
#include <limits>

#include "base/error.h"
#include "model/weight_blocks.h"
#include "quant/codec.h"

namespace rhapsode::model {
namespace {

using quant::Format;
using quant::kBlockCols;
using quant::kPanelRows;

constexpr float kNoThreshold = std::numeric_limits<float>::quiet_NaN();
constexpr uint64_t kInt8Padding = 3;     // of a row's codes, which kernels fill up with zeros
constexpr uint64_t kPieceBlocks = 1024;  // read at a time where no rows are

// A row of a part: where it stands in the checkpoint.
struct SourceRow {
  const TensorInfo* tensor;
  uint64_t row;
};

SourceRow source_row(const Checkpoint& checkpoint, const arch::LinearPart& source, uint64_t row) {
  for (const arch::RowRun& run : source.weight) {
    if (row < run.row_count) return {checkpoint.find(run.tensor), run.first_row + row};
    row -= run.row_count;
  }
  return {nullptr, 0};
}

uint64_t elements(const TensorInfo& tensor) {
  uint64_t count = 1;
  for (const uint64_t size : tensor.shape) count *= size;
  return count;
}

// The absmax values of one tensor, whole, and what double quantization makes of them.
struct TensorScales {
  std::vector<float> absmax;
  quant::NestedScales nested;
};
using ScaleTable = std::map<std::string, TensorScales>;

// One member's buffers.
struct PanelWork {
  ElementReader reader;
  std::vector<float> row;
  std::vector<uint8_t> codes;
  std::vector<int8_t> int8_codes;
};

class PartLoader {
 public:
  PartLoader(const QuantizedLoad& load, const arch::LinearPart& source, uint64_t cols, Linear::Part& part)
      : load_(load), source_(source), cols_(cols), part_(part), format_(part.format.format) {}

  void run() {
    const bool dequantized = part_.format.dequantized != nullptr;
    const bool nested = dequantized ? part_.format.dequantized_nested : quant::is_nested(format_);
    if (dequantized || nested) size_tables();
    // Nested scales are of whole tensors; what other parts quantize has to be measured here too.
    if (dequantized || (nested && !covers_its_tensors())) measure_blocks();
    if (!dequantized) for_panels([&](PanelWork& work, uint64_t panel) { quantize_panel(work, panel); });
    if (nested) nest_tables();
    if (dequantized)
      for_panels([&](PanelWork& work, uint64_t panel) { dequantize_panel(work, panel); });
    else if (nested)
      for_panels([&](PanelWork&, uint64_t panel) { set_nested(panel); });
  }

 private:
  template <class Body>
  void for_panels(Body body) {
    load_.pool->run([&](uint32_t member) {
      PanelWork work{{*load_.checkpoint, *load_.kernels, load_.dtype}, {}, {}, {}};
      const Range range = share(part_.panels, member, load_.pool->threads());
      for (uint64_t panel = range.begin; panel < range.end; ++panel) body(work, panel);
    });
  }

  uint32_t rows_of(uint64_t panel) const {
    return static_cast<uint32_t>(std::min<uint64_t>(kPanelRows, part_.rows - panel * kPanelRows));
  }
  std::span<std::byte> bytes_of(uint64_t panel) const {
    return {part_.data + panel * part_.panel_bytes, part_.panel_bytes};
  }
  SourceRow row_at(uint64_t panel, uint32_t row) const {
    return source_row(*load_.checkpoint, source_, panel * kPanelRows + row);
  }

  void size_tables() {
    for (const arch::RowRun& run : source_.weight) {
      const TensorInfo& tensor = *load_.checkpoint->find(run.tensor);
      tables_[run.tensor].absmax.resize((elements(tensor) + kBlockCols - 1) / kBlockCols);
    }
  }

  void quantize_panel(PanelWork& work, uint64_t panel) {
    if (format_ == Format::int8)
      int8_panel(work, panel);
    else
      four_bit_panel(work, panel);
    load_.done(part_.panel_bytes);
  }

  void int8_panel(PanelWork& work, uint64_t panel) {
    const uint32_t rows = rows_of(panel);
    work.row.resize(cols_);
    work.int8_codes.resize(rows * cols_ + kInt8Padding);
    float scb[kPanelRows];
    for (uint32_t r = 0; r < rows; ++r) {
      const SourceRow at = row_at(panel, r);
      work.reader.read(*at.tensor, at.row * cols_, work.row);
      load_.kernels->quantize_int8(work.row.data(), cols_, kNoThreshold, work.int8_codes.data() + r * cols_,
                                   &scb[r]);
      if (!std::isfinite(scb[r])) refuse_value(*at.tensor, at.row, scb[r]);
    }
    quant::pack_int8_panel(std::span(work.int8_codes).first(rows * cols_), {scb, rows}, cols_,
                           bytes_of(panel));
  }

  void four_bit_panel(PanelWork& work, uint64_t panel) {
    const quant::FourBitCode& code = quant::four_bit_code(format_);
    const uint32_t rows = rows_of(panel);
    const uint64_t blocks = cols_ / kBlockCols;
    work.row.resize(cols_);
    work.codes.resize(rows * cols_);
    std::vector<float> absmax(rows * blocks);
    for (uint32_t r = 0; r < rows; ++r) {
      const SourceRow at = row_at(panel, r);
      work.reader.read(*at.tensor, at.row * cols_, work.row);
      quantize_blocks(*load_.kernels, code, work.row, work.codes.data() + r * cols_,
                      absmax.data() + r * blocks);
      for (uint64_t b = r * blocks; b < (r + 1) * blocks; ++b)
        if (!std::isfinite(absmax[b])) refuse_value(*at.tensor, at.row, absmax[b]);
    }
    quant::pack_four_bit_panel(format_, work.codes, rows, cols_, bytes_of(panel));
    for (uint32_t r = 0; r < rows; ++r) {
      const std::span<const float> of_row = std::span(absmax).subspan(r * blocks, blocks);
      const SourceRow at = row_at(panel, r);
      if (quant::is_nested(format_))
        std::copy(of_row.begin(), of_row.end(),
                  tables_.at(at.tensor->name).absmax.begin() + static_cast<ptrdiff_t>(at.row * blocks));
      else
        quant::set_block_scales(bytes_of(panel), r, of_row);
    }
  }

  void set_nested(uint64_t panel) {
    for (uint32_t r = 0; r < rows_of(panel); ++r) {
      const SourceRow at = row_at(panel, r);
      quant::set_nested_scales(bytes_of(panel), r, cols_, tables_.at(at.tensor->name).nested,
                               at.row * (cols_ / kBlockCols));
    }
  }

  bool covers_its_tensors() const {
    std::map<std::string, uint64_t> rows;
    for (const arch::RowRun& run : source_.weight) rows[run.tensor] += run.row_count;
    for (const auto& [name, count] : rows)
      if (count * cols_ != elements(*load_.checkpoint->find(name))) return false;
    return true;
  }

  const quant::FourBitCode& code() const {
    return part_.format.dequantized != nullptr ? *part_.format.dequantized : quant::four_bit_code(format_);
  }

  // Absmax of every block of the tensors in flat order.
  void measure_blocks() {
    for (auto& [name, scales] : tables_) {
      const TensorInfo& tensor = *load_.checkpoint->find(name);
      load_.pool->run([&, &all = scales.absmax](uint32_t member) {
        ElementReader reader(*load_.checkpoint, *load_.kernels, load_.dtype);
        std::vector<uint8_t> codes(kPieceBlocks * kBlockCols);
        std::vector<float> x;
        const Range range = share(all.size(), member, load_.pool->threads());
        for (uint64_t b = range.begin; b < range.end; b += kPieceBlocks) {
          const uint64_t end = std::min(b + kPieceBlocks, range.end);
          x.resize(std::min(end * kBlockCols, elements(tensor)) - b * kBlockCols);
          reader.read(tensor, b * kBlockCols, x);
          quantize_blocks(*load_.kernels, code(), x, codes.data(), all.data() + b);
          for (uint64_t i = b; i < end; ++i)
            if (!std::isfinite(all[i])) refuse_value(tensor, i * kBlockCols / cols_, all[i]);
        }
      });
    }
  }

  void nest_tables() {
    for (auto& [name, scales] : tables_) {
      quant::NestedScales& nested = scales.nested;
      const std::span<const float> all = scales.absmax;
      nested.offset = quant::nested_offset(all);
      nested.codes.resize(all.size());
      nested.absmax.resize((all.size() + quant::kNestedBlocks - 1) / quant::kNestedBlocks);
      load_.pool->run([&](uint32_t member) {
        const Range range = share(nested.absmax.size(), member, load_.pool->threads());
        for (uint64_t b = range.begin; b < range.end; ++b) {
          const uint64_t first = b * quant::kNestedBlocks;
          nested.absmax[b] = quant::nest_block(
              all.subspan(first, std::min<uint64_t>(quant::kNestedBlocks, all.size() - first)), nested.offset,
              nested.codes.data() + first);
        }
      });
    }
  }

  float scale_of_block(const TensorScales& scales, uint64_t block) const {
    if (!part_.format.dequantized_nested) return scales.absmax[block];
    const quant::NestedScales& nested = scales.nested;
    return quant::nested_value(quant::kNestedMap.values[nested.codes[block]],
                               nested.absmax[block / quant::kNestedBlocks], nested.offset);
  }

  // Rows of dequantized values, packed dense. A row's first and last block may belong to its neighbours too.
  void dequantize_panel(PanelWork& work, uint64_t panel) {
    const quant::FourBitCode& code = *part_.format.dequantized;
    const uint32_t rows = rows_of(panel);
    std::vector<float> values(rows * cols_), around, absmax;
    for (uint32_t r = 0; r < rows; ++r) {
      const SourceRow at = row_at(panel, r);
      const uint64_t begin = at.row * cols_, end = begin + cols_, total = elements(*at.tensor);
      const uint64_t first = begin / kBlockCols * kBlockCols;
      const uint64_t last = std::min(total, (end + kBlockCols - 1) / kBlockCols * kBlockCols);
      around.resize(last - first);
      work.codes.resize(last - first);
      absmax.resize((last - first + kBlockCols - 1) / kBlockCols);
      work.reader.read(*at.tensor, first, around);
      quantize_blocks(*load_.kernels, code, around, work.codes.data(), absmax.data());
      const TensorScales& scales = tables_.at(at.tensor->name);
      for (uint64_t k = begin; k < end; ++k)
        values[r * cols_ + (k - begin)] = quant::four_bit_value(
            code, work.codes[k - first], scale_of_block(scales, k / kBlockCols), part_.format.compute);
    }
    quant::pack_panel(format_, Dtype::f32, std::as_bytes(std::span(values)), rows, cols_, bytes_of(panel));
    load_.done(part_.panel_bytes);
  }

  const QuantizedLoad& load_;
  const arch::LinearPart& source_;
  uint64_t cols_;
  Linear::Part& part_;
  Format format_;
  ScaleTable tables_;
};

}  // namespace

void load_quantized(const QuantizedLoad& load, const arch::LinearPart& source, uint64_t cols,
                    Linear::Part& part) {
  PartLoader(load, source, cols, part).run();
}

}  // namespace rhapsode::model
