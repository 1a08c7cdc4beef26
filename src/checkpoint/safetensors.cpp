// The header of a safetensors file: parsed as events, each tensor checked against its shape, its type and the
// file's size, then all of them against each other (no overlap, no hole, nothing behind the last). Allocates
// no tensor memory. Refuses to know of indexes, directories and values.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <tuple>

#include "base/checked.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"

namespace rhapsode {
namespace {

constexpr uint64_t kPrefixBytes = 8;
constexpr const char* kRefetch =
    "the file is damaged or was written by a faulty program: fetch or export it again";

struct ForeignType {
  std::string_view name;
  uint32_t bits;
};
constexpr std::array<ForeignType, 7> kForeignTypes{{{"F4", 4},
                                                    {"F6_E2M3", 6},
                                                    {"F6_E3M2", 6},
                                                    {"F8_E8M0", 8},
                                                    {"F8_E4M3FNUZ", 8},
                                                    {"F8_E5M2FNUZ", 8},
                                                    {"C64", 64}}};

// One tensor as its header entry says it, before anything is believed.
struct Entry {
  std::string name;
  uint64_t header_byte = 0;  // where its key stands in the file
  std::optional<std::string> dtype;
  std::optional<std::vector<uint64_t>> shape;
  std::optional<std::vector<uint64_t>> offsets;
};

// Collects the entries. The grammar: {name: {dtype: string, shape: [n…], data_offsets: [n, n]},
// "__metadata__": {string: string}}.
class HeaderEvents : public JsonEvents {
 public:
  explicit HeaderEvents(const std::string& file) : file_(file) {}
  std::vector<Entry> take() { return std::move(entries_); }

  void null(const JsonScan& at) override { refuse(at, "null"); }
  void boolean(const JsonScan& at, bool) override { refuse(at, "a boolean"); }
  void negative_integer(const JsonScan& at, int64_t v) override { refuse(at, fmt::format("{}", v)); }
  void real(const JsonScan& at, double v) override { refuse(at, fmt::format("{}", v)); }
  void unsigned_integer(const JsonScan& at, uint64_t v) override {
    if (state_ != State::numbers) refuse(at, fmt::format("{}", v));
    const size_t limit = numbers_are_shape_ ? kMaxRank : 2;
    if (numbers_.size() == limit)
      fail(at,
           numbers_are_shape_ ? "a tensor has too many dimensions" : "data_offsets has more than two numbers",
           fmt::format("more than {}", limit), numbers_are_shape_ ? "at most 64 dimensions" : "[begin, end]");
    numbers_.push_back(v);
  }
  void string(const JsonScan& at, std::string& v) override {
    if (state_ == State::metadata) return;
    if (state_ != State::tensor || field_ != "dtype")
      refuse(at, fmt::format("the string \"{}\"", excerpt(v)));
    entries_.back().dtype = std::move(v);
  }
  void key(const JsonScan& at, std::string& v) override {
    if (state_ == State::top) {
      metadata_next_ = v == "__metadata__";
      if (!metadata_next_) {
        entries_.emplace_back().name = std::move(v);
        entries_.back().header_byte = at.offset_bytes() + kPrefixBytes;
      }
    } else if (state_ == State::tensor) {
      if (v != "dtype" && v != "shape" && v != "data_offsets")
        fail(at, "a tensor has an unknown field", excerpt(v), "dtype, shape and data_offsets");
      field_ = std::move(v);
    }
  }
  void begin_object(const JsonScan& at) override {
    if (state_ == State::start)
      state_ = State::top;
    else if (state_ == State::top)
      state_ = metadata_next_ ? State::metadata : State::tensor;
    else
      refuse(at, "an object");
  }
  void end_object(const JsonScan&) override {
    if (state_ == State::top)
      state_ = State::start;
    else
      state_ = State::top;
  }
  void begin_array(const JsonScan& at) override {
    if (state_ != State::tensor || field_ == "dtype") refuse(at, "an array");
    state_ = State::numbers;
    numbers_are_shape_ = field_ == "shape";
    numbers_.clear();
  }
  void end_array(const JsonScan& at) override {
    state_ = State::tensor;
    if (numbers_are_shape_) {
      entries_.back().shape = numbers_;
    } else {
      if (numbers_.size() != 2)
        fail(at, "data_offsets has fewer than two numbers", fmt::format("{}", numbers_.size()),
             "[begin, end]");
      entries_.back().offsets = numbers_;
    }
  }

 private:
  enum class State { start, top, metadata, tensor, numbers };

