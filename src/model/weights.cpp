#include "model/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "arch/stored_weights.h"
#include "base/checked.h"
#include "base/error.h"
#include "model/element.h"
#include "model/file_stamps.h"
#include "model/grouped_source.h"
#include "model/packed_cache.h"
#include "model/quantize_on_load.h"
#include "model/stored_source.h"
#include "model/ternary_source.h"
#include "plan/footprint.h"

namespace rhapsode::model {
namespace {

using arch::LinearPart;
using arch::LinearSource;
using arch::RowRun;

// Rows [first, first + count) of a part, gathered from its runs.
void read_rows(const Checkpoint& checkpoint, const std::vector<RowRun>& runs, uint64_t first, uint64_t count,
               uint64_t row_bytes, std::byte* out) {
  uint64_t run_start = 0;
  for (const RowRun& run : runs) {
    const uint64_t begin = std::max(first, run_start);
    const uint64_t end = std::min(first + count, run_start + run.row_count);
    if (begin < end) {
      const uint64_t source_row = run.first_row + (begin - run_start);
      checkpoint.read(*checkpoint.find(run.tensor), source_row * row_bytes,
                      {out + (begin - first) * row_bytes, (end - begin) * row_bytes});
    }
    run_start += run.row_count;
  }
}

// Carves the arena and remembers what has to be read into it.
class Loader {
 public:
  Loader(const Checkpoint& checkpoint, const plan::Formats& formats,
         std::shared_ptr<const TernarySource> ternary)
      : checkpoint_(checkpoint), formats_(formats), ternary_(std::move(ternary)), dtype_(formats.dtype) {}

  void place(const LinearSource& source, Linear& linear) {
    linear = {};
    linear.cols = source.cols;
    linear.int8_threshold = formats_.int8_threshold;
    linear.int8_row_outliers = formats_.int8_row_outliers;
    linear.parts.resize(source.parts.size());
    for (size_t i = 0; i < source.parts.size(); ++i) {
      place_part(source, i, linear);
      place(source.parts[i].own_norm, linear.parts[i].own_norm);
    }
    const uint64_t bias_bytes = plan::bias_bytes(source);
    if (bias_bytes > 0) {
      for (const LinearPart& part : source.parts) describe("bias", part.bias, bias_bytes);
      linear.bias = reinterpret_cast<float*>(take(bias_bytes));
    }
    for (size_t i = 0; i < source.parts.size(); ++i) {
      const LinearPart& part = source.parts[i];
      if (!part.bias.empty())
        vectors_.push_back({part.bias, part.rows,
                            linear.bias + linear.parts[i].first_panel * quant::kPanelRows,
                            linear.parts[i].format.compute});
    }
  }

  void place(const arch::NormSource& source, Norm& norm) {
    norm.length = source.length;
    norm.weight = place_vector(source.weight, source.length);
    norm.bias = place_vector(source.bias, source.length);
  }

  std::byte* place_embed(const std::string& tensor, uint64_t rows, uint64_t bytes) {
    describe(fmt::format("embedding {}", torch_name(dtype_)), {{tensor, 0, rows}}, bytes);
    return take(bytes);
  }

  // First pass with a null base measures, second pass carves.
  void start(std::byte* base) {
    base_ = base;
    used_ = 0;
    jobs_.clear();
    quantized_.clear();
    vectors_.clear();
    extras_.clear();
    if (base == nullptr) description_.clear();
  }
  uint64_t used_bytes() const { return used_; }

  // Something else to do while its shard is read.
  void also(uint32_t shard, std::function<void()> body) { extras_.push_back({shard, std::move(body)}); }
  bool quantizes() const {
    for (const QuantizedJob& job : quantized_)
      if (job.source->stored.kind == arch::StoredKind::none) return true;
    return false;
  }
  // Everything that the bytes depend on, as text.
  const std::string& description() const { return description_; }

