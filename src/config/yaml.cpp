// Composes libyaml's events into nodes, counting depth, nodes and text while it does. Owns the rules of YAML
// that the product narrows: one document, no tags, no duplicate keys, scalar keys, merge keys of mappings
// only.
#include "config/yaml.h"

#include <fmt/format.h>
#include <yaml.h>

#include <algorithm>
#include <map>
#include <new>
#include <set>

#include "config/encoding.h"

namespace rhapsode::config {
namespace {

struct Stop {};  // the problem is in the report; there is no tree

class Event {
 public:
  Event() = default;
  ~Event() { yaml_event_delete(&event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  yaml_event_t* operator->() { return &event_; }
  yaml_event_t* get() { return &event_; }

 private:
  yaml_event_t event_{};
};

std::string text_of(const yaml_char_t* c) {
  return c == nullptr ? "" : reinterpret_cast<const char*>(c);
}

// A finished node and what it weighs once expanded.
struct Built {
  NodePtr node;
  uint64_t nodes = 1;
  uint64_t text_bytes = 0;
  uint32_t height = 1;
};

class Composer {
 public:
  Composer(std::string_view text, int32_t set, Report& report, const YamlLimits& limits)
      : text_(text), set_(set), report_(report), limits_(limits) {
    if (yaml_parser_initialize(&parser_) == 0) throw std::bad_alloc();
    yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()), text.size());
  }
  ~Composer() { yaml_parser_delete(&parser_); }
  Composer(const Composer&) = delete;
  Composer& operator=(const Composer&) = delete;

  NodePtr document();

 private:
  void next(Event& event);
  Built node(Event& event, uint32_t depth);
  Built scalar(Event& event);
  Built sequence(Event& event, uint32_t depth);
  Built mapping(Event& event, uint32_t depth);
  Built alias(Event& event, uint32_t depth);
  void member(Node& node, std::set<std::string>& names, Built key, Built value);
  void merge(Node& node, std::set<std::string>& names);
  void spend(const Built& built, Place place);
  void refuse_tag(const yaml_char_t* tag, Place place);
  [[noreturn]] void syntax();
  [[noreturn]] void stop(const char* code, Place place, std::string message, std::string fix);

  Place place_of(const yaml_mark_t& mark) const { return {mark.line + 1, mark.column + 1, set_}; }

