// A checkpoint directory: finds its safetensors files, validates headers and index against each other, reads
// tensor bytes on request. Tells files that are no safetensors apart by their content, so that the error can
// say what they are.
#include "checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "base/checked.h"
#include "base/json.h"

namespace rhapsode {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kPickleHint =
    "pickle files can run code and are never read: use a revision of the model that has safetensors files, "
    "or convert it "
    "with save_pretrained(..., safe_serialization=True)";

std::string first_bytes(const InputFile& file, size_t count) {
  std::string bytes(std::min<uint64_t>(count, file.size_bytes()), '\0');
  file.read(0, std::as_writable_bytes(std::span(bytes.data(), bytes.size())));
  return bytes;
}

// What a file is by its first bytes, where we know it and cannot read it here.
enum class Content { unknown, pickle, gguf, lfs_pointer };

Content sniff(const InputFile& file) {
  const std::string head = first_bytes(file, 64);
  if (head.starts_with("GGUF")) return Content::gguf;
  if (head.starts_with("version https://git-lfs")) return Content::lfs_pointer;
  // torch.save since 1.6: a zip around a pickle. As a length prefix this would be legal, so a header must not
  // follow.
  if (head.starts_with("PK\x03\x04") && head.size() > 8 && head[8] != '{') return Content::pickle;
  // A bare pickle: PROTO 2 to 5, then an opcode that a length prefix of a header cannot be (it would be > 100
  // MB).
  const bool proto = head.size() > 8 && head[0] == '\x80' && head[1] >= 2 && head[1] <= 5;
  if (proto && (head[4] != 0 || head[5] != 0 || head[6] != 0 || head[7] != 0)) return Content::pickle;
  return Content::unknown;
}

[[noreturn]] void refuse_pickle(const std::string& path) {
  throw Error(ErrorKind::unsupported, "pickle-checkpoint", "the weights are a pickle file")
      .in(path)
      .saw("a pickle")
      .want("a safetensors file")
      .hint(kPickleHint);
}

void refuse_foreign_content(const InputFile& file) {
  switch (sniff(file)) {
    case Content::unknown:
      return;
    case Content::pickle:
      refuse_pickle(file.path());
    case Content::gguf:
      throw Error(ErrorKind::unsupported, "gguf-checkpoint", "the weights are a GGUF file")
          .in(file.path())
          .saw("GGUF")
          .want("a safetensors file")
          .hint("import it first: rhapsode import-gguf FILE DIR");
    case Content::lfs_pointer:
      throw Error(ErrorKind::integrity, "lfs-pointer", "the file is a Git LFS pointer, not the weights")
          .in(file.path())
          .saw(fmt::format("a text of {} bytes", file.size_bytes()))
          .want("a safetensors file")
          .hint("fetch the real file: git lfs pull, or download it from the hub");
  }
}

bool exists(const std::string& path) {
  std::error_code code;
  return fs::symlink_status(path, code).type() != fs::file_type::not_found && !code;
}

// Opens a file of the checkpoint; a link that leads nowhere or in a circle is a damaged checkpoint.
InputFile open_part(const std::string& path) {
  std::error_code code;
  const fs::file_status status = fs::status(path, code);
  if (code == std::errc::too_many_symbolic_link_levels)
    throw Error(ErrorKind::integrity, "link-cycle", "symbolic links lead in a circle")
        .in(path)
        .saw("a cycle of links")
        .want("a regular file")
        .hint("remove the links and fetch the file again");
  if (!code && status.type() != fs::file_type::regular && status.type() != fs::file_type::not_found)
    throw Error(ErrorKind::integrity, "not-a-file", "a part of the checkpoint is not a regular file")
        .in(path)
        .saw(status.type() == fs::file_type::directory ? "a directory" : "a special file")
        .want("a regular file");
  return InputFile(path);
}

// No safetensors: say what lies there instead.
[[noreturn]] void throw_no_weights(const std::string& directory) {
  std::error_code code;
  if (!fs::is_directory(directory, code))
    throw Error(ErrorKind::not_found, "no-checkpoint", "there is no such checkpoint directory")
        .in(directory)
        .saw(exists(directory) ? "not a directory" : "nothing")
        .want("a directory with model.safetensors or model.safetensors.index.json");
  std::set<std::string> weights;  // sorted: the same error on every file system
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, code)) {
    static const std::set<std::string> kExtensions{".bin", ".pt",          ".pth", ".ckpt",
                                                   ".pkl", ".safetensors", ".gguf"};
    if (kExtensions.contains(entry.path().extension().string())) weights.insert(entry.path().string());
  }
  for (const std::string& path : weights)
    if (fs::is_regular_file(path, code) && !path.ends_with(".safetensors"))
      refuse_foreign_content(InputFile(path));
  // Whatever its bytes: a damaged or partly fetched one, one of torch before 1.6, an index of them.
  for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json"})
    if (const std::string path = (fs::path(directory) / name).string(); exists(path)) refuse_pickle(path);
  std::string found = "no weights";
  if (!weights.empty()) {
    found.clear();
    for (const std::string& path : weights)
      if (found.size() < 200)
        found += (found.empty() ? "" : ", ") + excerpt(fs::path(path).filename().string());
  }
  throw Error(ErrorKind::not_found, "no-weights", "the directory holds no safetensors weights")
      .in(directory)
      .saw(found)
      .want("model.safetensors, or model.safetensors.index.json and its shards")
      .hint("fetch the model again; weights under another name must be renamed or listed in an index");
}

