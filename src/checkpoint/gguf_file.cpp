// Reads the header of a GGUF file through a small window: counts and lengths are checked against the bytes
// that are left before anything is allocated by them.
#include "checkpoint/gguf_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <set>

#include "base/checked.h"
#include "base/json.h"

namespace rhapsode::gguf {
namespace {

constexpr uint64_t kWindowBytes = 256 * 1024;
constexpr uint64_t kMaxKeyBytes = 65'535;
constexpr uint64_t kMaxStringBytes = 16 * 1024 * 1024;
constexpr uint64_t kMaxElements = 1u << 22;       // of one array: vocabularies have below 2^19
constexpr uint64_t kMaxTotalElements = 1u << 23;  // of all arrays
constexpr uint32_t kMaxArrayDepth = 4;
constexpr uint32_t kMaxDimensions = 4;
constexpr uint64_t kMinKeyBytes = 8 + 4 + 1;         // length, type, the shortest value
constexpr uint64_t kMinTensorBytes = 8 + 4 + 4 + 8;  // name length, rank, type, offset
constexpr const char* kRefetch =
    "the file is damaged or was written by a faulty program: fetch or export it again";

enum ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

class Reader {
 public:
  Reader(const ReadAt& read_at, uint64_t file_bytes, const std::string& path)
      : read_at_(read_at), file_bytes_(file_bytes), path_(path) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return file_bytes_ - position_; }
  void set_subject(std::string subject) { subject_ = std::move(subject); }

  Error error(const char* code, std::string message, uint64_t at) const {
    Error e(ErrorKind::integrity, code, std::move(message));
    e.in(path_).at(subject_.empty() ? fmt::format("byte {}", at) : subject_).hint(kRefetch);
    return e;
  }
  [[noreturn]] void fail(std::string message, uint64_t at, std::string found, std::string want) const {
    throw error("bad-gguf", std::move(message), at)
        .saw(fmt::format("{} at byte {} of the file", found, at))
        .want(std::move(want));
  }

  template <typename T>
  T number() {
    std::array<std::byte, sizeof(T)> raw;
    bytes(raw);
    return std::bit_cast<T>(raw);  // the format is little-endian, as every machine that we build for
  }

  std::string string(const char* what, uint64_t max_bytes) {
    const uint64_t at = position_;
    const uint64_t length = number<uint64_t>();
    if (length > max_bytes || length > left())
      fail(fmt::format("the length of {} is out of range", what), at, fmt::format("{}", length),
           fmt::format("at most {}", std::min(max_bytes, left())));
    std::string text(length, '\0');
    bytes(std::as_writable_bytes(std::span(text.data(), text.size())));
    if (!is_utf8(text))
      fail(fmt::format("{} is not UTF-8", what), at, fmt::format("\"{}\"", excerpt(text)), "UTF-8");
    return text;
  }

 private:
  void bytes(std::span<std::byte> out) {
    if (out.size() > left())
      throw error("file-truncated", "the file ends inside its header", position_)
          .saw(fmt::format("end of file at byte {}", file_bytes_))
          .want(fmt::format("{} bytes from byte {}", out.size(), position_));
    if (out.size() > kWindowBytes) {
      read_at_(position_, out);
      position_ += out.size();
      return;
    }
    const uint64_t end = position_ + out.size();
    if (position_ < window_start_ || end > window_start_ + window_.size()) {
      window_.resize(std::min(kWindowBytes, left()));
      window_start_ = position_;
      read_at_(position_, window_);
    }
    if (!out.empty()) std::memcpy(out.data(), window_.data() + (position_ - window_start_), out.size());
    position_ = end;
  }