  [[noreturn]] void refuse(const JsonScan& at, std::string found) const {
    const char* want = "an object";
    if (state_ == State::metadata) want = "a string";
    if (state_ == State::tensor) want = field_ == "dtype" ? "a string" : "an array of integers";
    if (state_ == State::numbers) want = "an integer between 0 and 2^64 - 1";
    fail(at, "the header holds a value of the wrong kind", std::move(found), want);
  }
  [[noreturn]] void fail(const JsonScan& at, const char* message, std::string found, std::string want) const {
    throw Error(ErrorKind::integrity, "bad-safetensors-header", message)
        .in(file_)
        .at(at.pointer())
        .saw(fmt::format("{} at byte {} of the file", found, at.offset_bytes() + kPrefixBytes))
        .want(std::move(want))
        .hint(kRefetch);
  }

  const std::string& file_;
  State state_ = State::start;
  bool metadata_next_ = false;
  bool numbers_are_shape_ = false;
  std::string field_;
  std::vector<uint64_t> numbers_;
  std::vector<Entry> entries_;
};

Error bad_tensor(const std::string& file, const Entry& entry, std::string message) {
  return Error(ErrorKind::integrity, "bad-tensor", std::move(message))
      .in(file)
      .at(excerpt(entry.name))
      .hint(kRefetch);
}

std::string shape_text(const std::vector<uint64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// Bits of one element; fills `dtype` or `foreign_dtype`.
uint32_t type_bits(const std::string& file, const Entry& entry, TensorInfo& info) {
  if (const std::optional<Dtype> known = dtype_from_name(*entry.dtype)) {
    info.dtype = *known;
    return dtype_bytes(*known) * 8;
  }
  for (const ForeignType& foreign : kForeignTypes) {
    if (foreign.name != *entry.dtype) continue;
    info.foreign_dtype = foreign.name;
    return foreign.bits;
  }
  throw bad_tensor(file, entry, "a tensor has an unknown type")
      .saw(
          fmt::format("\"{}\" in the entry at byte {} of the file", excerpt(*entry.dtype), entry.header_byte))
      .want("a type of the safetensors format, such as F32, F16, BF16 or I64");
}

// Checks one entry by itself: all fields there, shape and type give the bytes that the offsets span, inside
// the file.
TensorInfo checked_tensor(const std::string& file, Entry& entry, uint64_t data_start, uint64_t data_bytes) {
  const auto missing = [&](const char* field) {
    return bad_tensor(file, entry, "a tensor lacks a field")
        .saw(fmt::format("no {} in the entry at byte {} of the file", field, entry.header_byte))
        .want("dtype, shape and data_offsets");
  };
  if (!entry.dtype) throw missing("dtype");
  if (!entry.shape) throw missing("shape");
  if (!entry.offsets) throw missing("data_offsets");
  TensorInfo info;
  const uint32_t bits = type_bits(file, entry, info);
  const uint64_t begin = entry.offsets->front();
  const uint64_t end = entry.offsets->back();
  const auto place = [&] {
    return fmt::format("data_offsets [{}, {}] in the entry at byte {} of the file", begin, end,
                       entry.header_byte);
  };
  if (begin > end)
    throw bad_tensor(file, entry, "a tensor ends before it begins").saw(place()).want("begin <= end");
  if (end > data_bytes)
    throw bad_tensor(file, entry, "a tensor reaches behind the end of the file")
        .saw(place())
        .want(fmt::format("offsets up to {} ({} bytes of data after the header)", data_bytes, data_bytes));
  const std::optional<uint64_t> elements = checked_product(*entry.shape);
  const std::optional<uint64_t> size_bits = elements ? checked_mul(*elements, bits) : std::nullopt;
  if (!size_bits)
    throw bad_tensor(file, entry, "the size of a tensor does not fit in 64 bits")
        .saw(fmt::format("shape {} of {} in the entry at byte {} of the file", shape_text(*entry.shape),
                         *entry.dtype, entry.header_byte))
        .want(fmt::format("{} bytes, as data_offsets say", end - begin));
  if (*size_bits % 8 != 0 || *size_bits / 8 != end - begin)
    throw bad_tensor(file, entry, "shape and type of a tensor do not give the bytes that its offsets span")
        .saw(fmt::format("{} ({} bytes)", place(), end - begin))
        .want(fmt::format("{} bytes for shape {} of {}", static_cast<double>(*size_bits) / 8,
                          shape_text(*entry.shape), *entry.dtype));
  info.name = std::move(entry.name);
  info.shape = std::move(*entry.shape);
  info.offset_bytes = data_start + begin;
  info.length_bytes = end - begin;
  return info;
}

// Tensors must tile the data: sorted by begin, each starts where the one before ends.
void check_tiling(const std::string& file, std::vector<TensorInfo>& tensors, uint64_t data_start,
                  uint64_t file_bytes) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.offset_bytes, a.length_bytes, a.name) <
           std::tie(b.offset_bytes, b.length_bytes, b.name);
  });
  uint64_t covered = data_start;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.offset_bytes != covered) {
      const bool overlap = tensor.offset_bytes < covered;
      throw Error(ErrorKind::integrity, overlap ? "tensors-overlap" : "hole-in-data",
                  overlap ? "two tensors share bytes" : "bytes before a tensor belong to no tensor")
          .in(file)
          .at(excerpt(tensor.name))
          .saw(fmt::format("data_offsets begin at {}, byte {} of the file", tensor.offset_bytes - data_start,
                           tensor.offset_bytes))
          .want(fmt::format("{}, where the tensor before it ends", covered - data_start))
          .hint(kRefetch);
    }
    covered = tensor.offset_bytes + tensor.length_bytes;
  }
  if (covered != file_bytes)
    throw Error(ErrorKind::integrity, "trailing-bytes", "bytes behind the last tensor belong to no tensor")
        .in(file)
        .saw(fmt::format("{} bytes from byte {} of the file", file_bytes - covered, covered))
        .want(fmt::format("a file of {} bytes", covered))
        .hint(kRefetch);
}

