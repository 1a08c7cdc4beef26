// Token ids in, text out: never half a character, never part of a stop string. The whole of what is emitted
// equals the decoding of all ids at once (up to the stop string). A run of byte-fallback tokens is released
// when it ends: until then a later byte may still turn all of it into replacement characters.
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
  // True once a stop string is complete in the decoded text, special tokens in it included; text() ends
  // before it.
  bool stopped() const { return stopped_; }
  const std::string& stop_string() const { return stop_string_; }
  // All text emitted so far.
  const std::string& text() const { return emitted_; }

 private:
  bool is_byte(uint32_t id) const;
  std::string decode_window(size_t begin, size_t end) const;
  std::string settle(bool at_end);
  void cut_stuck_window();
  std::string release(const std::string& text, bool at_end, bool hidden = false);
  std::string take_visible(size_t bytes);

  const Tokenizer* tokenizer_;
  std::vector<std::string> stop_strings_;
  bool skip_special_;
  // Ids that still matter: context (settled, kept because decoders treat a first token differently), then
  // what follows.
  std::vector<uint32_t> window_;
  size_t taken_bytes_ = 0;  // of the window's text, already passed on
  size_t unsettled_ = 0;    // pushes since the window last shrank
  bool in_byte_run_ = false;
  std::string held_;   // passed on by the decoder, kept back because a stop string may begin in it
  std::string shown_;  // for each byte of held_: whether it is part of the text, or of a special token
  std::string emitted_;
  std::string stop_string_;
  bool stopped_ = false;
};

}  // namespace rhapsode::text
