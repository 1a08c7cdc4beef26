// See stored_source.h.
#include "model/stored_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "arch/stored_weights.h"
#include "base/error.h"
#include "checkpoint/bnb_state.h"
#include "quant/codec.h"

namespace rhapsode::model {
namespace {

using quant::kBlockCols;
using quant::kNestedBlocks;
using quant::kPanelRows;

Error broken(const Checkpoint& checkpoint, const TensorInfo& tensor, const char* code, const char* message) {
  return Error(ErrorKind::integrity, code, message)
      .in(checkpoint.shards()[tensor.shard].path())
      .at(tensor.name)
      .hint("the checkpoint is damaged: fetch it again");
}

template <class T>
std::vector<T> read_all(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  std::vector<T> values(tensor.length_bytes / sizeof(T));
  checkpoint.read(tensor, 0, std::as_writable_bytes(std::span(values)));
  return values;
}

std::vector<float> read_finite(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  std::vector<float> values = read_all<float>(checkpoint, tensor);
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      throw broken(checkpoint, tensor, "stored-scale", "a scale of a quantized weight is not finite")
          .saw(std::to_string(values[i]) + " at index " + std::to_string(i))
          .want("a finite number");
  return values;
}

// The scales of one 4-bit tensor. Nested ones stay in `nested`, whose values mean what `map` says.
struct FourBitScales {
  std::vector<float> absmax;
  quant::NestedScales nested;
  std::vector<float> map;

  float of(uint64_t block) const {
    if (map.empty()) return absmax[block];
    return quant::nested_value(map[nested.codes[block]], nested.absmax[block / kNestedBlocks], nested.offset);
  }
};

class ScaleReader {
 public:
  ScaleReader(const Checkpoint& checkpoint, const std::string& weight, const arch::StoredWeight& stored)
      : checkpoint_(checkpoint), stored_(stored), names_(arch::four_bit_names(weight, stored)) {}

  // `packed`: the weight itself, of rows with `cols` columns.
  FourBitScales read(const TensorInfo& packed, uint64_t cols) const {
    const BnbState state = read_state(packed, cols);
    check_code();
    FourBitScales scales;
    if (!stored_.nested) {
      scales.absmax = read_finite(checkpoint_, tensor(names_.absmax));
      return scales;
    }
    scales.nested.offset = state.nested->offset;
    scales.nested.codes = read_all<uint8_t>(checkpoint_, tensor(names_.absmax));
    scales.nested.absmax = read_finite(checkpoint_, tensor(names_.nested_absmax));
    scales.map = read_finite(checkpoint_, tensor(names_.nested_quant_map));
    return scales;
  }

 private:
  const TensorInfo& tensor(const std::string& name) const { return *checkpoint_.find(name); }

  BnbState read_state(const TensorInfo& packed, uint64_t cols) const {
    const TensorInfo& info = tensor(names_.state);
    const std::vector<char> text = read_all<char>(checkpoint_, info);
    const std::string file = checkpoint_.shards()[info.shard].path();
    const BnbState state = parse_bnb_state({text.data(), text.size()}, file, info.name);
    const auto fail = [&](const char* key, const std::string& found, const std::string& expected) {
      return broken(checkpoint_, info, "bad-quant-state", "the text beside a quantized weight contradicts it")
          .saw(std::string(key) + " " + found)
          .want(expected);
    };
    const std::string type = stored_.nf4 ? "nf4" : "fp4";
    if (state.quant_type != type) throw fail("quant_type", state.quant_type, type + ", as the tensor's name");
    const bool one_block = tensor(names_.absmax).length_bytes == (stored_.nested ? 1 : 4);
    const uint64_t elements = state.shape[0] * state.shape[1];
    if (state.shape[1] != cols || elements / 2 + elements % 2 != packed.length_bytes)
      throw fail(
          "shape", "[" + std::to_string(state.shape[0]) + ", " + std::to_string(state.shape[1]) + "]",
          std::to_string(cols) + " columns, and rows for " + std::to_string(packed.length_bytes) + " bytes");
    if (state.blocksize != stored_.block && !(one_block && state.blocksize >= elements))
      throw fail("blocksize", std::to_string(state.blocksize),
                 std::to_string(stored_.block) + ", by the number of absmax values");
    if (state.nested.has_value() != stored_.nested)
      throw fail("nested_blocksize", stored_.nested ? "absent" : "present",
                 stored_.nested ? "what belongs to nested_absmax" : "none: there is no nested_absmax");
    if (state.nested && state.nested->blocksize != kNestedBlocks)
      throw fail("nested_blocksize", std::to_string(state.nested->blocksize), std::to_string(kNestedBlocks));
    return state;
  }