uint64_t checked_header_bytes(std::span<const std::byte> bytes, uint64_t file_bytes,
                              const std::string& file) {
  if (bytes.size() < kPrefixBytes || file_bytes < kPrefixBytes)
    throw Error(ErrorKind::integrity, "file-truncated", "the file is too short to be a safetensors file")
        .in(file)
        .saw(fmt::format("{} bytes", file_bytes))
        .want("8 bytes for the length of the header, then the header")
        .hint("the download is incomplete: fetch it again");
  uint64_t header_bytes = 0;
  for (size_t i = kPrefixBytes; i-- > 0;)
    header_bytes = header_bytes << 8 | std::to_integer<uint64_t>(bytes[i]);
  const bool fits = header_bytes <= file_bytes - kPrefixBytes;
  if (header_bytes == 0 || header_bytes > kMaxHeaderBytes || !fits)
    throw Error(ErrorKind::integrity, fits ? "bad-header-length" : "file-truncated",
                fits ? "the header's length is out of range"
                     : "the header's length reaches behind the end of the file")
        .in(file)
        .saw(fmt::format("{} at byte 0 of a file of {} bytes", header_bytes, file_bytes))
        .want(fmt::format("1 to {}", std::min(kMaxHeaderBytes, file_bytes - kPrefixBytes)))
        .hint(fits ? kRefetch : "the download is incomplete, or this is no safetensors file: fetch it again");
  if (bytes.size() - kPrefixBytes < header_bytes)
    throw Error(ErrorKind::integrity, "file-truncated", "the file ends inside its header")
        .in(file)
        .saw(fmt::format("{} bytes", bytes.size()))
        .want(fmt::format("{} bytes", kPrefixBytes + header_bytes))
        .hint("the file changed while it was read: fetch it again");
  return header_bytes;
}

}  // namespace

std::vector<TensorInfo> parse_safetensors_header(std::span<const std::byte> bytes, uint64_t file_bytes,
                                                 const std::string& file) {
  const uint64_t header_bytes = checked_header_bytes(bytes, file_bytes, file);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kPrefixBytes, header_bytes);
  if (text.front() != '{')
    throw Error(ErrorKind::integrity, "bad-safetensors-header", "the header does not start with an object")
        .in(file)
        .saw(fmt::format("\"{}\" at byte 8 of the file", excerpt(text.substr(0, 16))))
        .want("{")
        .hint(kRefetch);
  HeaderEvents events(file);
  scan_json(text,
            {.file = file,
             .kind = ErrorKind::integrity,
             .limits = {.max_bytes = kMaxHeaderBytes, .max_depth = 8},
             .in_binary_file = true,
             .file_offset_bytes = kPrefixBytes},
            events);
  std::vector<Entry> entries = events.take();
  const uint64_t data_start = kPrefixBytes + header_bytes;
  std::vector<TensorInfo> tensors;
  tensors.reserve(entries.size());
  for (Entry& entry : entries)
    tensors.push_back(checked_tensor(file, entry, data_start, file_bytes - data_start));
  check_tiling(file, tensors, data_start, file_bytes);
  return tensors;
}

}  // namespace rhapsode
