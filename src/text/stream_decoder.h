// Token ids in, text out: never half a character, never part of a stop string. The whole of what is emitted equals the
// decoding of all ids at once (up to the stop string).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace rhapsode::text {

class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, std::vector<std::string> stop_strings, bool skip_special = true);

  // Text that is final after this id. Empty while characters or possible stop strings are incomplete.
  std::string push(uint32_t id);
  // What was held back, at the end of generation. Nothing more of a stop string that was completed.
  std::string finish();
  // True once a stop string is complete in the decoded text; text() ends before it.
  bool stopped() const { return stopped_; }
  const std::string& stop_string() const { return stop_string_; }
  // All text emitted so far.
  const std::string& text() const { return emitted_; }

 private:
  const Tokenizer* tokenizer_;
  std::vector<std::string> stop_strings_;
  bool skip_special_;
  std::vector<uint32_t> ids_;
  std::string emitted_;
  std::string stop_string_;
  bool stopped_ = false;
  size_t prefix_index_ = 0;  // ids before it are settled
  size_t read_index_ = 0;
  std::string pending_;
};

}  // namespace rhapsode::text