// Compares what the index says with what the shards hold.
void check_index(const SafetensorsIndex& index, const std::string& file, const Checkpoint& checkpoint) {
  const auto bad = [&](const std::string& tensor, const char* code, const char* message) {
    return Error(ErrorKind::integrity, code, message)
        .in(file)
        .at(excerpt(tensor))
        .hint("index and shards do not belong together: fetch them again from one revision");
  };
  const fs::path directory(checkpoint.directory());
  const auto check_place = [&](const TensorInfo& tensor) {
    const std::string& held_by = checkpoint.shards()[tensor.shard].path();
    const auto listed = index.shard_of.find(tensor.name);
    if (listed == index.shard_of.end())
      throw bad(tensor.name, "tensor-not-in-index", "a shard holds a tensor that the index does not list")
          .saw(fmt::format("it is in {}", held_by))
          .want("an entry in weight_map");
    if ((directory / listed->second).string() != held_by)
      throw bad(tensor.name, "tensor-in-wrong-shard", "a tensor is not in the shard that the index names")
          .saw(fmt::format("it is in {}", held_by))
          .want(listed->second);
  };
  for (const auto& [name, tensor] : checkpoint.tensors()) check_place(tensor);
  for (const auto& [name, tensor] : checkpoint.foreign_tensors()) check_place(tensor);
  for (const auto& [name, shard] : index.shard_of)
    if (!checkpoint.tensors().contains(name) && !checkpoint.foreign_tensors().contains(name))
      throw bad(name, "tensor-absent", "the index lists a tensor that its shard does not hold")
          .saw(fmt::format("no such tensor in {}", (directory / shard).string()))
          .want("the tensor");
  if (index.total_size_bytes && *index.total_size_bytes != checkpoint.total_bytes())
    throw bad("/metadata/total_size", "wrong-total-size",
              "the index's total size is not the sum of its tensors")
        .saw(fmt::format("{} bytes", *index.total_size_bytes))
        .want(fmt::format("{} bytes", checkpoint.total_bytes()));
}

}  // namespace

