// Writing safetensors files: the header from the list of tensors, then their bytes one tensor at a time,
// under the final name only when all of it is on the disk. Knows no values.
#include <fmt/format.h>

#include <set>

#include "base/atomic_file.h"
#include "base/checked.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"

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

// The header's JSON with the 8-byte length before it, padded with spaces so that data start at a multiple
// of 8.
std::string header_bytes(const std::string& file, const std::vector<TensorToWrite>& tensors,
                         const std::map<std::string, std::string>& metadata) {
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
  json.append(round_up(json.size(), 8) - json.size(), ' ');
  if (json.size() > kMaxHeaderBytes)
    throw cannot_write(file, "", "the header is longer than the format allows");
  std::string bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(json.size() >> (8 * i) & 0xff);
  return bytes + json;
}

}  // namespace

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
