#include "cli/yaml_edit.h"

#include <fmt/format.h>

#include <optional>

#include "base/error.h"

namespace rhapsode::cli {
namespace {

using Lines = std::vector<std::string>;

struct Block {  // lines [begin, end) that hold the members of a mapping
  size_t begin;
  size_t end;
};

struct Member {
  size_t line;
  size_t indent;
  size_t value_at;  // offset behind the colon
  std::string key;
};

size_t indent_of(const std::string& line) {
  return line.find_first_not_of(' ');
}

bool is_silent(const std::string& line) {
  const size_t first = line.find_first_not_of(" \t\r");
  return first == std::string::npos || line[first] == '#' || line.starts_with("---") || line.starts_with("%");
}

std::optional<Member> member_at(const Lines& lines, size_t index) {
  const std::string& line = lines[index];
  if (is_silent(line)) return std::nullopt;
  const size_t indent = indent_of(line);
  const char quote = line[indent] == '"' || line[indent] == '\'' ? line[indent] : '\0';
  size_t colon = std::string::npos;
  std::string key;
  if (quote != '\0') {
    const size_t close = line.find(quote, indent + 1);
    if (close == std::string::npos) return std::nullopt;
    key = line.substr(indent + 1, close - indent - 1);
    colon = line.find(':', close);
  } else {
    for (size_t i = indent; i < line.size() && colon == std::string::npos; ++i)
      if (line[i] == ':' && (i + 1 == line.size() || line[i + 1] == ' ' || line[i + 1] == '\r')) colon = i;
    if (colon == std::string::npos) return std::nullopt;
    key = line.substr(indent, line.find_last_not_of(' ', colon - 1) + 1 - indent);
  }
  if (colon == std::string::npos) return std::nullopt;
  return Member{index, indent, colon + 1, key};
}

std::optional<size_t> member_indent(const Lines& lines, Block block) {
  for (size_t i = block.begin; i < block.end; ++i)
    if (!is_silent(lines[i])) return indent_of(lines[i]);
  return std::nullopt;
}

std::optional<Member> find_member(const Lines& lines, Block block, const std::string& key) {
  const std::optional<size_t> indent = member_indent(lines, block);
  for (size_t i = block.begin; indent && i < block.end; ++i) {
    const std::optional<Member> member = member_at(lines, i);
    if (member && member->indent == *indent && member->key == key) return member;
  }
  return std::nullopt;
}

// The lines below a member's own that belong to its value; blank lines and comments at the end stay with what
// follows.
Block value_block(const Lines& lines, Block outer, const Member& member) {
  size_t end = member.line + 1;
  for (size_t i = end; i < outer.end; ++i) {
    if (is_silent(lines[i])) continue;
    const size_t indent = indent_of(lines[i]);
    const bool item = indent == member.indent && lines[i].compare(indent, 2, "- ") == 0;
    if (indent <= member.indent && !item) break;
    end = i + 1;
  }
  return {member.line + 1, end};
}

// What stands on the member's own line, without a comment.
std::string inline_value(const std::string& line, size_t at) {
  std::string value = line.substr(at);
  if (const size_t comment = value.find(" #"); comment != std::string::npos) value.resize(comment);
  const size_t first = value.find_first_not_of(" \r");
  return first == std::string::npos ? "" : value.substr(first);
}

std::string nested(const YamlEdit& edit, size_t from) {
  std::string value = edit.value;
  for (size_t i = edit.path.size(); i-- > from;) value = fmt::format("{{{}: {}}}", edit.path[i], value);
  return value;
}

// A mapping in flow style that ends on its own line: {key: value, "key": {…}}.
class FlowMapping {
 public:
  struct Pair {
    std::string key;
    size_t value_at, value_end;  // offsets in the line, blanks around the value left out
  };

  // `open` is the place of its brace. nullopt where it does not end on this line or cannot be told apart.
  static std::optional<FlowMapping> read(const std::string& line, size_t open) {
    FlowMapping mapping;
    for (size_t at = open + 1; at < line.size();) {
      at = line.find_first_not_of(' ', at);
      if (at == std::string::npos) break;
      if (line[at] == '}') {
        mapping.close_ = at;
        return mapping;
      }
      const size_t end = item_end(line, at);
      const size_t colon = key_end(line, at, end);
      if (end == std::string::npos || colon == std::string::npos) return std::nullopt;
      const size_t value_at = std::min(line.find_first_not_of(' ', colon + 1), end);
      const size_t value_end = std::max(line.find_last_not_of(' ', end - 1) + 1, value_at);
      mapping.pairs.push_back({bare(line.substr(at, colon - at)), value_at, value_end});
      at = line[end] == ',' ? end + 1 : end;
    }
    return std::nullopt;
  }

  size_t close() const { return close_; }
  std::vector<Pair> pairs;

