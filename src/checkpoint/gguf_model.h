// What a GGUF file means to transformers: its config.json, which tensor becomes which, and its tokenizer's
// files. Internal to the import; knows nothing of directories.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/gguf_file.h"

namespace rhapsode::gguf {

// What happens to values on the way, in float32.
enum class Change : uint8_t {
  none,
  unpermute,  // rows of q and k: the file interleaves the two halves of each head
  minus_one,  // norms that the file stores as 1 + weight
};

struct TensorPlan {
  const TensorEntry* source = nullptr;
  std::string name;
  Change change = Change::none;
  uint64_t heads = 0;  // of an unpermuted tensor
};

struct ModelPlan {
  OrderedJson config;
  OrderedJson generation_config;
  std::vector<TensorPlan> tensors;
  std::vector<std::string> notes;  // what the file holds and the checkpoint does not
};
// Throws unsupported for an architecture or type that we cannot import, integrity for a file that contradicts
// itself.
ModelPlan plan_model(const File& file);

struct TokenizerFiles {
  OrderedJson tokenizer;         // tokenizer.json
  OrderedJson tokenizer_config;  // tokenizer_config.json, with the chat template
};
TokenizerFiles build_tokenizer(const File& file);

// Typed access to metadata; a wrong type is an integrity error, as is a missing key of the `required` forms.
std::optional<int64_t> integer(const File& file, const std::string& key);
std::optional<double> number(const File& file, const std::string& key);
std::optional<bool> boolean(const File& file, const std::string& key);
const std::string* text(const File& file, const std::string& key);
const std::vector<std::string>* texts(const File& file, const std::string& key);
const std::vector<int64_t>* integers(const File& file, const std::string& key);
const std::vector<double>* numbers(const File& file, const std::string& key);
Error bad_metadata(const File& file, const std::string& key, std::string message);
// A whole number in [1, 2^31 - 1]: dimensions and counts.
uint64_t required_count(const File& file, const std::string& key);
std::string required_text(const File& file, const std::string& key);

}  // namespace rhapsode::gguf
