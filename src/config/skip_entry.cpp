// See skip_entry.h. A pattern is run on sets of positions, never back and forth: no entry takes longer than
// its length times that of the name.
#include "config/skip_entry.h"

#include <bitset>
#include <vector>

namespace rhapsode::config {
namespace {

constexpr uint32_t kUnlimited = UINT32_MAX;
constexpr uint32_t kMostRepeats = 1000;
constexpr uint32_t kMostNesting = 16;

using Positions = std::vector<bool>;  // one for each byte of the name, and its end

struct Node;
using Sequence = std::vector<Node>;

struct Node {
  enum class Kind : uint8_t { bytes, group, begin, end } kind = Kind::bytes;
  std::bitset<256> bytes;
  std::vector<Sequence> choices;  // of a group
  uint32_t least = 1, most = 1;
};

struct Problem {
  std::string what;
};

std::bitset<256> range(unsigned char first, unsigned char last) {
  std::bitset<256> set;
  for (unsigned byte = first; byte <= last; ++byte) set.set(byte);
  return set;
}

// \d, \w, \s and their opposites; nullopt for other letters.
std::optional<std::bitset<256>> named_class(char letter) {
  const std::bitset<256> digits = range('0', '9');
  std::bitset<256> words = digits | range('a', 'z') | range('A', 'Z');
  words.set('_');
  std::bitset<256> spaces = range('\t', '\r');
  spaces.set(' ');
  switch (letter) {
    case 'd':
      return digits;
    case 'D':
      return ~digits;
    case 'w':
      return words;
    case 'W':
      return ~words;
    case 's':
      return spaces;
    case 'S':
      return ~spaces;
    default:
      return std::nullopt;
  }
}

class Parser {
 public:
  explicit Parser(const std::string& text) : text_(text) {}

  std::vector<Sequence> parse() {
    std::vector<Sequence> choices = alternatives(0);
    if (at_ < text_.size()) throw Problem{"a ) closes nothing"};
    return choices;
  }

 private:
  bool more() const { return at_ < text_.size(); }
  char peek() const { return text_[at_]; }
  char next() { return text_[at_++]; }
  bool take(char c) {
    if (!more() || peek() != c) return false;
    ++at_;
    return true;
  }

  std::vector<Sequence> alternatives(uint32_t depth) {
    if (depth > kMostNesting) throw Problem{"groups are nested too deeply"};
    std::vector<Sequence> choices(1);
    while (more() && peek() != ')') {
      if (take('|')) {
        choices.emplace_back();
        continue;
      }
      Node node = atom(depth);
      repeats(node);
      choices.back().push_back(std::move(node));
    }
    return choices;
  }

  Node atom(uint32_t depth) {
    Node node;
    const char c = next();
    switch (c) {
      case '^':
        node.kind = Node::Kind::begin;
        return node;
      case '$':
        node.kind = Node::Kind::end;
        return node;
      case '.':
        node.bytes = ~std::bitset<256>();
        node.bytes.reset('\n');
        return node;
      case '[':
        node.bytes = set();
        return node;
      case '(':
        return group(depth);
      case '\\':
        node.bytes = escape();
        return node;
      case '*':
      case '+':
      case '?':
        throw Problem{std::string(1, c) + " repeats nothing"};
      default:
        node.bytes.set(static_cast<unsigned char>(c));
        return node;
    }
  }

  Node group(uint32_t depth) {
    Node node;
    node.kind = Node::Kind::group;
    if (take('?') && !take(':')) throw Problem{"a group that begins with (? is not built, but for (?:"};
    node.choices = alternatives(depth + 1);
    if (!take(')')) throw Problem{"a ( is not closed"};
    return node;
  }

  std::bitset<256> escape() {
    if (!more()) throw Problem{"a \\ escapes nothing"};
    const char c = next();
    if (const auto named = named_class(c)) return *named;
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter) throw Problem{std::string("\\") + c + " is not built"};
    return std::bitset<256>().set(static_cast<unsigned char>(c));
  }

  std::bitset<256> set() {
    std::bitset<256> bytes;
    const bool negated = take('^');
    for (bool first = true; first || !more() || peek() != ']'; first = false) {
      if (!more()) throw Problem{"a [ is not closed"};
      const char low = next();
      if (low == '\\') {
        bytes |= escape();
        continue;
      }
      if (at_ + 1 < text_.size() && peek() == '-' && text_[at_ + 1] != ']') {
        ++at_;
        const char high = next();
        if (high == '\\' || static_cast<unsigned char>(high) < static_cast<unsigned char>(low))
          throw Problem{"a range in [ ] runs backwards"};
        bytes |= range(static_cast<unsigned char>(low), static_cast<unsigned char>(high));
      } else {
        bytes.set(static_cast<unsigned char>(low));
      }
    }
    ++at_;
    return negated ? ~bytes : bytes;
  }