  // The codes' values are part of the format: bitsandbytes computes by its own table too, not by the file's.
  void check_code() const {
    const TensorInfo& info = tensor(names_.quant_map);
    const std::vector<float> map = read_all<float>(checkpoint_, info);
    const quant::FourBitCode& code = stored_.nf4 ? quant::kNf4 : quant::kFp4;
    for (size_t i = 0; i < 16; ++i)
      if (std::isnan(map[i]) || std::fabs(map[i] - code.values[i]) > 1e-6f)
        throw broken(checkpoint_, info, "foreign-quant-map", "the codes of a 4-bit weight have other values")
            .saw(std::to_string(map[i]) + " at index " + std::to_string(i))
            .want(std::to_string(code.values[i]) + ", as " + code.name + " has it");
  }

  const Checkpoint& checkpoint_;
  const arch::StoredWeight& stored_;
  arch::FourBitNames names_;
};

class StoredLoader {
 public:
  StoredLoader(const QuantizedLoad& load, const arch::LinearPart& source, uint64_t cols, Linear::Part& part)
      : load_(load), source_(source), cols_(cols), part_(part) {}

  void run() {
    read_scales();
    if (part_.format.own_map) write_map();
    load_.pool->run([&](uint32_t member) {
      const Range range = share(part_.panels, member, load_.pool->threads());
      Work work;
      for (uint64_t panel = range.begin; panel < range.end; ++panel) {
        fill(work, panel);
        load_.done(part_.panel_bytes);
      }
    });
  }

 private:
  struct Work {
    std::vector<std::byte> packed;
    std::vector<uint8_t> codes;
    std::vector<int8_t> int8_codes;
    std::vector<float> values;
    float scb[kPanelRows];
  };

  void read_scales() {
    const std::string& weight = source_.weight.front().tensor;
    tensor_ = load_.checkpoint->find(weight);
    if (source_.stored.kind == arch::StoredKind::four_bit)
      scales_ = ScaleReader(*load_.checkpoint, weight, source_.stored).read(*tensor_, cols_);
    else
      read_scb(weight);
  }

  void read_scb(const std::string& weight) {
    const Checkpoint& checkpoint = *load_.checkpoint;
    const arch::Int8Names names = arch::int8_names(weight);
    const TensorInfo* format = checkpoint.find(names.format);
    if (format != nullptr && read_all<uint8_t>(checkpoint, *format).front() != 0)
      throw broken(checkpoint, *format, "weight-format", "int8 weights are stored in an order that is gone")
          .saw(std::to_string(read_all<uint8_t>(checkpoint, *format).front()))
          .want("0: row by row")
          .hint("convert the checkpoint with a version of bitsandbytes that still reads it");
    scb_ = read_finite(checkpoint, *checkpoint.find(names.scb));
  }

  std::span<std::byte> bytes_of(uint64_t panel) const {
    return {part_.data + panel * part_.panel_bytes, part_.panel_bytes};
  }

  // Behind the panels, where each of them finds it.
  void write_map() {
    std::memcpy(part_.data + part_.panels * part_.panel_bytes, scales_.map.data(), quant::kNestedMapBytes);
  }

  void fill(Work& work, uint64_t panel) const {
    const uint64_t first = panel * kPanelRows;
    const auto rows = static_cast<uint32_t>(std::min<uint64_t>(kPanelRows, part_.rows - first));
    if (source_.stored.kind == arch::StoredKind::int8)
      fill_int8(work, panel, rows);
    else if (part_.format.dequantized != nullptr)
      fill_dequantized(work, panel, rows);
    else
      fill_four_bit(work, panel, rows);
  }

