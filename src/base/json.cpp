#include "base/json.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <iterator>
#include <unordered_set>
#include <vector>

#include "base/atomic_file.h"
#include "base/input_file.h"

namespace rhapsode {
namespace {

// Length of the well-formed UTF-8 sequence at the start of `bytes`, 0 where there is none.
size_t utf8_length(std::string_view bytes) {
  const auto at = [&](size_t i) { return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u; };
  const auto continues = [&](size_t i) { return (at(i) & 0xc0u) == 0x80u; };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return continues(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    if (!continues(1) || !continues(2)) return 0;
    if ((first == 0xe0 && at(1) < 0xa0) || (first == 0xed && at(1) > 0x9f)) return 0;
    return 3;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    if ((first == 0xf0 && at(1) < 0x90) || (first == 0xf4 && at(1) > 0x8f)) return 0;
    return 4;
  }
  return 0;
}

std::string escaped(std::string_view bytes) {
  std::string out;
  for (size_t i = 0; i < bytes.size();) {
    const size_t n = utf8_length(bytes.substr(i));
    const unsigned char c = static_cast<unsigned char>(bytes[i]);
    // C1 controls (U+0080 to U+009F) move terminals as C0 do.
    const bool control =
        c < 0x20 || c == 0x7f || (n == 2 && c == 0xc2 && static_cast<unsigned char>(bytes[i + 1]) < 0xa0);
    if (n == 0 || control) {
      for (size_t k = 0; k < std::max<size_t>(n, 1); ++k)
        out += fmt::format("\\x{:02x}", static_cast<unsigned char>(bytes[i + k]));
    } else {
      out.append(bytes.substr(i, n));
    }
    i += std::max<size_t>(n, 1);
  }
  return out;
}

// Hands characters to the lexer and remembers how far it is: the parser's events carry no position.
class CountingIterator {
 public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** reached) : at_(at), reached_(reached) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    *reached_ = ++at_;
    return *this;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** reached_;
};

// The keys of one object. Most have a handful; only large ones pay for hashing.
class KeySet {
 public:
  bool insert(const std::string& key) {
    if (many_.empty() && few_.size() < 16) {
      if (std::find(few_.begin(), few_.end(), key) != few_.end()) return false;
      few_.push_back(key);
      return true;
    }
    if (many_.empty()) many_.insert(few_.begin(), few_.end());
    return many_.insert(key).second;
  }

 private:
  std::vector<std::string> few_;
  std::unordered_set<std::string> many_;
};

// Applies the rules for untrusted text to nlohmann's events and passes them on.
class Guard {
 public:
  Guard(std::string_view text, const JsonSource& source, JsonEvents& events)
      : text_(text), source_(source), events_(events), reached_(text.data()) {
    scan_.pointer = [this] { return pointer(); };
    scan_.offset_bytes = [this] { return token_start(); };
  }

  const char** reached() { return &reached_; }

  bool null() {
    return value([&] { events_.null(scan_); });
  }
  bool boolean(bool v) {
    return value([&] { events_.boolean(scan_, v); });
  }
  bool number_integer(int64_t v) {
    return value([&] { events_.negative_integer(scan_, v); });
  }
  bool number_unsigned(uint64_t v) {
    return value([&] { events_.unsigned_integer(scan_, v); });
  }
  bool number_float(double v, const std::string&) {
    return value([&] { events_.real(scan_, v); });
  }
  bool string(std::string& v) {
    return value([&] { events_.string(scan_, v); });
  }
  bool binary(nlohmann::json::binary_t&) { return false; }  // never sent for text
  bool start_object(size_t) {
    open(true);
    events_.begin_object(scan_);
    return true;
  }
  bool key(std::string& v) {
    Level& level = levels_.back();
    level.key = v;
    if (!level.keys.insert(v))
      fail("duplicate-key", "an object has the same key twice", token_start(),
           fmt::format("\"{}\"", excerpt(v)), "each key once");
    events_.key(scan_, v);
    return true;
  }
  bool end_object() {
    levels_.pop_back();
    events_.end_object(scan_);
    return true;
  }
  bool start_array(size_t) {
    open(false);
    events_.begin_array(scan_);
    return true;
  }
  bool end_array() {
    levels_.pop_back();
    events_.end_array(scan_);
    return true;
  }
  bool parse_error(size_t position, const std::string& token, const nlohmann::json::exception& problem) {
    std::string what = problem.what();
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error …; last read: '…';
    // expected …"
    const size_t reason = what.find(": ");
    std::string message = reason == std::string::npos ? what : what.substr(reason + 2);
    if (problem.id == 406) message = "a number is not finite";
    const size_t last_read = message.find("; last read: ");
    const size_t expected = message.rfind("; expected ");
    std::string wanted = expected == std::string::npos ? "valid JSON" : message.substr(expected + 11);
    fail("bad-json", excerpt(message.substr(0, std::min(last_read, expected)), 200),
         position > 0 ? position - 1 : 0, position > text_.size() ? "the end of the text" : excerpt(token),
         excerpt(wanted));
  }

