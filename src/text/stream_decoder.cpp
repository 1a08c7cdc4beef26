// Decides which text is final. Decodes a short window of ids again at each push, never the whole: O(n) in
// total.
#include "text/stream_decoder.h"

#include <algorithm>

#include "base/error.h"

namespace rhapsode::text {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
// A window that could not shrink for so many pushes is cut where decoding both parts equals decoding the
// whole.
constexpr size_t kStuckPushes = 32;
constexpr size_t kTailTokens = 8;

// Length of the longest end of `text` that begins one of the stop strings.
size_t held_length(const std::string& text, const std::vector<std::string>& stops) {
  size_t longest = 0;
  for (const std::string& stop : stops) {
    const size_t most = std::min(text.size(), stop.size() - 1);
    for (size_t n = most; n > longest; --n) {
      if (text.compare(text.size() - n, n, stop, 0, n) == 0) longest = n;
    }
  }
  return longest;
}

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, std::vector<std::string> stop_strings,
                             bool skip_special)
    : tokenizer_(&tokenizer), stop_strings_(std::move(stop_strings)), skip_special_(skip_special) {
  for (const std::string& stop : stop_strings_) {
    if (stop.empty())
      throw Error(ErrorKind::usage, "empty-stop-string", "a stop string is empty")
          .want("at least one character");
  }
}

// <0x00> … <0xFF>, the pieces of byte fallback.
bool StreamDecoder::is_byte(uint32_t id) const {
  const auto token = tokenizer_->token_of(id);
  return token && token->size() == 6 && token->compare(0, 3, "<0x") == 0 && token->back() == '>';
}

std::string StreamDecoder::decode_window(size_t begin, size_t end) const {
  return tokenizer_->decode(std::span<const uint32_t>(window_).subspan(begin, end - begin), false);
}

std::string StreamDecoder::push(uint32_t id) {
  if (stopped_) return {};
  if (!tokenizer_->token_of(id))
    tokenizer_->decode(std::span<const uint32_t>(&id, 1), false);  // throws: unknown id
  if (skip_special_ && tokenizer_->is_special(id))
    return stop_strings_.empty() ? std::string() : release(*tokenizer_->token_of(id), false, true);
  window_.push_back(id);
  in_byte_run_ = is_byte(id);
  if (in_byte_run_) return {};
  return release(settle(false), false);
}

std::string StreamDecoder::finish() {
  if (stopped_) return {};
  return release(window_.empty() ? std::string() : settle(true), true);
}

// The text that became final: all of the window's but a last character that may be half.
std::string StreamDecoder::settle(bool at_end) {
  const std::string text = decode_window(0, window_.size());
  const bool half = !at_end && text.ends_with(kReplacement);
  const size_t final_bytes = text.size() - (half ? kReplacement.size() : 0);
  if (final_bytes < taken_bytes_) return {};
  std::string fresh = text.substr(taken_bytes_, final_bytes - taken_bytes_);
  taken_bytes_ = final_bytes;
  if (!half && !at_end) {
    window_.erase(window_.begin(), window_.end() - 1);
    taken_bytes_ = decode_window(0, 1).size();
    unsettled_ = 0;
  } else if (++unsettled_ % kStuckPushes == 0) {
    cut_stuck_window();
  }
  return fresh;
}

void StreamDecoder::cut_stuck_window() {
  const size_t size = window_.size();
  const std::string whole = decode_window(0, size);
  for (size_t cut = size - kTailTokens; cut > size - 2 * kTailTokens && cut > 0; --cut) {
    const std::string front = decode_window(0, cut);
    if (front.size() > taken_bytes_ || front + decode_window(cut, size) != whole) continue;
    window_.erase(window_.begin(), window_.begin() + static_cast<std::ptrdiff_t>(cut));
    taken_bytes_ -= front.size();
    return;
  }
}

// Takes so many bytes from the front of what is held: those of special tokens go unseen.
std::string StreamDecoder::take_visible(size_t bytes) {
  std::string out;
  for (size_t i = 0; i < bytes; ++i)
    if (shown_[i] != '\0') out += held_[i];
  held_.erase(0, bytes);
  shown_.erase(0, bytes);
  return out;
}

// Looks for stop strings; the one that is complete first wins, of those the longest.
std::string StreamDecoder::release(const std::string& text, bool at_end, bool hidden) {
  held_ += text;
  shown_.append(text.size(), hidden ? '\0' : '\1');
  size_t end = std::string::npos;
  for (const std::string& stop : stop_strings_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const size_t stop_end = at + stop.size();
    if (stop_end > end || (stop_end == end && stop.size() <= stop_string_.size())) continue;
    end = stop_end;
    stop_string_ = stop;
  }
  std::string out;
  if (end != std::string::npos) {
    stopped_ = true;
    out = take_visible(end - stop_string_.size());
    held_.clear();
  } else {
    const size_t kept = at_end ? 0 : held_length(held_, stop_strings_);
    out = take_visible(held_.size() - kept);
  }
  emitted_ += out;
  return out;
}

}  // namespace rhapsode::text