  void run(ThreadPool& pool, const kernels::Kernels& kernels, const LoadOptions& options) {
    uint64_t total = 0;
    for (const Job& job : jobs_) total += job.part->panel_bytes;
    for (const QuantizedJob& job : quantized_) total += job.part->panels * job.part->panel_bytes;
    std::atomic<uint64_t> done{0};
    const auto caller = std::this_thread::get_id();
    const auto step = [&](uint64_t bytes) {
      done += bytes;
      if (options.progress && std::this_thread::get_id() == caller) options.progress(done, total);
    };
    const QuantizedLoad load{&checkpoint_, &kernels, dtype_, &pool, step};
    if (!options.whole_shards) {
      run_jobs(load, std::nullopt);
    } else {
      for (uint32_t shard = 0; shard < checkpoint_.shards().size(); ++shard) {
        checkpoint_.hold_shard(shard);
        run_jobs(load, shard);
        checkpoint_.release_shard(shard);
      }
    }
    if (options.progress) options.progress(total, total);
  }

 private:
  struct Job {  // a dense or ternary panel
    const Linear::Part* part;
    const LinearPart* source;
    uint64_t cols;
    uint64_t panel;
  };
  struct QuantizedJob {  // a whole part
    Linear::Part* part;
    const LinearPart* source;
    uint64_t cols;
  };
  struct VectorJob {
    std::vector<RowRun> runs;
    uint64_t length;
    float* out;
    Dtype dtype;
  };

  struct ExtraJob {
    uint32_t shard;
    std::function<void()> body;
  };

  uint32_t shard_of(const LinearPart& source) const {
    const std::string& weight = source.weight.front().tensor;
    const bool grouped =
        source.stored.kind == arch::StoredKind::gptq || source.stored.kind == arch::StoredKind::awq;
    return checkpoint_.find(grouped ? arch::grouped_names(weight).codes : weight)->shard;
  }

  void read_ahead(const LinearPart& source) const {
    for (const RowRun& run : source.weight)
      if (const TensorInfo* tensor = checkpoint_.find(run.tensor)) checkpoint_.read_ahead(*tensor);
  }

  // The jobs of one shard, or all.
  void run_jobs(const QuantizedLoad& load, std::optional<uint32_t> shard) {
    std::vector<const Job*> panels;
    for (const Job& job : jobs_)
      if (!shard || shard_of(*job.source) == *shard) panels.push_back(&job);
    load.pool->run([&](uint32_t member) {
      std::vector<std::byte> staging;
      const Range range = share(panels.size(), member, load.pool->threads());
      for (uint64_t i = range.begin; i < range.end; ++i) {
        load_panel(*panels[i], staging);
        load.done(panels[i]->part->panel_bytes);
      }
    });
    for (size_t i = 0; i < quantized_.size(); ++i) {
      if (i + 1 < quantized_.size()) read_ahead(*quantized_[i + 1].source);
      if (!shard || shard_of(*quantized_[i].source) == *shard) run_quantized(load, quantized_[i]);
    }
    for (const VectorJob& job : vectors_)
      if (!shard || checkpoint_.find(job.runs.front().tensor)->shard == *shard) load_vector(job);
    for (const ExtraJob& job : extras_)
      if (!shard || job.shard == *shard) job.body();
  }

  static void run_quantized(const QuantizedLoad& load, const QuantizedJob& job) {
    if (job.source->stored.kind == arch::StoredKind::gptq || job.source->stored.kind == arch::StoredKind::awq)
      load_grouped(load, *job.source, job.cols, *job.part);
    else if (job.source->stored.kind != arch::StoredKind::none)
      load_stored(load, *job.source, job.cols, *job.part);
    else
      load_quantized(load, *job.source, job.cols, *job.part);
  }

  // One line: what goes to this place of the arena.
  void describe(const std::string& what, const std::vector<RowRun>& runs, uint64_t bytes) {
    if (base_ != nullptr) return;  // the measuring pass has said it
    description_ += fmt::format("{} @{}+{}", what, used_, bytes);
    for (const RowRun& run : runs)
      description_ += fmt::format(" {}[{}+{}]", run.tensor, run.first_row, run.row_count);
    description_ += '\n';
  }

