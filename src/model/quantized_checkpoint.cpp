// See quantized_checkpoint.h.
#include "model/quantized_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <thread>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/bnb_state.h"
#include "checkpoint/safetensors_file.h"
#include "model/element_reader.h"
#include "model/weight_blocks.h"
#include "quant/codec.h"

namespace rhapsode::model {
namespace {

using quant::Format;
using quant::kBlockCols;
using quant::kNestedBlocks;

uint64_t elements(const std::vector<uint64_t>& shape) {
  uint64_t count = 1;
  for (const uint64_t size : shape) count *= size;
  return count;
}

uint64_t pieces(uint64_t count, uint64_t size) {
  return count / size + (count % size != 0);
}

// What becomes of one tensor of the source.
struct Job {
  const TensorInfo* source;
  std::string module;               // of a weight that is quantized
  Format format = Format::f32;      // dense formats: stays as it is, in the model's dtype
  bool verbatim = false;            // of a checkpoint that is quantized already
  std::vector<TensorToWrite> made;  // a quantized weight: itself first
  std::string text;                 // name of its quant state
};

uint64_t bytes_of(const Job& job) {
  uint64_t bytes = 0;
  for (const TensorToWrite& tensor : job.made) bytes += elements(tensor.shape) * dtype_bytes(tensor.dtype);
  return bytes + (job.text.empty() ? 0 : SafetensorsFile::kMaxTextBytes);
}

class Plan {
 public:
  explicit Plan(const QuantizedWrite& write) : write_(write) {
    for (const arch::LinearPart& part : write.tensors->lm_head.parts) see(part, write.tensors->lm_head.cols);
    for (const arch::LayerTensors& layer : write.tensors->layers)
      for (const arch::LinearSource* source : {&layer.qkv, &layer.o, &layer.up, &layer.down})
        for (const arch::LinearPart& part : source->parts) see(part, source->cols);
    for (const auto& [name, tensor] : write.checkpoint->tensors())
      if (!is_ignored(name)) jobs.push_back(job_of(tensor));
  }

  std::vector<Job> jobs;
  bool stored = false;  // the source is quantized already

 private:
  struct Choice {
    std::string module;
    Format format;
  };

  void see(const arch::LinearPart& part, uint64_t cols) {
    const plan::WeightFormat format = write_.formats->of(part, cols);
    for (const arch::RowRun& run : part.weight) choices_[run.tensor] = {part.module, named(format)};
    stored = stored || part.stored.kind != arch::StoredKind::none;
  }

  // Blocks that cross rows are held dequantized, and filed as codes.
  static Format named(const plan::WeightFormat& format) {
    if (format.dequantized == nullptr) return format.format;
    if (format.dequantized == &quant::kNf4)
      return format.dequantized_nested ? Format::nf4_nested : Format::nf4;
    return format.dequantized_nested ? Format::fp4_nested : Format::fp4;
  }

  bool is_ignored(const std::string& name) const {
    for (const std::string& pattern : write_.tensors->ignored)
      if (name == pattern || (pattern.starts_with('.') && name.ends_with(pattern))) return true;
    return false;
  }

  Job job_of(const TensorInfo& tensor) const {
    Job job{&tensor, "", Format::f32, stored, {}, ""};
    const auto choice = choices_.find(tensor.name);
    if (stored) {
      job.made.push_back({tensor.name, tensor.dtype, tensor.shape});
      if (choice == choices_.end() || quant::is_dense(choice->second.format)) return job;
      job.module = choice->second.module;
      job.format = choice->second.format;
      return job;
    }
    if (choice == choices_.end() || quant::is_dense(choice->second.format)) {
      job.made.push_back({tensor.name, write_.formats->dtype, tensor.shape});
      return job;
    }
    job.module = choice->second.module;
    job.format = choice->second.format;
    if (job.format == Format::int8) {
      const std::string stem = tensor.name.substr(0, tensor.name.rfind('.') + 1);
      job.made = {{tensor.name, Dtype::i8, tensor.shape},
                  {stem + "SCB", Dtype::f32, {tensor.shape[0]}},
                  {stem + "weight_format", Dtype::u8, {}}};
    } else {
      four_bit_tensors(tensor, job);
    }
    return job;
  }

