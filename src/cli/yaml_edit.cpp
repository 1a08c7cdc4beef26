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
    if (!value.empty())
      throw Error(ErrorKind::config, "cannot-edit",
                  "the file's layout does not allow to change one value in it")
          .in(file, member->line + 1, member->value_at + 1)
          .at(fmt::format("{}", fmt::join(edit.path, ".")))
          .saw("a mapping that is not written line by line")
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