  void place_part(const LinearSource& source, size_t index, Linear& linear) {
    const LinearPart& from = source.parts[index];
    Linear::Part& part = linear.parts[index];
    part.format = formats_.of(from, source.cols);
    part.rows = from.rows;
    part.first_panel = linear.panels;
    part.panels = quant::panel_count(from.rows);
    part.padded_cols = quant::padded_cols(part.format.format, source.cols);
    part.panel_bytes = quant::panel_bytes(part.format.format, source.cols);
    const uint64_t bytes = plan::part_bytes(part.format, from.rows, source.cols);
    const plan::WeightFormat& format = part.format;
    describe(fmt::format("{} {} {} {}x{} {}{}", from.module, quant::format_name(format.format),
                         torch_name(format.compute), from.rows, source.cols,
                         format.dequantized != nullptr ? format.dequantized->name : "-",
                         format.dequantized_nested ? "-nested" : ""),
             from.weight, bytes);
    part.data = take(bytes);
    linear.panels += part.panels;
    const bool ternary = part.format.format == quant::Format::ternary;
    if (ternary) part.weight_scale = ternary_->scale(from);
    if (!ternary && (!quant::is_dense(part.format.format) || part.format.dequantized != nullptr ||
                     from.stored.kind != arch::StoredKind::none)) {
      quantized_.push_back({&part, &from, source.cols});
      return;
    }
    for (uint64_t panel = 0; panel < part.panels; ++panel)
      jobs_.push_back({&part, &from, source.cols, panel});
  }

  std::byte* take(uint64_t bytes) {
    std::byte* at = base_ + used_;
    used_ += round_up(bytes, plan::kAlignBytes);
    return at;
  }

  float* place_vector(const std::string& tensor, uint64_t length) {
    if (tensor.empty()) return nullptr;
    describe(fmt::format("vector {}", torch_name(dtype_)), {{tensor, 0, length}}, length * sizeof(float));
    float* out = reinterpret_cast<float*>(take(length * sizeof(float)));
    vectors_.push_back({{{tensor, 0, length}}, length, out, dtype_});
    return out;
  }

  void load_panel(const Job& job, std::vector<std::byte>& staging) const {
    const Dtype source = checkpoint_.find(job.source->weight.front().tensor)->dtype;
    const uint64_t first = job.panel * quant::kPanelRows;
    const uint64_t rows = std::min<uint64_t>(quant::kPanelRows, job.part->rows - first);
    const std::span<std::byte> panel{job.part->data + job.panel * job.part->panel_bytes,
                                     job.part->panel_bytes};
    if (job.part->format.format == quant::Format::ternary) {
      std::vector<int8_t> values;
      ternary_->read_rows(*job.source, job.cols, first, rows, staging, values);
      return quant::pack_ternary_panel(values, static_cast<uint32_t>(rows), job.cols, panel);
    }
    const uint64_t row_bytes = job.cols * dtype_bytes(source);
    staging.resize(std::max<uint64_t>(staging.size(), rows * row_bytes));
    read_rows(checkpoint_, job.source->weight, first, rows, row_bytes, staging.data());
    quant::pack_panel(job.part->format.format, source, {staging.data(), rows * row_bytes},
                      static_cast<uint32_t>(rows), job.cols, panel);
  }

  void load_vector(const VectorJob& job) const {
    const Dtype source = checkpoint_.find(job.runs.front().tensor)->dtype;
    const uint32_t width = dtype_bytes(source);
    std::vector<std::byte> raw(job.length * width);
    read_rows(checkpoint_, job.runs, 0, job.length, width, raw.data());
    for (uint64_t i = 0; i < job.length; ++i)
      job.out[i] = round_to(job.dtype, round_to(dtype_, element_to_float(source, raw.data() + i * width)));
  }