 private:
  // Behind a quoted text, or the same place.
  static size_t behind_quotes(const std::string& line, size_t at) {
    if (line[at] != '"' && line[at] != '\'') return at;
    for (size_t i = at + 1; i < line.size(); ++i) {
      if (line[at] == '"' && line[i] == '\\')
        ++i;
      else if (line[i] == line[at])
        return i + 1;
    }
    return std::string::npos;
  }

  // The comma or brace behind the item.
  static size_t item_end(const std::string& line, size_t at) {
    size_t depth = 0;
    while (at < line.size()) {
      const size_t behind = behind_quotes(line, at);
      if (behind == std::string::npos) return behind;
      if (behind > at) {
        at = behind;
        continue;
      }
      const char c = line[at];
      if (depth == 0 && (c == ',' || c == '}')) return at;
      if (c == '{' || c == '[') ++depth;
      if (c == '}' || c == ']') --depth;
      if (c == '#' && line[at - 1] == ' ') return std::string::npos;
      ++at;
    }
    return std::string::npos;
  }

  static size_t key_end(const std::string& line, size_t at, size_t end) {
    if (end == std::string::npos) return end;
    const size_t colon = line.find(':', behind_quotes(line, at));
    return colon < end ? colon : std::string::npos;
  }

  static std::string bare(std::string key) {
    while (!key.empty() && key.back() == ' ') key.pop_back();
    const bool quoted = key.size() > 1 && (key[0] == '"' || key[0] == '\'') && key.back() == key[0];
    return quoted ? key.substr(1, key.size() - 2) : key;
  }

  size_t close_ = 0;
};

// False where the mapping at `open` is not one that can be changed here.
bool edit_flow(std::string& line, size_t open, const YamlEdit& edit, size_t depth) {
  const std::optional<FlowMapping> mapping = FlowMapping::read(line, open);
  if (!mapping) return false;
  const bool last = depth + 1 == edit.path.size();
  for (const std::string& key : {edit.path[depth], last ? edit.other_name : std::string()})
    for (const FlowMapping::Pair& pair : mapping->pairs) {
      if (key.empty() || pair.key != key) continue;
      if (!last && line[pair.value_at] == '{') return edit_flow(line, pair.value_at, edit, depth + 1);
      line.replace(pair.value_at, pair.value_end - pair.value_at, nested(edit, depth + 1));
      return true;
    }
  line.insert(mapping->close(), fmt::format("{}{}: {}", mapping->pairs.empty() ? "" : ", ", edit.path[depth],
                                            nested(edit, depth + 1)));
  return true;
}

void insert_member(Lines& lines, Block block, size_t parent_indent, const YamlEdit& edit, size_t depth) {
  const size_t indent = member_indent(lines, block).value_or(parent_indent + 2);
  lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(block.end),
               fmt::format("{}{}: {}", std::string(indent, ' '), edit.path[depth], nested(edit, depth + 1)));
}

void replace_value(Lines& lines, Block outer, const Member& member, const std::string& value) {
  const Block old = value_block(lines, outer, member);
  lines.erase(lines.begin() + static_cast<std::ptrdiff_t>(old.begin),
              lines.begin() + static_cast<std::ptrdiff_t>(old.end));
  std::string& line = lines[member.line];
  line = line.substr(0, member.value_at) + " " + value;
}

void apply(Lines& lines, const YamlEdit& edit, const std::string& file) {
  Block block{0, lines.size()};
  size_t parent_indent = 0;
  for (size_t depth = 0; depth < edit.path.size(); ++depth) {
    const bool last = depth + 1 == edit.path.size();
    std::optional<Member> member = find_member(lines, block, edit.path[depth]);
    if (!member && last && !edit.other_name.empty()) member = find_member(lines, block, edit.other_name);
    if (!member) return insert_member(lines, block, parent_indent, edit, depth);
    if (last) return replace_value(lines, block, *member, edit.value);
    const std::string value = inline_value(lines[member->line], member->value_at);
    if (value == "null" || value == "~") return replace_value(lines, block, *member, nested(edit, depth + 1));
    const bool flow = value.starts_with('{');
    if (flow &&
        edit_flow(lines[member->line], lines[member->line].find('{', member->value_at), edit, depth + 1))
      return;
    if (!value.empty())
      throw Error(ErrorKind::config, "cannot-edit",
                  "the file's layout does not allow to change one value in it")
          .in(file, member->line + 1, member->value_at + 1)
          .at(fmt::format("{}", fmt::join(edit.path, ".")))
          .saw("a mapping in flow style over several lines, an anchor or a tag")
          .hint("write this mapping with one key a line, or give the change with --set");
    block = value_block(lines, block, *member);
    parent_indent = member->indent;
  }
}

}  // namespace

std::string edit_yaml(const std::string& text, const std::vector<YamlEdit>& edits, const std::string& file) {
  Lines lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  for (const YamlEdit& edit : edits) apply(lines, edit, file);
  std::string out;
  for (const std::string& line : lines) out += line + "\n";
  return out;
}

}  // namespace rhapsode::cli