  void repeats(Node& node) {
    if (!more()) return;
    if (take('*'))
      node.least = 0, node.most = kUnlimited;
    else if (take('+'))
      node.most = kUnlimited;
    else if (take('?'))
      node.least = 0;
    else if (peek() != '{' || !counted(node))
      return;
    take('?');  // the shortest first: the same ends
    if (more() && (peek() == '+' || peek() == '*' || peek() == '{'))
      throw Problem{"a repeat of a repeat is not built"};
  }

  // {2}, {2,}, {,3} or {2,3}; other braces stand for themselves, as in Python.
  bool counted(Node& node) {
    const size_t close = text_.find('}', at_);
    if (close == std::string::npos) return false;
    const std::string inside = text_.substr(at_ + 1, close - at_ - 1);
    if (inside.empty() || inside == "," || inside.find_first_not_of("0123456789,") != std::string::npos)
      return false;
    const size_t comma = inside.find(',');
    if (comma != inside.rfind(',')) return false;
    const std::string low = inside.substr(0, comma);
    const std::string high = comma == std::string::npos ? low : inside.substr(comma + 1);
    if (low.size() > 4 || high.size() > 4) throw Problem{"a pattern repeats too often"};
    node.least = low.empty() ? 0 : static_cast<uint32_t>(std::stoul(low));
    node.most = high.empty() ? kUnlimited : static_cast<uint32_t>(std::stoul(high));
    if (node.least > kMostRepeats || (node.most != kUnlimited && node.most > kMostRepeats))
      throw Problem{"a pattern repeats too often"};
    if (node.most < node.least) throw Problem{"a repeat has its largest count before its smallest"};
    at_ = close + 1;
    return true;
  }

  const std::string& text_;
  size_t at_ = 0;
};

Positions ends_of(const std::vector<Sequence>& choices, const std::string& name, const Positions& starts);

// Where one repeat of the node may end.
Positions step(const Node& node, const std::string& name, const Positions& starts) {
  if (node.kind == Node::Kind::group) return ends_of(node.choices, name, starts);
  Positions ends(starts.size());
  for (size_t at = 0; at < starts.size(); ++at) {
    if (!starts[at]) continue;
    if (node.kind == Node::Kind::begin)
      ends[at] = ends[at] || at == 0;
    else if (node.kind == Node::Kind::end)
      ends[at] = ends[at] || at == name.size();
    else if (at < name.size() && node.bytes[static_cast<unsigned char>(name[at])])
      ends[at + 1] = true;
  }
  return ends;
}

Positions repeat(const Node& node, const std::string& name, Positions starts) {
  for (uint32_t i = 0; i < node.least; ++i) starts = step(node, name, starts);
  Positions ends = starts;
  for (uint32_t i = node.least; i < node.most; ++i) {
    Positions fresh = step(node, name, starts);
    bool any = false;
    for (size_t at = 0; at < ends.size(); ++at) {
      fresh[at] = fresh[at] && !ends[at];
      if (fresh[at]) ends[at] = any = true;
    }
    if (!any) break;
    starts = std::move(fresh);
  }
  return ends;
}

Positions ends_of(const std::vector<Sequence>& choices, const std::string& name, const Positions& starts) {
  Positions ends(starts.size());
  for (const Sequence& sequence : choices) {
    Positions at = starts;
    for (const Node& node : sequence) at = repeat(node, name, std::move(at));
    for (size_t i = 0; i < ends.size(); ++i) ends[i] = ends[i] || at[i];
  }
  return ends;
}

}  // namespace

std::optional<std::string> skip_entry_problem(const std::string& entry) {
  try {
    Parser(entry).parse();
  } catch (const Problem& problem) {
    return problem.what;
  }
  return std::nullopt;
}

bool skip_matches(const std::string& entry, const std::string& module) {
  if (module.ends_with(entry)) return true;
  std::vector<Sequence> choices;
  try {
    choices = Parser(entry).parse();
  } catch (const Problem&) {
    return false;
  }
  Positions start(module.size() + 1);
  start[0] = true;
  const Positions ends = ends_of(choices, module, start);
  for (size_t at = 0; at < ends.size(); ++at)
    if (ends[at] && (at == module.size() || module[at] == '.' || (at > 0 && module[at - 1] == '.')))
      return true;
  return false;
}

}  // namespace rhapsode::config