  const Checkpoint& checkpoint_;
  plan::Formats formats_;  // staged units are read long after the load
  std::shared_ptr<const TernarySource> ternary_;
  Dtype dtype_;
  std::byte* base_ = nullptr;
  uint64_t used_ = 0;
  std::vector<Job> jobs_;
  std::vector<QuantizedJob> quantized_;
  std::vector<VectorJob> vectors_;
  std::vector<ExtraJob> extras_;
  std::string description_;
};

void place_layer(const arch::LayerTensors& source, Loader& loader, LayerWeights& layer) {
  layer = {};
  loader.place(source.input_norm, layer.input_norm);
  loader.place(source.q_norm, layer.q_norm);
  loader.place(source.k_norm, layer.k_norm);
  loader.place(source.attn_sub_norm, layer.attn_sub_norm);
  loader.place(source.post_attention_norm, layer.post_attention_norm);
  loader.place(source.pre_ffn_norm, layer.pre_ffn_norm);
  loader.place(source.ffn_sub_norm, layer.ffn_sub_norm);
  loader.place(source.post_ffn_norm, layer.post_ffn_norm);
  loader.place(source.qkv, layer.qkv);
  loader.place(source.o, layer.o);
  loader.place(source.up, layer.up);
  loader.place(source.down, layer.down);
}

// The embedding table keeps its row-major order: rows are looked up, not multiplied.
void load_embed(const arch::Spec& spec, const arch::ModelTensors& tensors, const Checkpoint& checkpoint,
                Weights& weights, const kernels::Kernels& kernels, ThreadPool& pool) {
  const TensorInfo& tensor = *checkpoint.find(tensors.embed_tensor);
  const uint64_t row_bytes = spec.hidden_size * dtype_bytes(tensor.dtype);
  const uint64_t out_bytes = spec.hidden_size * dtype_bytes(weights.dtype);
  pool.run([&](uint32_t member) {
    std::vector<std::byte> raw(row_bytes);
    std::vector<float> row(spec.hidden_size);
    const Range range = share(spec.vocab_size, member, pool.threads());
    for (uint64_t r = range.begin; r < range.end; ++r) {
      std::byte* out = weights.embed + r * out_bytes;
      if (tensor.dtype == weights.dtype) {
        checkpoint.read(tensor, r * row_bytes, {out, out_bytes});
        continue;
      }
      checkpoint.read(tensor, r * row_bytes, raw);
      for (uint64_t i = 0; i < spec.hidden_size; ++i)
        row[i] = round_to(weights.dtype,
                          element_to_float(tensor.dtype, raw.data() + i * dtype_bytes(tensor.dtype)));
      kernels.store(weights.dtype, row.data(), spec.hidden_size, out);
    }
  });
}

// One row of the embedding from the checkpoint, rounded as load_embed rounds it.
void read_embed_row(const Checkpoint& checkpoint, const std::string& tensor_name, uint64_t hidden,
                    Dtype dtype, uint64_t id, float* out) {
  const TensorInfo& tensor = *checkpoint.find(tensor_name);
  const uint32_t width = dtype_bytes(tensor.dtype);
  std::vector<std::byte> raw(hidden * width);
  checkpoint.read(tensor, id * raw.size(), raw);
  for (uint64_t i = 0; i < hidden; ++i)
    out[i] = round_to(dtype, element_to_float(tensor.dtype, raw.data() + i * width));
}

void copy_parallel(ThreadPool& pool, const std::byte* from, std::byte* to, uint64_t bytes) {
  pool.run([&](uint32_t member) {
    const Range range = share((bytes + plan::kAlignBytes - 1) / plan::kAlignBytes, member, pool.threads());
    const uint64_t begin = range.begin * plan::kAlignBytes,
                   end = std::min(range.end * plan::kAlignBytes, bytes);
    if (begin < end) std::memcpy(to + begin, from + begin, end - begin);
  });
}

// Where a staged unit's weights come from: from its file in the packed cache, or from the checkpoint.
class StagedSource {
 public:
  StagedSource(Loader loader, const kernels::Kernels& kernels, std::shared_ptr<const FileStamps> stamps)
      : loader_(std::move(loader)), kernels_(kernels), stamps_(std::move(stamps)) {}

  Loader& loader() { return loader_; }
  // The loader keeps pointers to what it fills; the weights themselves move.
  Linear& head() { return head_; }

  void keep_in(const std::string& directory, PackedKey key) {
    directory_ = directory;
    key_ = std::move(key);
    kept_ = PackedReader::open(directory_, key_);
    if (!kept_) require_disk(directory_, key_);
  }
  bool is_to_be_kept() const { return !directory_.empty() && !kept_; }

  void read(std::span<std::byte> out, ThreadPool& pool, const LoadOptions& options) {
    if (kept_ && kept_->read(out, pool)) return;
    kept_.reset();
    // What lies between weights would be of the unit before: a file's bytes depend on nothing but its key.
    if (!directory_.empty()) std::ranges::fill(out, std::byte{0});
    loader_.run(pool, kernels_, options);
    stamps_->require_unchanged();
    if (directory_.empty()) return;
    keep_packed(directory_, key_, out, pool);
    kept_ = PackedReader::open(directory_, key_);
  }