  void four_bit_tensors(const TensorInfo& tensor, Job& job) const {
    const uint64_t count = elements(tensor.shape), bytes = pieces(count, 2),
                   width = dtype_bytes(write_.storage);
    if (bytes % width != 0)
      throw Error(ErrorKind::unsupported, "quant-storage",
                  "the codes of a weight do not fill this storage type")
          .at(tensor.name)
          .saw(fmt::format("{} bytes as {}", bytes, torch_name(write_.storage)))
          .hint("set quantization_config.bnb_4bit_quant_storage to uint8");
    const uint64_t blocks = pieces(count, kBlockCols);
    const bool nested = quant::is_nested(job.format);
    job.made = {{tensor.name, write_.storage, {bytes / width, 1}},
                {tensor.name + ".absmax", nested ? Dtype::u8 : Dtype::f32, {blocks}},
                {tensor.name + ".quant_map", Dtype::f32, {16}}};
    job.text = tensor.name + ".quant_state.bitsandbytes__" + quant::four_bit_code(job.format).name;
    if (!nested) return;
    job.made.push_back({tensor.name + ".nested_absmax", Dtype::f32, {pieces(blocks, kNestedBlocks)}});
    job.made.push_back({tensor.name + ".nested_quant_map", Dtype::f32, {256}});
  }

  const QuantizedWrite& write_;
  std::map<std::string, Choice> choices_;
};

// One shard: the jobs of a run of names.
class ShardWriter {
 public:
  ShardWriter(const QuantizedWrite& write, std::span<const Job> jobs, const std::string& file,
              const std::function<void(uint64_t)>& done)
      : write_(write), jobs_(jobs), done_(done), file_(file, layout(jobs), {{"format", "pt"}}, texts(jobs)) {
    for (size_t i = 0; i < file_.tensors().size(); ++i) index_[file_.tensors()[i].name] = i;
  }

  void run() {
    for (const Job& job : jobs_) {
      if (job.verbatim)
        copy(job);
      else if (quant::is_dense(job.format))
        convert(job);
      else if (job.format == Format::int8)
        int8(job);
      else
        four_bit(job);
    }
    file_.commit();
  }

 private:
  static constexpr uint64_t kPieceBytes = 1 << 20;
  static constexpr uint64_t kPieceBlocks = 4096;

  // Wide types first: other readers need each tensor at a multiple of its width.
  static std::vector<TensorToWrite> layout(std::span<const Job> jobs) {
    std::vector<TensorToWrite> tensors;
    for (const Job& job : jobs) tensors.insert(tensors.end(), job.made.begin(), job.made.end());
    std::stable_sort(tensors.begin(), tensors.end(), [](const TensorToWrite& a, const TensorToWrite& b) {
      const uint32_t wide_a = dtype_bytes(a.dtype), wide_b = dtype_bytes(b.dtype);
      return wide_a != wide_b ? wide_a > wide_b : a.name < b.name;
    });
    return tensors;
  }
  static std::vector<std::string> texts(std::span<const Job> jobs) {
    std::vector<std::string> names;
    for (const Job& job : jobs)
      if (!job.text.empty()) names.push_back(job.text);
    return names;
  }

  // Body(member, piece) on all threads.
  template <class Body>
  void share_out(uint64_t count, Body body) {
    write_.pool->run([&](uint32_t member) {
      for (uint64_t i = member; i < count; i += write_.pool->threads()) body(i);
    });
  }
  void put(const std::string& name, uint64_t offset, std::span<const std::byte> bytes) {
    file_.write(index_.at(name), offset, bytes);
    done_(bytes.size());
  }
  template <class T>
  void put_all(const std::string& name, const std::vector<T>& values) {
    put(name, 0, std::as_bytes(std::span(values)));
  }
  ElementReader reader() const { return {*write_.checkpoint, *write_.kernels, write_.formats->dtype}; }