  const ReadAt& read_at_;
  uint64_t file_bytes_;
  const std::string& path_;
  uint64_t position_ = 0;
  std::string subject_;  // the key or tensor that is being read
  std::vector<std::byte> window_;
  uint64_t window_start_ = 0;
};

uint32_t scalar_bytes(uint32_t type) {
  switch (type) {
    case kU8:
    case kI8:
    case kBool:
      return 1;
    case kU16:
    case kI16:
      return 2;
    case kU32:
    case kI32:
    case kF32:
      return 4;
    case kU64:
    case kI64:
    case kF64:
      return 8;
    default:
      return 0;
  }
}

bool read_bool(Reader& in) {
  const uint64_t at = in.position();
  const uint8_t raw = in.number<uint8_t>();
  if (raw > 1) in.fail("a boolean is neither 0 nor 1", at, fmt::format("{}", raw), "0 or 1");
  return raw == 1;
}

Value read_scalar(Reader& in, uint32_t type) {
  switch (type) {
    case kU8:
      return int64_t{in.number<uint8_t>()};
    case kI8:
      return int64_t{in.number<int8_t>()};
    case kU16:
      return int64_t{in.number<uint16_t>()};
    case kI16:
      return int64_t{in.number<int16_t>()};
    case kU32:
      return int64_t{in.number<uint32_t>()};
    case kI32:
      return int64_t{in.number<int32_t>()};
    case kI64:
      return in.number<int64_t>();
    case kF32:
      return double{in.number<float>()};
    case kF64:
      return in.number<double>();
    case kBool:
      return read_bool(in);
    case kU64: {
      const uint64_t raw = in.number<uint64_t>();
      if (raw > static_cast<uint64_t>(INT64_MAX)) return raw;
      return static_cast<int64_t>(raw);
    }
    case kString:
      return in.string("a string", kMaxStringBytes);
    default:
      in.fail("a value has an unknown type", in.position() - 4, fmt::format("{}", type), "0 to 12");
  }
}

class MetadataReader {
 public:
  explicit MetadataReader(Reader& in) : in_(in) {}

  Value value(uint32_t type) { return type == kArray ? array(1) : read_scalar(in_, type); }

 private:
  Value array(uint32_t depth) {
    const uint64_t at = in_.position();
    if (depth > kMaxArrayDepth)
      in_.fail("arrays are nested too deeply", at, fmt::format("{} levels", depth),
               fmt::format("at most {}", kMaxArrayDepth));
    const uint32_t type = in_.number<uint32_t>();
    const uint64_t count = in_.number<uint64_t>();
    // The least a value of the type takes: a string its length, an array its type and count.
    const uint64_t least = type == kString ? 8 : type == kArray ? 12 : scalar_bytes(type);
    if (least == 0)
      in_.fail("an array has elements of an unknown type", at, fmt::format("{}", type), "0 to 12");
    const uint64_t most = std::min({kMaxElements, kMaxTotalElements - elements_, in_.left() / least});
    if (count > most)
      in_.fail("an array is too long", at + 4, fmt::format("{} elements", count),
               fmt::format("at most {}", most));
    elements_ += count;
    return elements(type, count, depth);
  }

  Value elements(uint32_t type, uint64_t count, uint32_t depth) {
    if (type == kArray) {
      for (uint64_t i = 0; i < count; ++i) array(depth + 1);
      return Nested{};
    }
    if (type == kString) {
      std::vector<std::string> out(count);
      for (std::string& text : out) text = in_.string("a string", kMaxStringBytes);
      return out;
    }
    if (type == kF32 || type == kF64) {
      std::vector<double> out(count);
      for (double& x : out) x = std::get<double>(read_scalar(in_, type));
      return out;
    }
    std::vector<int64_t> out(count);
    for (int64_t& x : out) {
      const uint64_t at = in_.position();
      const Value v = read_scalar(in_, type);
      if (const bool* b = std::get_if<bool>(&v))
        x = *b ? 1 : 0;
      else if (const int64_t* n = std::get_if<int64_t>(&v))
        x = *n;
      else
        in_.fail("an array element is out of range", at, fmt::format("{}", std::get<uint64_t>(v)),
                 "below 2^63");
    }
    return out;
  }