void Checkpoint::add_shard(const std::string& path) {
  InputFile file = open_part(path);
  refuse_foreign_content(file);
  std::vector<std::byte> header(std::min<uint64_t>(8, file.size_bytes()));
  file.read(0, header);
  uint64_t header_bytes = 0;
  for (size_t i = header.size(); i-- > 0;)
    header_bytes = header_bytes << 8 | std::to_integer<uint64_t>(header[i]);
  // Too long or too short is refused by the parser, from the prefix alone.
  if (header.size() == 8 && header_bytes <= kMaxHeaderBytes && header_bytes <= file.size_bytes() - 8) {
    header.resize(8 + header_bytes);
    file.read(8, std::span(header).subspan(8));
  }
  const uint32_t shard = static_cast<uint32_t>(shards_.size());
  for (TensorInfo& tensor : parse_safetensors_header(header, file.size_bytes(), path)) {
    tensor.shard = shard;
    const auto in_map = tensors_.find(tensor.name);
    const auto in_foreign = foreign_tensors_.find(tensor.name);
    if (in_map != tensors_.end() || in_foreign != foreign_tensors_.end()) {
      const uint32_t other = in_map != tensors_.end() ? in_map->second.shard : in_foreign->second.shard;
      throw Error(ErrorKind::integrity, "tensor-in-two-shards", "two shards hold a tensor of the same name")
          .in(path)
          .at(excerpt(tensor.name))
          .saw(fmt::format("also in {}", shards_[other].path()))
          .want("each tensor in one shard")
          .hint("the shards do not belong together: fetch them again from one revision");
    }
    total_bytes_ += tensor.length_bytes;  // below the files' sizes: cannot wrap
    std::string name = tensor.name;
    (tensor.foreign_dtype.empty() ? tensors_ : foreign_tensors_).emplace(std::move(name), std::move(tensor));
  }
  shards_.push_back(std::move(file));
}

Checkpoint Checkpoint::open(const std::string& directory) {
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  const std::string single = (fs::path(directory) / kSingle).string();
  const std::string index_file = (fs::path(directory) / kIndex).string();
  if (exists(single)) {
    checkpoint.add_shard(single);
    return checkpoint;
  }
  if (!exists(index_file)) throw_no_weights(directory);
  open_part(index_file);  // the kinds of damage that reading it would report as a mere failure to open
  const SafetensorsIndex index = parse_safetensors_index(read_file(index_file), index_file);
  std::set<std::string> shards;
  for (const auto& [name, shard] : index.shard_of) shards.insert(shard);
  for (const std::string& shard : shards) {
    const std::string path = (fs::path(directory) / shard).string();
    if (!exists(path))
      throw Error(ErrorKind::not_found, "shard-missing", "a shard that the index names is not there")
          .in(path)
          .at(excerpt(index_file))
          .saw("no file")
          .want(fmt::format("{} shards beside the index", shards.size()))
          .hint("the download is incomplete: fetch the model again");
    checkpoint.add_shard(path);
  }
  check_index(index, index_file, checkpoint);
  return checkpoint;
}

const TensorInfo* Checkpoint::find(const std::string& name) const {
  if (const auto at = tensors_.find(name); at != tensors_.end()) return &at->second;
  const auto foreign = foreign_tensors_.find(name);
  if (foreign == foreign_tensors_.end()) return nullptr;
  throw Error(ErrorKind::unsupported, "unsupported-dtype", "a tensor has a type that we cannot compute with")
      .in(shards_[foreign->second.shard].path())
      .at(excerpt(name))
      .saw(foreign->second.foreign_dtype)
      .want("F32, F16, BF16 or another type that `rhapsode doctor` lists");
}

void Checkpoint::read(const TensorInfo& tensor, uint64_t offset_bytes, std::span<std::byte> out) const {
  const std::optional<uint64_t> end = checked_add(offset_bytes, out.size());
  if (!end || *end > tensor.length_bytes)
    throw Error(ErrorKind::runtime, "read-outside-tensor", "a read reaches outside its tensor")
        .in(shards_[tensor.shard].path())
        .at(excerpt(tensor.name))
        .saw(fmt::format("{} bytes from byte {}", out.size(), offset_bytes))
        .want(fmt::format("within {} bytes", tensor.length_bytes));
  if (const auto held = held_.find(tensor.shard); held != held_.end())
    std::copy_n(held->second.begin() + static_cast<ptrdiff_t>(tensor.offset_bytes + offset_bytes), out.size(),
                out.begin());
  else
    shards_[tensor.shard].read(tensor.offset_bytes + offset_bytes, out);
}

void Checkpoint::read_ahead(const TensorInfo& tensor) const {
  if (!held_.contains(tensor.shard))
    shards_[tensor.shard].read_ahead(tensor.offset_bytes, tensor.length_bytes);
}

void Checkpoint::hold_shard(uint32_t shard) const {
  std::vector<std::byte> bytes(shards_[shard].size_bytes());
  shards_[shard].read(0, bytes);
  held_[shard] = std::move(bytes);
}

void Checkpoint::release_shard(uint32_t shard) const {
  held_.erase(shard);
}

}  // namespace rhapsode