  void copy(const Job& job) {
    share_out(pieces(job.source->length_bytes, kPieceBytes), [&](uint64_t i) {
      std::vector<std::byte> bytes(std::min(kPieceBytes, job.source->length_bytes - i * kPieceBytes));
      write_.checkpoint->read(*job.source, i * kPieceBytes, bytes);
      put(job.source->name, i * kPieceBytes, bytes);
    });
  }

  void convert(const Job& job) {
    const Dtype dtype = write_.formats->dtype;
    if (job.source->dtype == dtype) return copy(job);
    const uint64_t count = elements(job.source->shape), piece = kPieceBytes / 4, width = dtype_bytes(dtype);
    share_out(pieces(count, piece), [&](uint64_t i) {
      std::vector<float> values(std::min(piece, count - i * piece));
      std::vector<std::byte> bytes(values.size() * width);
      reader().read(*job.source, i * piece, values);
      write_.kernels->store(dtype, values.data(), values.size(), bytes.data());
      put(job.source->name, i * piece * width, bytes);
    });
  }

  void int8(const Job& job) {
    const uint64_t rows = job.source->shape[0], cols = job.source->shape[1];
    const uint64_t piece = std::max<uint64_t>(1, kPieceBytes / 4 / cols);
    std::vector<float> scb(rows);
    share_out(pieces(rows, piece), [&](uint64_t i) {
      const uint64_t first = i * piece, count = std::min(piece, rows - first);
      std::vector<float> values(count * cols);
      std::vector<int8_t> codes(values.size() + 3);  // kernels fill a row's codes up to four
      reader().read(*job.source, first * cols, values);
      for (uint64_t r = 0; r < count; ++r) {
        write_.kernels->quantize_int8(values.data() + r * cols, cols, std::numeric_limits<float>::quiet_NaN(),
                                      codes.data() + r * cols, &scb[first + r]);
        if (!std::isfinite(scb[first + r])) refuse_value(*job.source, first + r, scb[first + r]);
      }
      put(job.made[0].name, first * cols, std::as_bytes(std::span(codes).first(count * cols)));
    });
    put_all(job.made[1].name, scb);
    put_all(job.made[2].name, std::vector<uint8_t>{0});
  }

  void four_bit(const Job& job) {
    const quant::FourBitCode& code = quant::four_bit_code(job.format);
    const uint64_t count = elements(job.source->shape), cols = job.source->shape[1];
    std::vector<float> absmax(pieces(count, kBlockCols));
    share_out(pieces(absmax.size(), kPieceBlocks), [&](uint64_t i) {
      const uint64_t first = i * kPieceBlocks * kBlockCols;
      std::vector<float> values(std::min(kPieceBlocks * kBlockCols, count - first));
      std::vector<uint8_t> codes(values.size() + values.size() % 2);
      codes.back() = code.order[zero_index(code)];  // an odd count is filled up with a zero
      reader().read(*job.source, first, values);
      const uint64_t block = first / kBlockCols, end = block + pieces(values.size(), kBlockCols);
      quantize_blocks(*write_.kernels, code, values, codes.data(), absmax.data() + block);
      for (uint64_t b = block; b < end; ++b)
        if (!std::isfinite(absmax[b])) refuse_value(*job.source, b * kBlockCols / cols, absmax[b]);
      std::vector<std::byte> packed(codes.size() / 2);
      quant::pack_codes(codes, packed);
      put(job.made[0].name, first / 2, packed);
    });
    put_scales(job, absmax);
  }