  std::string_view text_;
  int32_t set_;
  Report& report_;
  YamlLimits limits_;
  yaml_parser_t parser_{};
  std::map<std::string, Built> anchors_;
  std::set<std::string> open_anchors_;
  uint64_t nodes_ = 0;
  uint64_t text_bytes_ = 0;
};

void Composer::stop(const char* code, Place place, std::string message, std::string fix) {
  report_.error(code, place, "", std::move(message)).fix = std::move(fix);
  throw Stop{};
}

void Composer::syntax() {
  const yaml_mark_t mark = parser_.problem_mark;
  const Place place = place_of(mark);
  const bool tab = mark.index < text_.size() && parser_.error == YAML_SCANNER_ERROR &&
                   std::string_view(parser_.problem != nullptr ? parser_.problem : "").find("tab") !=
                       std::string_view::npos;
  size_t line_begin = 0;
  for (uint64_t line = 1; line < place.line && line_begin < text_.size(); ++line) {
    const size_t end = text_.find_first_of("\r\n", line_begin);
    if (end == std::string_view::npos) break;
    line_begin = end + (text_.substr(end, 2) == "\r\n" ? 2 : 1);
  }
  const std::string_view line = text_.substr(line_begin);
  const size_t first = line.find_first_not_of(' ');
  if (tab || (first != std::string_view::npos && line[first] == '\t'))
    stop("yaml-tab", place, "a tab stands where YAML needs spaces", "indent with spaces only");
  std::string message = parser_.problem != nullptr ? parser_.problem : "this is not YAML";
  if (parser_.context != nullptr) message = std::string(parser_.context) + ": " + message;
  stop("yaml-syntax", place, std::move(message),
       "check quotes, colons and indentation here and on the line above");
}

void Composer::next(Event& event) {
  if (yaml_parser_parse(&parser_, event.get()) == 0) {
    if (parser_.error == YAML_MEMORY_ERROR) throw std::bad_alloc();
    syntax();
  }
}

void Composer::refuse_tag(const yaml_char_t* tag, Place place) {
  if (tag == nullptr) return;
  stop("yaml-tag", place, fmt::format("tags are not allowed: {}", text_of(tag)),
       "write the plain value; nothing is included or constructed from YAML");
}

// Counts a node, or an alias as if it were copied.
void Composer::spend(const Built& built, Place place) {
  nodes_ += built.nodes;
  text_bytes_ += built.text_bytes;
  if (nodes_ > limits_.max_nodes)
    stop("yaml-too-many-nodes", place,
         fmt::format("more than {} keys and values (aliases expanded)", limits_.max_nodes),
         "a configuration is small: check for aliases that multiply");
  if (text_bytes_ > limits_.max_text_bytes)
    stop("yaml-too-large", place,
         fmt::format("more than {} bytes of text (aliases expanded)", limits_.max_text_bytes),
         "a configuration is small: check for aliases that multiply");
}

Built Composer::scalar(Event& event) {
  auto node = std::make_shared<Node>();
  const auto& data = event->data.scalar;
  node->place = place_of(event->start_mark);
  refuse_tag(data.tag, node->place);
  node->quoted = data.style != YAML_PLAIN_SCALAR_STYLE;
  node->text.assign(reinterpret_cast<const char*>(data.value), data.length);
  Built built{node, 1, node->text.size(), 1};
  spend({nullptr, 1, built.text_bytes, 1}, node->place);
  return built;
}

Built Composer::sequence(Event& event, uint32_t depth) {
  auto node = std::make_shared<Node>();
  node->kind = Node::Kind::sequence;
  node->place = place_of(event->start_mark);
  refuse_tag(event->data.sequence_start.tag, node->place);
  spend({nullptr, 1, 0, 1}, node->place);
  Built built{nullptr, 1, 0, 1};
  for (;;) {
    Event item;
    next(item);
    if (item->type == YAML_SEQUENCE_END_EVENT) break;
    Built child = this->node(item, depth + 1);
    built.nodes += child.nodes;
    built.text_bytes += child.text_bytes;
    built.height = std::max(built.height, child.height + 1);
    node->items.push_back(std::move(child.node));
  }
  built.node = std::move(node);
  return built;
}

void Composer::member(Node& node, std::set<std::string>& names, Built key, Built value) {
  if (!key.node->is_scalar())
    stop("yaml-key", key.node->place, "a key must be a single word, not a list or a mapping",
         "write the key as text");
  if (!names.insert(key.node->text).second) {
    Finding& f = report_.error("duplicate-key", key.node->place, key.node->text,
                               fmt::format("`{}` is written twice in one mapping", key.node->text));
    f.why = "most YAML readers keep the last one without a word, so one of the two would be lost";
    f.fix = "keep one of them";
    return;
  }
  node.members.emplace_back(std::move(key.node), std::move(value.node));
}

// `<<` brings in the keys that the mapping does not write itself; of several mappings the first wins.
void Composer::merge(Node& node, std::set<std::string>& names) {
  const auto is_merge = [](const auto& m) { return m.first->text == "<<" && !m.first->quoted; };
  const auto at = std::find_if(node.members.begin(), node.members.end(), is_merge);
  if (at == node.members.end()) return;
  const NodePtr source = at->second;
  node.members.erase(at);
  std::vector<NodePtr> sources = source->is_sequence() ? source->items : std::vector<NodePtr>{source};
  for (const NodePtr& from : sources) {
    if (!from->is_mapping())
      stop("yaml-merge-key", from->place, "`<<` takes a mapping or a list of mappings",
           "name an anchor of a mapping");
    for (const auto& m : from->members)
      if (names.insert(m.first->text).second) node.members.push_back(m);
  }
}

Built Composer::mapping(Event& event, uint32_t depth) {
  auto node = std::make_shared<Node>();
  node->kind = Node::Kind::mapping;
  node->place = place_of(event->start_mark);
  refuse_tag(event->data.mapping_start.tag, node->place);
  spend({nullptr, 1, 0, 1}, node->place);
  Built built{nullptr, 1, 0, 1};
  std::set<std::string> names;
  for (;;) {
    Event key_event;
    next(key_event);
    if (key_event->type == YAML_MAPPING_END_EVENT) break;
    Built key = this->node(key_event, depth + 1);
    Event value_event;
    next(value_event);
    Built value = this->node(value_event, depth + 1);
    built.nodes += key.nodes + value.nodes;
    built.text_bytes += key.text_bytes + value.text_bytes;
    built.height = std::max(built.height, std::max(key.height, value.height) + 1);
    member(*node, names, std::move(key), std::move(value));
  }
  merge(*node, names);
  built.node = std::move(node);
  return built;
}

Built Composer::alias(Event& event, uint32_t depth) {
  const std::string name = text_of(event->data.alias.anchor);
  const Place place = place_of(event->start_mark);
  if (open_anchors_.contains(name))
    stop("yaml-alias-loop", place, fmt::format("`*{}` stands inside the very value it names", name),
         "an alias may only name something that is complete");
  const auto found = anchors_.find(name);
  if (found == anchors_.end())
    stop("yaml-unknown-alias", place, fmt::format("no anchor `&{}` stands above this alias", name),
         "define the anchor first, or quote the text if it is not an alias");
  if (depth + found->second.height - 1 > limits_.max_depth)
    stop("yaml-too-deep", place,
         fmt::format("nested deeper than {} levels (aliases expanded)", limits_.max_depth),
         "a configuration is flat: check the aliases");
  spend(found->second, place);
  return found->second;
}

Built Composer::node(Event& event, uint32_t depth) {
  if (depth > limits_.max_depth)
    stop("yaml-too-deep", place_of(event->start_mark),
         fmt::format("nested deeper than {} levels", limits_.max_depth),
         "a configuration is flat: check brackets and indentation");
  std::string anchor;
  switch (event->type) {
    case YAML_ALIAS_EVENT:
      return alias(event, depth);
    case YAML_SCALAR_EVENT:
      anchor = text_of(event->data.scalar.anchor);
      break;
    case YAML_SEQUENCE_START_EVENT:
      anchor = text_of(event->data.sequence_start.anchor);
      break;
    default:
      anchor = text_of(event->data.mapping_start.anchor);
      break;
  }
  // An anchor may be defined again; while its value is being written it names nothing.
  const bool opens = !anchor.empty() && open_anchors_.insert(anchor).second;
  Built built = event->type == YAML_SCALAR_EVENT           ? scalar(event)
                : event->type == YAML_SEQUENCE_START_EVENT ? sequence(event, depth)
                                                           : mapping(event, depth);
  if (opens) open_anchors_.erase(anchor);
  if (!anchor.empty()) anchors_[anchor] = built;
  return built;
}

NodePtr Composer::document() {
  Event stream, start;
  next(stream);
  next(start);
  if (start->type == YAML_STREAM_END_EVENT)
    stop("yaml-empty", {1, 1, set_}, "there is nothing in it but blanks and comments",
         "write a `generator:` section");
  Event root_event, end, rest;
  next(root_event);
  NodePtr root = node(root_event, 1).node;
  next(end);
  next(rest);
  if (rest->type != YAML_STREAM_END_EVENT)
    stop("yaml-documents", place_of(rest->start_mark), "a second document begins here",
         "keep one document: remove the `---`");
  return root;
}

}  // namespace

const Node* Node::find(std::string_view key) const {
  for (const auto& [name, value] : members)
    if (name->text == key) return value.get();
  return nullptr;
}

NodePtr parse_yaml(std::string_view text, int32_t set, Report& report, const YamlLimits& limits) {
  if (text.size() > limits.max_bytes) {
    Finding& f = report.error("yaml-too-large", {1, 1, set}, "", "the file is too large for a configuration");
    f.found = fmt::format("{} bytes", text.size());
    f.expected = fmt::format("at most {} bytes", limits.max_bytes);
    return nullptr;
  }
  if (!check_encoding(text, set, report)) return nullptr;
  try {
    return Composer(text, set, report, limits).document();
  } catch (const Stop&) {
    return nullptr;
  }
}

}  // namespace rhapsode::config