  Reader& in_;
  uint64_t elements_ = 0;
};

void check_count(const Reader& in, const char* what, uint64_t count, uint64_t least_bytes, uint64_t at) {
  const uint64_t most = in.left() / least_bytes;
  if (count > most)
    in.fail(fmt::format("the number of {} is out of range", what), at, fmt::format("{}", count),
            fmt::format("at most {} in a file of this size", most));
}

uint32_t read_preamble(Reader& in, const std::string& path, uint64_t file_bytes) {
  if (file_bytes < 24)
    throw in.error("file-truncated", "the file is too short to be a GGUF file", 0)
        .saw(fmt::format("{} bytes", file_bytes))
        .want("at least 24 bytes");
  const uint32_t magic = in.number<uint32_t>();
  if (magic != 0x46554747)  // "GGUF"
    in.fail("the file does not start with GGUF", 0, fmt::format("{:#010x}", magic), "0x46554747 (GGUF)");
  const uint32_t version = in.number<uint32_t>();
  if (version == 2 || version == 3) return version;
  const bool swapped = version == 0x02000000 || version == 0x03000000;
  if (version != 1 && !swapped)
    in.fail("the version of the format is unknown", 4, fmt::format("{}", version), "2 or 3");
  throw Error(ErrorKind::unsupported, swapped ? "gguf-big-endian" : "gguf-version",
              swapped ? "the file is big-endian" : "the version of the format is too old")
      .in(path)
      .at("byte 4")
      .saw(swapped ? "a big-endian version number" : "version 1")
      .want("a little-endian file of version 2 or 3")
      .hint("convert the model to GGUF again with a current program");
}

TensorEntry read_tensor(Reader& in, uint64_t& file_offset, const std::string& path) {
  in.set_subject("");
  TensorEntry tensor;
  tensor.name = in.string("a tensor's name", kMaxKeyBytes);
  in.set_subject(excerpt(tensor.name));
  const uint64_t at = in.position();
  const uint32_t rank = in.number<uint32_t>();
  if (rank > kMaxDimensions)
    in.fail("a tensor has too many dimensions", at, fmt::format("{}", rank), "at most 4");
  for (uint32_t i = 0; i < rank; ++i) tensor.shape.push_back(in.number<uint64_t>());
  const uint64_t row = rank == 0 ? 1 : tensor.shape.front();
  std::reverse(tensor.shape.begin(), tensor.shape.end());
  const uint64_t type_at = in.position();
  tensor.type = in.number<uint32_t>();
  file_offset = in.number<uint64_t>();
  const BlockTraits* traits = block_traits(tensor.type);
  if (traits == nullptr)
    throw Error(ErrorKind::unsupported, "gguf-type", "a tensor has a type that we do not know")
        .in(path)
        .at(excerpt(tensor.name))
        .saw(fmt::format("type {} at byte {} of the file", tensor.type, type_at))
        .want("a type of the GGUF format, such as F16, Q8_0 or Q4_K");
  if (row % traits->elements != 0)
    in.fail("a tensor's rows are no whole blocks", at, fmt::format("rows of {} elements", row),
            fmt::format("a multiple of {} for {}", traits->elements, traits->name));
  const std::optional<uint64_t> elements = checked_product(tensor.shape);
  const std::optional<uint64_t> bytes =
      elements ? checked_mul(*elements / traits->elements, traits->bytes) : std::nullopt;
  if (!bytes)
    in.fail("the size of a tensor does not fit in 64 bits", at,
            fmt::format("[{}]", fmt::join(tensor.shape, ", ")), "fewer elements");
  tensor.length_bytes = *bytes;
  return tensor;
}

uint64_t alignment_of(const Reader& in, const File& file) {
  const auto at = file.metadata.find("general.alignment");
  if (at == file.metadata.end()) return 32;
  const int64_t* value = std::get_if<int64_t>(&at->second);
  if (value == nullptr || *value < 1 || *value > (1 << 30) ||
      !std::has_single_bit(static_cast<uint64_t>(*value)))
    throw in.error("bad-gguf", "the alignment is no power of two", 0)
        .at("general.alignment")
        .saw(value == nullptr ? "another type" : fmt::format("{}", *value))
        .want("1, 2, 4, … up to 2^30");
  return static_cast<uint64_t>(*value);
}

// Tensors follow each other, each at a multiple of the alignment; between them and behind the last lies
// padding only.
void place_tensors(const Reader& in, File& file, const std::vector<uint64_t>& offsets, uint64_t file_bytes) {
  const uint64_t alignment = alignment_of(in, file);
  const uint64_t data_start = file.tensors.empty() ? in.position() : round_up(in.position(), alignment);
  const auto bad = [&](const TensorEntry& tensor, const char* code, const char* message) {
    return in.error(code, message, 0).at(excerpt(tensor.name));
  };
  std::vector<size_t> order(file.tensors.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::tie(offsets[a], file.tensors[a].length_bytes, a) <
           std::tie(offsets[b], file.tensors[b].length_bytes, b);
  });
  uint64_t covered = 0;  // of the data, padding included
  uint64_t end = data_start;
  for (const size_t i : order) {
    TensorEntry& tensor = file.tensors[i];
    const std::string found = fmt::format("offset {} and {} bytes, data from byte {} of {}", offsets[i],
                                          tensor.length_bytes, data_start, file_bytes);
    const std::optional<uint64_t> begin = checked_add(data_start, offsets[i]);
    const std::optional<uint64_t> stop = begin ? checked_add(*begin, tensor.length_bytes) : std::nullopt;
    if (!stop || *stop > file_bytes)
      throw bad(tensor, "tensor-outside-file", "a tensor reaches behind the end of the file")
          .saw(found)
          .want(fmt::format("at most byte {}", file_bytes));
    if (offsets[i] % alignment != 0)
      throw bad(tensor, "tensor-misaligned", "a tensor does not start at the file's alignment")
          .saw(found)
          .want(fmt::format("a multiple of {}", alignment));
    if (offsets[i] != covered)
      throw bad(
          tensor, offsets[i] < covered ? "tensors-overlap" : "hole-in-data",
          offsets[i] < covered ? "two tensors share bytes" : "bytes before a tensor belong to no tensor")
          .saw(found)
          .want(fmt::format("offset {}, where the tensor before it ends", covered));
    tensor.offset_bytes = *begin;
    end = *stop;
    covered = round_up(*stop - data_start, alignment);
  }
  // data_start + covered may lie behind a file whose last tensor is not padded.
  if (file_bytes > std::max(end, data_start + covered))
    throw in.error("trailing-bytes", "bytes behind the last tensor belong to no tensor", end)
        .saw(fmt::format("{} bytes from byte {} of the file", file_bytes - end, end))
        .want(fmt::format("a file of {} bytes", end));
}

}  // namespace