  [[noreturn]] void fail(const char* code, std::string message, uint64_t offset, std::string found,
                         std::string wanted) const {
    const uint64_t at = std::min<uint64_t>(offset, text_.size());
    Error error(source_.kind, code, std::move(message));
    if (source_.in_binary_file) {
      error.in(source_.file);
      found += fmt::format(" at byte {} of the file", source_.file_offset_bytes + at);
    } else {
      const std::string_view before = text_.substr(0, at);
      const uint64_t line = static_cast<uint64_t>(std::count(before.begin(), before.end(), '\n')) + 1;
      const size_t newline = before.rfind('\n');
      error.in(source_.file, line, at - (newline == std::string_view::npos ? 0 : newline + 1) + 1);
    }
    throw error.at(pointer()).saw(std::move(found)).want(std::move(wanted));
  }

 private:
  struct Level {
    bool object = false;
    uint64_t index = 0;
    std::string key;
    KeySet keys;
  };

  template <typename Send>
  bool value(Send send) {
    count();
    send();
    return true;
  }
  void count() {
    if (!levels_.empty() && !levels_.back().object) ++levels_.back().index;
  }
  void open(bool object) {
    count();
    if (levels_.size() >= source_.limits.max_depth)
      fail("bad-json", "the text is nested too deeply", token_start(),
           fmt::format("more than {} levels", levels_.size()),
           fmt::format("at most {} levels", source_.limits.max_depth));
    levels_.emplace_back().object = object;
  }

  std::string pointer() const {
    std::string out;
    for (const Level& level : levels_) {
      if (!level.object) {
        if (level.index > 0) out += fmt::format("/{}", level.index - 1);
        continue;
      }
      if (level.key.empty() && &level == &levels_.back()) continue;
      out += '/';
      for (const char c : excerpt(level.key)) {
        if (c == '~')
          out += "~0";
        else if (c == '/')
          out += "~1";
        else
          out += c;
      }
    }
    return out.empty() ? "/" : out;
  }

  // The lexer stands behind the token it reported. A string is walked back to its opening quote; other tokens
  // are short.
  uint64_t token_start() const {
    const uint64_t end = static_cast<uint64_t>(reached_ - text_.data());
    if (end == 0) return 0;
    uint64_t at = end - 1;
    if (text_[at] != '"') return at;
    while (at > 0) {
      --at;
      if (text_[at] != '"') continue;
      uint64_t slashes = 0;
      while (slashes < at && text_[at - 1 - slashes] == '\\') ++slashes;
      if (slashes % 2 == 0) return at;
    }
    return 0;
  }

