// What a Tokenizer holds, for the files of src/text that share it.
#pragma once

#include <map>
#include <string>
#include <unordered_set>

#include "text/ffi.h"
#include "text/tokenizer.h"

namespace rhapsode::text {

struct Tokenizer::Impl {
  Impl() = default;
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  RhTokenizer* handle = nullptr;
  std::string file;
  uint64_t vocab_size = 0;
  std::unordered_set<uint32_t> special_ids;
  std::map<std::string, std::string> named;
};

}  // namespace rhapsode::text
