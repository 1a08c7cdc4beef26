// Writing safetensors files: the header from the list of tensors, then their bytes one tensor at a time,
// under the final name only when all of it is on the disk. Knows no values.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/atomic_file.h"
#include "base/checked.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors_file.h"

namespace rhapsode {
namespace {

Error cannot_write(const std::string& file, const std::string& tensor, const char* message) {
  return Error(ErrorKind::runtime, "cannot-write-tensor", message).in(file).at(excerpt(tensor));
}

uint64_t tensor_bytes(const std::string& file, const TensorToWrite& tensor) {
  const std::optional<uint64_t> elements = checked_product(tensor.shape);
  const std::optional<uint64_t> bytes =
      elements ? checked_mul(*elements, dtype_bytes(tensor.dtype)) : std::nullopt;
  if (!bytes) throw cannot_write(file, tensor.name, "the size of a tensor does not fit in 64 bits");
  return *bytes;
}

// The header's JSON with the 8-byte length before it, padded with spaces to `reserved` bytes, or so that data
// start at a multiple of 8.
std::string header_bytes(const std::string& file, const std::vector<TensorToWrite>& tensors,
                         const std::map<std::string, std::string>& metadata, uint64_t reserved = 0) {
  OrderedJson root = OrderedJson::object();
  std::set<std::string> names{"__metadata__"};
  if (!metadata.empty()) root["__metadata__"] = metadata;
  uint64_t begin = 0;
  for (const TensorToWrite& tensor : tensors) {
    if (!names.insert(tensor.name).second) throw cannot_write(file, tensor.name, "a tensor's name is taken");
    if (!is_utf8(tensor.name)) throw cannot_write(file, tensor.name, "a tensor's name is not UTF-8");
    if (tensor.shape.size() > kMaxRank)
      throw cannot_write(file, tensor.name, "a tensor has too many dimensions");
    const std::optional<uint64_t> end = checked_add(begin, tensor_bytes(file, tensor));
    if (!end) throw cannot_write(file, tensor.name, "the size of the file does not fit in 64 bits");
    OrderedJson entry;
    entry["dtype"] = dtype_name(tensor.dtype);
    entry["shape"] = tensor.shape;
    entry["data_offsets"] = {begin, *end};
    // push_back, not operator[]: a lookup in ordered JSON is linear, and names are known to be distinct.
    root.get_ref<OrderedJson::object_t&>().emplace_back(tensor.name, std::move(entry));
    begin = *end;
  }
  std::string json = root.dump();
  json.append(std::max(round_up(json.size(), 8), reserved < 8 ? 0 : reserved - 8) - json.size(), ' ');
  if (json.size() > kMaxHeaderBytes)
    throw cannot_write(file, "", "the header is longer than the format allows");
  std::string bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(json.size() >> (8 * i) & 0xff);
  return bytes + json;
}

}  // namespace

namespace {

std::vector<TensorToWrite> with_texts(std::vector<TensorToWrite> tensors,
                                      const std::vector<std::pair<std::string, std::string>>& texts,
                                      bool at_most) {
  for (const auto& [name, text] : texts)
    tensors.push_back({name, Dtype::u8, {at_most ? SafetensorsFile::kMaxTextBytes : text.size()}});
  return tensors;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& file, std::vector<TensorToWrite> tensors,
                                 const std::map<std::string, std::string>& metadata,
                                 std::vector<std::string> texts)
    : file_(file), metadata_(metadata), tensors_(std::move(tensors)), out_(file) {
  for (std::string& name : texts) texts_.emplace_back(std::move(name), "");
  header_bytes_ = header_bytes(file, with_texts(tensors_, texts_, true), metadata).size();
  uint64_t next = header_bytes_;
  for (const TensorToWrite& tensor : tensors_) {
    begins_.push_back(next);
    next += rhapsode::tensor_bytes(file, tensor);
  }
  begins_.push_back(next);
}

void SafetensorsFile::write_text(const std::string& name, std::string text) {
  for (auto& [known, value] : texts_) {
    if (known != name) continue;
    if (text.empty() || text.size() > kMaxTextBytes) throw cannot_write(file_, name, "a text is too long");
    value = std::move(text);
    return;
  }
  throw cannot_write(file_, name, "no text of this name was announced");
}

void SafetensorsFile::write(size_t index, uint64_t offset_bytes, std::span<const std::byte> bytes) {
  if (offset_bytes + bytes.size() > tensor_bytes(index))
    throw cannot_write(file_, tensors_[index].name, "a tensor has more bytes than its shape");
  out_.write_at(begins_[index] + offset_bytes, bytes);
  written_ += bytes.size();
}

void SafetensorsFile::commit() {
  std::string all;
  for (const auto& [name, text] : texts_) {
    if (text.empty()) throw cannot_write(file_, name, "a text was not written");
    all += text;
  }
  if (header_bytes_ + written_ != begins_.back())
    throw cannot_write(file_, "", "not every byte of every tensor was written");
  // The texts are no longer than was reserved for them, so neither is the header.
  const std::string header =
      header_bytes(file_, with_texts(tensors_, texts_, false), metadata_, header_bytes_);
  out_.write_at(0, std::as_bytes(std::span(header)));
  out_.write_at(begins_.back(), std::as_bytes(std::span(all)));
  out_.commit();
}

void write_safetensors(const std::string& file, const std::vector<TensorToWrite>& tensors,
                       const std::map<std::string, std::string>& metadata,
                       const std::function<void(size_t index, std::span<std::byte> out)>& fill) {
  const std::string header = header_bytes(file, tensors, metadata);
  AtomicFile out(file);
  out.append(std::as_bytes(std::span(header)));
  std::vector<std::byte> data;
  for (size_t i = 0; i < tensors.size(); ++i) {
    data.resize(tensor_bytes(file, tensors[i]));
    fill(i, data);
    out.append(data);
  }
  out.commit();
}

}  // namespace rhapsode
