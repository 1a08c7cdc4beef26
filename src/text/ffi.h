// The C ABI of text-ffi, declared by hand, and the few lines that turn its answers into C++. Private to
// src/text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "text/tokenizer.h"

extern "C" {
struct RhText {
  const uint8_t* data;
  size_t size;
};
struct RhBytes {
  uint8_t* data;
  size_t size;
  size_t capacity;
};
struct RhTokenizer;

void rh_bytes_free(RhBytes bytes);
int32_t rh_tokenizer_load(RhText json, RhText settings, RhTokenizer** out, RhBytes* error);
void rh_tokenizer_free(RhTokenizer* tokenizer);
int32_t rh_tokenizer_facts(const RhTokenizer* tokenizer, RhBytes* out, RhBytes* error);
int32_t rh_encode(const RhTokenizer* tokenizer, RhText text, bool parse_special, bool add_special,
                  RhBytes* out, RhBytes* error);
int32_t rh_decode(const RhTokenizer* tokenizer, const uint32_t* ids, size_t count, bool skip_special,
                  RhBytes* out, RhBytes* error);
int32_t rh_id_of(const RhTokenizer* tokenizer, RhText token, uint32_t* id);
int32_t rh_token_of(const RhTokenizer* tokenizer, uint32_t id, RhBytes* out);
int32_t rh_template_check(RhText source, RhBytes* error);
int32_t rh_template_render(RhText source, RhText input, RhBytes* out, RhBytes* error);
int32_t rh_chat_encode(const RhTokenizer* tokenizer, RhText source, RhText input, RhBytes* rendered,
                       RhBytes* out, RhBytes* error);
}

namespace rhapsode::text {

// Bytes that the crate allocated; given back when this goes.
class OwnedBytes {
 public:
  OwnedBytes() = default;
  ~OwnedBytes() { rh_bytes_free(bytes_); }
  OwnedBytes(const OwnedBytes&) = delete;
  OwnedBytes& operator=(const OwnedBytes&) = delete;
  RhBytes* out() { return &bytes_; }
  std::string_view view() const { return {reinterpret_cast<const char*>(bytes_.data), bytes_.size}; }

 private:
  RhBytes bytes_{nullptr, 0, 0};
};

inline RhText as_text(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// Throws the Error that the crate described, in `file`.
[[noreturn]] void throw_described(std::string_view description, const std::string& file);
// The packed answer of rh_encode and rh_chat_encode.
Encoding unpack_encoding(std::string_view packed);

}  // namespace rhapsode::text