 private:
  Loader loader_;
  const kernels::Kernels& kernels_;
  std::shared_ptr<const FileStamps> stamps_;
  Linear head_;
  std::string directory_;  // of packed caches; empty: the unit is not kept
  PackedKey key_;
  std::unique_ptr<PackedReader> kept_;
};

// Loads a model unit by unit to where each belongs.
class PlacedLoad {
 public:
  PlacedLoad(const arch::Spec& spec, const arch::ModelTensors& tensors, const Checkpoint& checkpoint,
             const plan::Formats& formats, const WeightPlaces& places, ThreadPool& pool,
             const LoadOptions& options)
      : spec_(spec),
        tensors_(tensors),
        checkpoint_(checkpoint),
        formats_(formats),
        places_(places),
        pool_(pool),
        options_(options),
        stamps_(std::make_shared<FileStamps>(checkpoint)),
        ternary_(std::make_shared<TernarySource>(tensors, checkpoint, formats.dtype, pool)) {
    weights_.dtype = formats.dtype;
    weights_.layers.resize(tensors.layers.size());
    weights_.staged.resize(tensors.layers.size() + 1);
  }

  Weights run() {
    std::vector<devices::Device*> holders;
    const auto add = [&](devices::Device* device) {
      if (device != nullptr && std::find(holders.begin(), holders.end(), device) == holders.end())
        holders.push_back(device);
    };
    add(places_.embed), add(places_.norm), add(places_.head);
    for (devices::Device* device : places_.layers) add(device);
    for (devices::Device* device : holders) load_resident(*device);
    if (places_.staging != nullptr) {
      const auto& [one, two] = places_.staging_bytes;
      weights_.staging = places_.staging->allocate(one + two, "the staging buffer");
      if (two > 0) weights_.carrier = std::make_unique<Carrier>();
      for (size_t unit = 0; unit <= weights_.layers.size(); ++unit)
        if (!is_resident(unit)) load_staged(unit);
    }
    const bool tied = tensors_.lm_head.parts.front().weight.front().tensor == tensors_.embed_tensor;
    if (tied ? !is_resident(weights_.head_unit()) : places_.embed == nullptr)
      weights_.embed_row = [&checkpoint = checkpoint_, tensor = tensors_.embed_tensor,
                            hidden = spec_.hidden_size, dtype = weights_.dtype,
                            stamps = stamps_](uint64_t id, float* out) {
        read_embed_row(checkpoint, tensor, hidden, dtype, id, out);
        stamps->require_unchanged();
      };
    stamps_->require_unchanged();
    return std::move(weights_);
  }

 private:
  bool is_resident(size_t unit) const {
    if (unit == weights_.head_unit()) return places_.head == places_.head_exec;
    return places_.layers[unit] == places_.layer_exec[unit];
  }

  void place_resident(const devices::Device& device, Loader& loader) {
    const uint64_t embed = plan::embed_bytes(spec_, weights_.dtype);
    if (places_.embed == &device && embed > 0)
      weights_.embed = loader.place_embed(tensors_.embed_tensor, spec_.vocab_size, embed);
    if (places_.head == &device && is_resident(weights_.head_unit()))
      loader.place(tensors_.lm_head, weights_.lm_head = {});
    if (places_.norm == &device) loader.place(tensors_.final_norm, weights_.final_norm);
    for (size_t i = 0; i < weights_.layers.size(); ++i)
      if (places_.layers[i] == &device && is_resident(i))
        place_layer(tensors_.layers[i], loader, weights_.layers[i]);
  }

  void load_resident(devices::Device& device) {
    Loader loader(checkpoint_, formats_, ternary_);
    loader.start(nullptr);
    place_resident(device, loader);
    if (loader.used_bytes() == 0) return;
    const bool keep = !options_.packed_cache.empty() && loader.quantizes();
    const PackedKey key =
        keep ? packed_key(checkpoint_, loader.description(), loader.used_bytes()) : PackedKey{};
    if (keep) {
      if (std::optional<devices::Buffer> kept = map_packed(options_.packed_cache, key, device, pool_)) {
        weights_.memory.push_back(std::move(*kept));
        loader.start(weights_.memory.back().data());
        place_resident(device, loader);
        return;
      }
      require_disk(options_.packed_cache, key);
    }
    weights_.memory.push_back(device.allocate(loader.used_bytes(), "the weights"));
    loader.start(weights_.memory.back().data());
    place_resident(device, loader);
    if (places_.embed == &device && weights_.embed != nullptr)
      loader.also(checkpoint_.find(tensors_.embed_tensor)->shard,
                  [&] { load_embed(spec_, tensors_, checkpoint_, weights_, device.kernels(), pool_); });
    loader.run(pool_, device.kernels(), options_);
    if (keep) keep_packed(options_.packed_cache, key, weights_.memory.back().bytes(), pool_);
  }