  // Calls body(row of the panel, its row in the tensor, how many follow each other in both).
  template <class Body>
  void for_rows(uint64_t panel, uint32_t rows, Body body) const {
    const uint64_t first = panel * kPanelRows, last = first + rows;
    uint64_t begin = 0;
    for (const arch::RowRun& run : source_.weight) {
      const uint64_t from = std::max(first, begin), to = std::min(last, begin + run.row_count);
      if (from < to)
        body(static_cast<uint32_t>(from - first), run.first_row + (from - begin),
             static_cast<uint32_t>(to - from));
      begin += run.row_count;
    }
  }

  void fill_int8(Work& work, uint64_t panel, uint32_t rows) const {
    work.int8_codes.resize(rows * cols_);
    for_rows(panel, rows, [&](uint32_t row, uint64_t at, uint32_t count) {
      load_.checkpoint->read(
          *tensor_, at * cols_,
          std::as_writable_bytes(std::span(work.int8_codes).subspan(row * cols_, count * cols_)));
      std::copy_n(scb_.begin() + static_cast<ptrdiff_t>(at), count, work.scb + row);
    });
    quant::pack_int8_panel(work.int8_codes, {work.scb, rows}, cols_, bytes_of(panel));
  }

  void read_codes(Work& work, uint64_t first, std::span<uint8_t> codes) const {
    const uint64_t begin = first / 2, end = (first + codes.size() + 1) / 2;
    work.packed.resize(end - begin);
    load_.checkpoint->read(*tensor_, begin, work.packed);
    quant::unpack_codes(work.packed, first, codes);
  }

  void fill_four_bit(Work& work, uint64_t panel, uint32_t rows) const {
    work.codes.resize(rows * cols_);
    for_rows(panel, rows, [&](uint32_t row, uint64_t at, uint32_t count) {
      read_codes(work, at * cols_, std::span(work.codes).subspan(row * cols_, count * cols_));
    });
    quant::pack_four_bit_panel(part_.format.format, work.codes, rows, cols_, bytes_of(panel));
    const uint64_t blocks = cols_ / kBlockCols;
    for_rows(panel, rows, [&](uint32_t row, uint64_t at, uint32_t count) {
      for (uint32_t r = 0; r < count; ++r) {
        if (part_.format.own_map)
          quant::set_nested_scales(bytes_of(panel), row + r, cols_, scales_.nested, (at + r) * blocks);
        else
          quant::set_block_scales(bytes_of(panel), row + r,
                                  std::span(scales_.absmax).subspan((at + r) * blocks, blocks));
      }
    });
    if (part_.format.own_map)
      quant::set_nested_map(bytes_of(panel), (part_.panels - panel) * part_.panel_bytes);
  }

  void fill_dequantized(Work& work, uint64_t panel, uint32_t rows) const {
    const quant::FourBitCode& code = *part_.format.dequantized;
    work.values.resize(rows * cols_);
    work.codes.resize(cols_);
    for_rows(panel, rows, [&](uint32_t row, uint64_t at, uint32_t count) {
      for (uint32_t r = 0; r < count; ++r) {
        const uint64_t first = (at + r) * cols_;
        float* out = work.values.data() + (row + r) * cols_;
        read_codes(work, first, work.codes);
        for (uint64_t k = 0; k < cols_; ++k)
          out[k] = quant::four_bit_value(code, work.codes[k], scales_.of((first + k) / source_.stored.block),
                                         part_.format.compute);
      }
    });
    quant::pack_panel(part_.format.format, Dtype::f32, std::as_bytes(std::span(work.values)), rows, cols_,
                      bytes_of(panel));
  }

  const QuantizedLoad& load_;
  const arch::LinearPart& source_;
  uint64_t cols_;
  Linear::Part& part_;
  const TensorInfo* tensor_ = nullptr;
  FourBitScales scales_;    // four bits
  std::vector<float> scb_;  // int8
};

}  // namespace

void load_stored(const QuantizedLoad& load, const arch::LinearPart& source, uint64_t cols,
                 Linear::Part& part) {
  StoredLoader(load, source, cols, part).run();
}

}  // namespace rhapsode::model
