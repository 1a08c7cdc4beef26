// Owns the paths of --set and the copy of the tree along them. Refuses to know whether a key exists:
// validation does.
#include "config/sets.h"

#include <fmt/format.h>

#include "config/scalar.h"
#include "config/table.h"

namespace rhapsode::config {
namespace {

using Path = std::vector<std::string>;

struct Set {
  int32_t index = 0;
  bool from_root = false;
  Path path;
  NodePtr value;
};

std::string unescaped(std::string segment) {
  for (const auto& [escape, plain] : {std::pair{"~1", "/"}, std::pair{"~0", "~"}})
    for (size_t at = segment.find(escape); at != std::string::npos; at = segment.find(escape, at + 1))
      segment.replace(at, 2, plain);
  return segment;
}

Path split(std::string_view text) {
  Path path;
  const bool slashes = text.find('/') != std::string_view::npos;
  if (slashes && text.front() == '/') text.remove_prefix(1);
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(slashes ? '/' : '.', begin), text.size());
    std::string segment(text.substr(begin, end - begin));
    path.push_back(slashes ? unescaped(std::move(segment)) : std::move(segment));
    begin = end + 1;
  }
  return path;
}

class Applier {
 public:
  Applier(AppliedSets& result, Report& report) : result_(result), report_(report) {}
  void apply(const Set& set, const Path& path);

 private:
  NodePtr with(const NodePtr& node, const Path& path, size_t at, const Set& set);

  AppliedSets& result_;
  Report& report_;
};

NodePtr key_node(const std::string& text, int32_t index) {
  auto node = std::make_shared<Node>();
  node->text = text;
  node->place = {0, 0, index};
  return node;
}

// A copy of `node` in which the path from segment `at` on leads to the value; nullptr where it cannot.
NodePtr Applier::with(const NodePtr& node, const Path& path, size_t at, const Set& set) {
  if (at == path.size()) return set.value;
  auto copy = std::make_shared<Node>();
  copy->kind = Node::Kind::mapping;
  copy->place = {0, 0, set.index};
  if (node != nullptr && node->is_mapping()) *copy = *node;
  const Scalar::Kind kind = node != nullptr && node->is_scalar() ? resolve(*node).kind : Scalar::Kind::null;
  const bool replaceable = node == nullptr || node->is_mapping() ||
                           (node->is_scalar() && (kind == Scalar::Kind::null || kind == Scalar::Kind::empty));
  if (!replaceable) {
    Finding& f = report_.error("bad-set", {0, 0, set.index}, fmt::format("{}", fmt::join(path, ".")),
                               fmt::format("`{}` has no keys of its own", path[at - 1]));
    f.found = describe(*node);
    f.expected = "a mapping at this place";
    return nullptr;
  }
  // In a model entry a key takes the place of its other spelling as well.
  const bool in_entry = at == 3 && path[0] == "generator" && path[1] == "models";
  const Key* key = in_entry ? find_entry_key(path[at]) : nullptr;
  const auto same = [&](const std::string& name) {
    return name == path[at] || (key != nullptr && (name == key->name || name == key->alias));
  };
  NodePtr old;
  for (size_t i = copy->members.size(); i-- > 0;) {
    if (!same(copy->members[i].first->text)) continue;
    old = copy->members[i].second;
    copy->members.erase(copy->members.begin() + static_cast<std::ptrdiff_t>(i));
  }
  if (old != nullptr && key != nullptr && old->place.set < 0)
    result_.replaced.emplace(path[2] + "." + std::string(key->name), old);
  NodePtr child = with(old, path, at + 1, set);
  if (child == nullptr) return nullptr;
  copy->members.emplace_back(key_node(path[at], set.index), std::move(child));
  return copy;
}

void Applier::apply(const Set& set, const Path& path) {
  if (NodePtr root = with(result_.root, path, 0, set)) result_.root = std::move(root);
}

void bad_set(Report& report, int32_t index, std::string message) {
  Finding& f = report.error("bad-set", {0, 0, index}, "", std::move(message));
  f.expected = "path=value, such as temperature=0.2 or /generator/active_model=NAME";
}

std::string active_model_of(const Node& root) {
  const Node* generator = root.find("generator");
  const Node* active = generator != nullptr ? generator->find("active_model") : nullptr;
  return active != nullptr && active->is_scalar() ? active->text : "";
}

}  // namespace

AppliedSets apply_sets(NodePtr root, const std::vector<std::string>& sets, const std::string& model,
                       Report& report) {
  AppliedSets result{std::move(root), {}, {}};
  std::vector<Set> parsed;
  for (size_t i = 0; i < sets.size(); ++i) {
    const int32_t index = static_cast<int32_t>(i);
    const size_t equals = sets[i].find('=');
    if (equals == std::string::npos || equals == 0) {
      bad_set(report, index, "this is not path=value");
      continue;
    }
    const std::string path = sets[i].substr(0, equals), value = sets[i].substr(equals + 1);
    Set set{index, path[0] == '/', split(path), nullptr};
    bool named = set.path.size() <= 64;
    for (const std::string& segment : set.path) named = named && !segment.empty();
    if (!named) {
      bad_set(report, index, "the path has an empty part or too many of them");
      continue;
    }
    set.value = parse_yaml(value, index, report);
    if (set.value == nullptr) continue;
    result.pairs.emplace_back(path, value);
    parsed.push_back(std::move(set));
  }
  Applier applier(result, report);
  for (const Set& set : parsed)
    if (set.from_root) applier.apply(set, set.path);
  const std::string active = !model.empty() ? model : active_model_of(*result.root);
  const Node* generator = result.root->find("generator");
  const Node* models = generator != nullptr ? generator->find("models") : nullptr;
  // Without an active entry there is nowhere to go; that is reported as the error it is.
  if (models == nullptr || models->find(active) == nullptr) return result;
  for (const Set& set : parsed) {
    if (set.from_root) continue;
    Path path{"generator", "models", active};
    path.insert(path.end(), set.path.begin(), set.path.end());
    applier.apply(set, path);
  }
  return result;
}

}  // namespace rhapsode::config
