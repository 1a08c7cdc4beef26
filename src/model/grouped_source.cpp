// See grouped_source.h.
#include "model/grouped_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "arch/stored_weights.h"
#include "base/error.h"
#include "model/element.h"

namespace rhapsode::model {
namespace {

using quant::kPanelRows;

// AWQ's order of eight outputs in a word: nibble i holds output kOrder[i].
constexpr uint32_t kOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};
// Where output o of eight lies.
constexpr uint32_t kPlace[8] = {0, 4, 1, 5, 2, 6, 3, 7};
static_assert(kPlace[kOrder[5]] == 5 && kPlace[kOrder[3]] == 3);

template <class T>
std::vector<T> read_all(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  std::vector<T> values(tensor.length_bytes / sizeof(T));
  checkpoint.read(tensor, 0, std::as_writable_bytes(std::span(values)));
  return values;
}

class GroupedLoader {
 public:
  GroupedLoader(const QuantizedLoad& load, const arch::LinearPart& source, uint64_t cols, Linear::Part& part)
      : load_(load),
        source_(source),
        stored_(source.stored),
        cols_(cols),
        part_(part),
        names_(arch::grouped_names(source.weight.front().tensor)),
        per_word_(32 / stored_.bits),
        mask_((uint64_t{1} << stored_.bits) - 1) {}

  void run() {
    read_scales();
    load_.pool->run([&](uint32_t member) {
      std::vector<float> values;
      const Range range = share(part_.panels, member, load_.pool->threads());
      for (uint64_t panel = range.begin; panel < range.end; ++panel) {
        fill(values, panel);
        load_.done(part_.panel_bytes);
      }
    });
  }

 private:
  const TensorInfo& tensor(const std::string& name) const { return *load_.checkpoint->find(name); }
  bool gptq() const { return stored_.kind == arch::StoredKind::gptq; }

  Error broken(const TensorInfo& info, const char* code, const char* message) const {
    return Error(ErrorKind::integrity, code, message)
        .in(load_.checkpoint->shards()[info.shard].path())
        .at(info.name)
        .hint("the checkpoint is damaged: fetch it again");
  }

  void read_scales() {
    const TensorInfo& info = tensor(names_.scales);
    outputs_ = info.shape[1];
    const std::vector<std::byte> raw = read_all<std::byte>(*load_.checkpoint, info);
    scales_.resize(info.shape[0] * outputs_);
    for (size_t i = 0; i < scales_.size(); ++i) {
      scales_[i] = element_to_float(info.dtype, raw.data() + i * dtype_bytes(info.dtype));
      if (!std::isfinite(scales_[i]))
        throw broken(info, "stored-scale", "a scale of a quantized weight is not finite")
            .saw(std::to_string(scales_[i]) + " at index " + std::to_string(i));
    }
    zeros_ = read_all<uint32_t>(*load_.checkpoint, tensor(names_.zeros));
    codes_ = read_all<uint32_t>(*load_.checkpoint, tensor(names_.codes));
    read_groups(info.shape[0]);
  }

  // The group of each column: in order, or as act-order has shuffled them.
  void read_groups(uint64_t groups) {
    group_.resize(cols_);
    const TensorInfo* index = gptq() ? load_.checkpoint->find(names_.group_index) : nullptr;
    if (index == nullptr) {
      const uint64_t size = stored_.group == 0 ? cols_ : stored_.group;
      for (uint64_t k = 0; k < cols_; ++k) group_[k] = static_cast<uint32_t>(k / size);
      return;
    }
    const std::vector<int32_t> read = read_all<int32_t>(*load_.checkpoint, *index);
    for (uint64_t k = 0; k < cols_; ++k) {
      // A negative index counts from the end, as in the kernels that made these files.
      const int64_t group = read[k] < 0 ? read[k] + static_cast<int64_t>(groups) : read[k];
      if (group < 0 || static_cast<uint64_t>(group) >= groups)
        throw broken(*index, "group-index", "a column belongs to a group that is not there")
            .saw(std::to_string(read[k]) + " at column " + std::to_string(k))
            .want("0 to " + std::to_string(groups - 1));
      group_[k] = static_cast<uint32_t>(group);
    }
  }

  uint32_t field(uint32_t word, uint64_t place) const {
    return static_cast<uint32_t>(word >> (place * stored_.bits) & mask_);
  }
  uint32_t zero(uint64_t group, uint64_t output) const {
    const uint32_t word = zeros_[group * (outputs_ / per_word_) + output / per_word_];
    const uint64_t place = output % per_word_;
    if (!gptq()) return field(word, kPlace[place]);
    // Wraps around in the code's width, as in the kernels that made these files.
    return static_cast<uint32_t>((field(word, place) + (stored_.zeros_plus_one ? 1 : 0)) & mask_);
  }
  uint32_t code(uint64_t k, uint64_t output) const {
    if (gptq()) return field(codes_[k / per_word_ * outputs_ + output], k % per_word_);
    return field(codes_[k * (outputs_ / per_word_) + output / per_word_], kPlace[output % per_word_]);
  }

  void fill(std::vector<float>& values, uint64_t panel) const {
    const uint64_t first = panel * kPanelRows;
    const auto rows = static_cast<uint32_t>(std::min<uint64_t>(kPanelRows, part_.rows - first));
    values.resize(rows * cols_);
    for (uint32_t r = 0; r < rows; ++r) {
      const uint64_t output = tensor_row(first + r);
      for (uint64_t k = 0; k < cols_; ++k) {
        const uint64_t group = group_[k];
        const auto steps = static_cast<float>(static_cast<int32_t>(code(k, output)) -
                                              static_cast<int32_t>(zero(group, output)));
        values[r * cols_ + k] = round_to(load_.dtype, steps * scales_[group * outputs_ + output]);
      }
    }
    quant::pack_panel(part_.format.format, Dtype::f32, std::as_bytes(std::span(values)), rows, cols_,
                      {part_.data + panel * part_.panel_bytes, part_.panel_bytes});
  }

  uint64_t tensor_row(uint64_t row) const {
    for (const arch::RowRun& run : source_.weight) {
      if (row < run.row_count) return run.first_row + row;
      row -= run.row_count;
    }
    return 0;
  }

  const QuantizedLoad& load_;
  const arch::LinearPart& source_;
  const arch::StoredWeight& stored_;
  uint64_t cols_;
  Linear::Part& part_;
  arch::GroupedNames names_;
  uint64_t per_word_;
  uint64_t mask_;
  uint64_t outputs_ = 0;
  std::vector<float> scales_;
  std::vector<uint32_t> zeros_, codes_, group_;
};

}  // namespace

void load_grouped(const QuantizedLoad& load, const arch::LinearPart& source, uint64_t cols,
                  Linear::Part& part) {
  GroupedLoader(load, source, cols, part).run();
}

}  // namespace rhapsode::model