  static size_t zero_index(const quant::FourBitCode& code) {
    return static_cast<size_t>(std::lower_bound(code.bounds, code.bounds + 15, 0.0f) - code.bounds);
  }

  void put_scales(const Job& job, const std::vector<float>& absmax) {
    const quant::FourBitCode& code = quant::four_bit_code(job.format);
    BnbState state{code.name, kBlockCols, write_.formats->dtype, job.source->shape, std::nullopt};
    put_all(job.made[2].name, std::vector<float>(code.values, code.values + 16));
    if (quant::is_nested(job.format)) {
      const quant::NestedScales nested = quant::nest_scales(absmax);
      put_all(job.made[1].name, nested.codes);
      put_all(job.made[3].name, nested.absmax);
      put_all(job.made[4].name, std::vector<float>(quant::kNestedMap.values, quant::kNestedMap.values + 256));
      state.nested = BnbNestedState{kNestedBlocks, nested.offset};
    } else {
      put_all(job.made[1].name, absmax);
    }
    file_.write_text(job.text, bnb_state_text(state));
  }

  const QuantizedWrite& write_;
  std::span<const Job> jobs_;
  const std::function<void(uint64_t)>& done_;
  SafetensorsFile file_;
  std::map<std::string, size_t> index_;
};

// Runs of jobs that fill a shard each: [begin, end).
std::vector<std::pair<size_t, size_t>> cut(const std::vector<Job>& jobs, uint64_t max_bytes) {
  std::vector<std::pair<size_t, size_t>> shards{{0, 0}};
  uint64_t filled = 0;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const uint64_t bytes = bytes_of(jobs[i]);
    if (filled > 0 && filled + bytes > max_bytes) {
      shards.push_back({i, i});
      filled = 0;
    }
    shards.back().second = i + 1;
    filled += bytes;
  }
  return shards;
}

void write_index(const std::string& directory, const std::vector<std::string>& files) {
  OrderedJson index;
  uint64_t total = 0;
  std::map<std::string, std::string> shard_of;
  for (const std::string& name : files) {
    const std::string path = directory + "/" + name;
    const InputFile file(path);
    std::vector<std::byte> header(8);
    file.read(0, header);
    uint64_t bytes = 0;
    std::memcpy(&bytes, header.data(), 8);
    header.resize(8 + bytes);
    file.read(0, header);
    for (const TensorInfo& tensor : parse_safetensors_header(header, file.size_bytes(), path)) {
      shard_of[tensor.name] = name;
      total += tensor.length_bytes;
    }
  }
  index["metadata"] = {{"total_size", total}};
  index["weight_map"] = shard_of;
  write_file_atomically(directory + "/model.safetensors.index.json", index.dump(2) + "\n");
}

}  // namespace

QuantizedResult write_quantized(const QuantizedWrite& write) {
  const Plan plan(write);
  QuantizedResult result;
  for (const Job& job : plan.jobs) {
    result.bytes += bytes_of(job);
    if (!job.module.empty()) result.formats[job.module] = quant::format_name(job.format);
  }
  std::atomic<uint64_t> written{0};
  const auto caller = std::this_thread::get_id();
  const std::function<void(uint64_t)> done = [&](uint64_t bytes) {
    written += bytes;
    if (write.progress && std::this_thread::get_id() == caller) write.progress(written, result.bytes);
  };
  const std::vector<std::pair<size_t, size_t>> shards = cut(plan.jobs, write.max_shard_bytes);
  std::vector<std::string> files;
  for (size_t i = 0; i < shards.size(); ++i) {
    files.push_back(shards.size() == 1
                        ? "model.safetensors"
                        : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size()));
    const std::span<const Job> jobs(plan.jobs.data() + shards[i].first, shards[i].second - shards[i].first);
    ShardWriter(write, jobs, write.directory + "/" + files.back(), done).run();
  }
  if (shards.size() > 1) write_index(write.directory, files);
  result.bytes = written;
  return result;
}

}  // namespace rhapsode::model