  // Its pointers lead into the staging buffer for good. What lies on the cpu passes through it once.
  void load_staged(size_t unit) {
    StagedUnit& staged = weights_.staged[unit];
    staged.slot = places_.staging_bytes[1] > 0 ? staged_count_++ % 2 : 0;
    staged.place = weights_.staging.data() + (staged.slot == 1 ? places_.staging_bytes[0] : 0);
    const auto source = std::make_shared<StagedSource>(Loader(checkpoint_, formats_, ternary_),
                                                       places_.staging->kernels(), stamps_);
    place_staged(unit, nullptr, *source);
    staged.bytes = source->loader().used_bytes();
    if (!options_.packed_cache.empty() && source->loader().quantizes())
      source->keep_in(options_.packed_cache,
                      packed_key(checkpoint_, source->loader().description(), staged.bytes));
    place_staged(unit, staged.place, *source);
    devices::Device* home = unit == weights_.head_unit() ? places_.head : places_.layers[unit];
    if (home != nullptr || source->is_to_be_kept()) {
      source->read({staged.place, staged.bytes}, pool_, options_);
      weights_.in_slot[staged.slot] = unit;
    }
    if (home == nullptr) {
      staged.read = [source, out = std::span(staged.place, staged.bytes)](ThreadPool& pool) {
        source->read(out, pool, {});
      };
      return;
    }
    staged.home = home->allocate(staged.bytes, "offloaded weights");
    copy_parallel(pool_, staged.place, staged.home.data(), staged.bytes);
  }

  void place_staged(size_t unit, std::byte* base, StagedSource& source) {
    source.loader().start(base);
    if (unit == weights_.head_unit()) {
      source.loader().place(tensors_.lm_head, source.head());
      weights_.lm_head = source.head();
    } else {
      place_layer(tensors_.layers[unit], source.loader(), weights_.layers[unit]);
    }
  }

  const arch::Spec& spec_;
  const arch::ModelTensors& tensors_;
  const Checkpoint& checkpoint_;
  const plan::Formats& formats_;
  const WeightPlaces& places_;
  ThreadPool& pool_;
  const LoadOptions& options_;
  std::shared_ptr<const FileStamps> stamps_;
  std::shared_ptr<const TernarySource> ternary_;
  size_t staged_count_ = 0;
  Weights weights_;
};

}  // namespace

WeightPlaces all_on(devices::Device& device, size_t layers) {
  WeightPlaces places;
  places.embed = places.norm = places.head = places.head_exec = &device;
  places.layers.assign(layers, &device);
  places.layer_exec = places.layers;
  return places;
}

void StagedUnit::fetch(ThreadPool& pool) const {
  if (read)
    read(pool);
  else
    copy_parallel(pool, home.data(), place, bytes);
}

void Weights::bring(size_t unit, ThreadPool& pool) {
  if (coming != kNone) {
    const size_t arrived = std::exchange(coming, kNone);
    carrier->finish();
    in_slot[staged[arrived].slot] = arrived;
  }
  size_t& slot = in_slot[staged[unit].slot];
  if (slot == unit) return;
  slot = kNone;  // nothing whole, should reading fail
  staged[unit].fetch(pool);
  slot = unit;
}

void Weights::bring_ahead(size_t first, size_t end) {
  if (!carrier || coming != kNone) return;
  size_t next = end <= head_unit() ? end : 0;
  while (!is_staged(next)) ++next;
  const StagedUnit& unit = staged[next];
  const bool in_use = is_staged(first) && staged[first].slot == unit.slot;
  if (in_use || in_slot[unit.slot] == next) return;
  in_slot[unit.slot] = kNone;
  coming = next;
  carrier->start([&unit] {
    ThreadPool alone(1);
    unit.fetch(alone);
  });
}

Weights load_weights(const arch::Spec& spec, const arch::ModelTensors& tensors, const Checkpoint& checkpoint,
                     const plan::Formats& formats, const WeightPlaces& places, ThreadPool& pool,
                     const LoadOptions& options) {
  return PlacedLoad(spec, tensors, checkpoint, formats, places, pool, options).run();
}

}  // namespace rhapsode::model
