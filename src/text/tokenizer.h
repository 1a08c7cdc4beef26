// Text to token ids and back: the C++ face of text-ffi (Hugging Face tokenizers). Knows tokenizer.json and
// tokenizer_config.json, nothing of models.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rhapsode::text {

struct Encoding {
  std::vector<uint32_t> ids;
  std::vector<std::string> tokens;                     // as the vocabulary spells them
  std::vector<std::pair<uint64_t, uint64_t>> offsets;  // bytes of the text, [begin, end)
};

struct EncodeOptions {
  bool parse_special = false;  // special tokens in the text become their ids; else they are plain text
  bool add_special = false;    // the post-processor adds bos and the like
};

class Tokenizer {
 public:
  // Reads tokenizer.json (and tokenizer_config.json where there is one) in `directory`. Malformed: integrity.
  static Tokenizer load(const std::string& directory);
  // From the bytes of a tokenizer.json; `file` only names it in errors. The fuzz target.
  static Tokenizer from_bytes(std::string_view tokenizer_json, const std::string& file);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  Encoding encode(std::string_view text, const EncodeOptions& options) const;
  // skip_special drops special tokens. Bytes that are no UTF-8 become U+FFFD, as in transformers. Unknown
  // ids: usage.
  std::string decode(std::span<const uint32_t> ids, bool skip_special) const;

  uint64_t vocab_size() const;  // added tokens included
  std::optional<uint32_t> id_of(std::string_view token) const;
  std::optional<std::string> token_of(uint32_t id) const;
  bool is_special(uint32_t id) const;
  // Named tokens of tokenizer_config.json / special_tokens_map.json ("bos_token", "eos_token", "pad_token",
  // …).
  std::optional<std::string> named_token(const std::string& name) const;
  std::optional<uint32_t> named_token_id(const std::string& name) const;

 private:
  Tokenizer();
  struct Impl;
  std::unique_ptr<Impl> impl_;
  friend class ChatTemplate;
  friend struct Loader;
};

}  // namespace rhapsode::text
