// model.safetensors.index.json: which shard holds which tensor. Names are checked here, before any of them is
// opened; the shards' headers are compared with it by Checkpoint::open.
#include <fmt/format.h>

#include <cmath>

#include "base/json.h"
#include "checkpoint/checkpoint.h"

namespace rhapsode {
namespace {

Error bad_index(const std::string& file, std::string pointer, std::string message) {
  return Error(ErrorKind::integrity, "bad-index", std::move(message))
      .in(file)
      .at(std::move(pointer))
      .hint("the index is damaged or does not belong to these shards: fetch it again");
}

std::string pointer_to(const std::string& name) {
  std::string out = "/weight_map/";
  for (const char c : excerpt(name)) {
    if (c == '~')
      out += "~0";
    else if (c == '/')
      out += "~1";
    else
      out += c;
  }
  return out;
}

// A shard's name must stay inside the directory on every system: no root, no "..", no backslash, no control
// character.
bool stays_inside(const std::string& name) {
  if (name.empty() || name.front() == '/' || name.size() > 1024) return false;
  for (const char c : name)
    if (c == '\\' || c == ':' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  size_t begin = 0;
  while (begin <= name.size()) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view part(name.data() + begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return true;
}

// Some programs write the sum as a float; it counts where it is a whole number that a double holds exactly.
uint64_t total_size(const std::string& file, const Json& value) {
  if (value.is_number_unsigned()) return value.get<uint64_t>();
  if (value.is_number_float()) {
    const double x = value.get<double>();
    if (x >= 0 && x <= 0x1p53 && std::floor(x) == x) return static_cast<uint64_t>(x);
  }
  throw bad_index(file, "/metadata/total_size", "total_size is no number of bytes")
      .saw(excerpt(value.dump(-1, ' ', false, Json::error_handler_t::replace)))
      .want("a whole number, 0 or more");
}

}  // namespace

SafetensorsIndex parse_safetensors_index(std::string_view text, const std::string& file) {
  const Json root = parse_json(text, file);
  if (!root.is_object())
    throw bad_index(file, "/", "the index is no object").saw(root.type_name()).want("an object");
  SafetensorsIndex index;
  if (const auto metadata = root.find("metadata"); metadata != root.end()) {
    if (!metadata->is_object())
      throw bad_index(file, "/metadata", "metadata is no object")
          .saw(metadata->type_name())
          .want("an object");
    if (const auto size = metadata->find("total_size"); size != metadata->end())
      index.total_size_bytes = total_size(file, *size);
  }
  const auto map = root.find("weight_map");
  if (map == root.end() || !map->is_object() || map->empty())
    throw bad_index(file, "/weight_map", "the index names no shards")
        .saw(map == root.end()  ? "no weight_map"
             : map->is_object() ? "an empty object"
                                : map->type_name())
        .want("an object from tensor names to file names");
  for (const auto& [name, shard] : map->items()) {
    if (!shard.is_string())
      throw bad_index(file, pointer_to(name), "a shard's name is no string")
          .saw(shard.type_name())
          .want("a file name");
    const std::string& shard_name = shard.get_ref<const std::string&>();
    if (!stays_inside(shard_name))
      throw bad_index(file, pointer_to(name), "a shard's name leads out of the directory")
          .saw(fmt::format("\"{}\"", excerpt(shard_name)))
          .want("a file name inside the directory of the index");
    index.shard_of.emplace(name, shard_name);
  }
  return index;
}

}  // namespace rhapsode