File parse(const ReadAt& read_at, uint64_t file_bytes, const std::string& path) {
  Reader in(read_at, file_bytes, path);
  File file;
  file.path = path;
  file.version = read_preamble(in, path, file_bytes);
  const uint64_t tensor_count = in.number<uint64_t>();
  const uint64_t key_count = in.number<uint64_t>();
  check_count(in, "tensors", tensor_count, kMinTensorBytes, 8);
  check_count(in, "keys", key_count, kMinKeyBytes, 16);
  MetadataReader metadata(in);
  for (uint64_t i = 0; i < key_count; ++i) {
    in.set_subject("");
    const uint64_t at = in.position();
    std::string key = in.string("a key", kMaxKeyBytes);
    in.set_subject(excerpt(key));
    if (key.empty() || file.metadata.contains(key))
      in.fail(key.empty() ? "a key is empty" : "a key stands twice", at, fmt::format("\"{}\"", excerpt(key)),
              "each key once");
    const uint32_t type = in.number<uint32_t>();
    file.metadata.emplace(std::move(key), metadata.value(type));
  }
  std::vector<uint64_t> offsets;
  std::set<std::string> names;
  for (uint64_t i = 0; i < tensor_count; ++i) {
    const uint64_t at = in.position();
    uint64_t offset = 0;
    file.tensors.push_back(read_tensor(in, offset, path));
    offsets.push_back(offset);
    if (!names.insert(file.tensors.back().name).second)
      in.fail("two tensors have the same name", at, excerpt(file.tensors.back().name), "each name once");
  }
  in.set_subject("");
  place_tensors(in, file, offsets, file_bytes);
  return file;
}

}  // namespace rhapsode::gguf