  std::string_view text_;
  const JsonSource& source_;
  JsonEvents& events_;
  JsonScan scan_;
  const char* reached_;
  std::vector<Level> levels_;
};

// Builds the tree. Duplicate keys never arrive here.
class TreeBuilder : public JsonEvents {
 public:
  Json take() { return std::move(root_); }
  void null(const JsonScan&) override { place(nullptr); }
  void boolean(const JsonScan&, bool v) override { place(v); }
  void unsigned_integer(const JsonScan&, uint64_t v) override { place(v); }
  void negative_integer(const JsonScan&, int64_t v) override { place(v); }
  void real(const JsonScan&, double v) override { place(v); }
  void string(const JsonScan&, std::string& v) override { place(std::move(v)); }
  void key(const JsonScan&, std::string& v) override { key_ = std::move(v); }
  void begin_object(const JsonScan&) override { open_.push_back(place(Json::object())); }
  void begin_array(const JsonScan&) override { open_.push_back(place(Json::array())); }
  void end_object(const JsonScan&) override { open_.pop_back(); }
  void end_array(const JsonScan&) override { open_.pop_back(); }

 private:
  Json* place(Json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    Json& parent = *open_.back();
    if (!parent.is_array()) return &(parent[std::move(key_)] = std::move(value));
    parent.push_back(std::move(value));
    return &parent.back();
  }

  Json root_;
  std::string key_;
  std::vector<Json*>
      open_;  // a child's address is stable while it is open: its parent grows only after it closes
};

}  // namespace

bool is_utf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t n = utf8_length(bytes);
    if (n == 0) return false;
    bytes.remove_prefix(n);
  }
  return true;
}

std::string excerpt(std::string_view bytes, size_t max_bytes) {
  if (bytes.size() <= max_bytes) return escaped(bytes);
  size_t head = max_bytes / 2;
  size_t tail = bytes.size() - max_bytes / 2;
  const auto inside = [&](size_t i) { return (static_cast<unsigned char>(bytes[i]) & 0xc0u) == 0x80u; };
  for (int back = 0; back < 3 && head > 0 && inside(head); ++back) --head;  // cut between characters
  for (int on = 0; on < 3 && tail < bytes.size() && inside(tail); ++on) ++tail;
  return escaped(bytes.substr(0, head)) + fmt::format("…({} bytes)…", tail - head) +
         escaped(bytes.substr(tail));
}

void scan_json(std::string_view text, const JsonSource& source, JsonEvents& events) {
  Guard guard(text, source, events);
  if (text.size() > source.limits.max_bytes)
    guard.fail("bad-json", "the text is too long", 0, fmt::format("{} bytes", text.size()),
               fmt::format("at most {} bytes", source.limits.max_bytes));
  if (text.starts_with("\xef\xbb\xbf"))
    guard.fail("bad-json", "the text starts with a byte order mark", 0, "a byte order mark", "plain UTF-8");
  // The lexer takes a NUL byte for the end of the text and would not see what stands behind it.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos)
    guard.fail("bad-json", "the text holds a NUL byte", nul, "\\x00", "valid JSON");
  const CountingIterator first(text.data(), guard.reached());
  const CountingIterator last(text.data() + text.size(), guard.reached());
  Json::sax_parse(first, last, &guard);
}

Json parse_json(std::string_view text, const std::string& file, ErrorKind kind, const JsonLimits& limits) {
  TreeBuilder tree;
  scan_json(text, {.file = file, .kind = kind, .limits = limits}, tree);
  return tree.take();
}

Json read_json_file(const std::string& file, ErrorKind kind, const JsonLimits& limits) {
  return parse_json(read_file(file, limits.max_bytes), file, kind, limits);
}

std::string read_file(const std::string& file, uint64_t max_bytes) {
  const InputFile input(file);
  if (input.size_bytes() > max_bytes)
    throw Error(ErrorKind::runtime, "file-too-large", "the file is larger than this kind of file may be")
        .in(file)
        .saw(fmt::format("{} bytes", input.size_bytes()))
        .want(fmt::format("at most {} bytes", max_bytes));
  std::string bytes(input.size_bytes(), '\0');
  input.read(0, std::as_writable_bytes(std::span(bytes.data(), bytes.size())));
  return bytes;
}

void write_file_atomically(const std::string& file, std::string_view bytes) {
  AtomicFile out(file);
  out.append(std::as_bytes(std::span(bytes.data(), bytes.size())));
  out.commit();
}

}  // namespace rhapsode
