// Changes values in the text of a YAML file and leaves everything else, comments included, as it is.
// Understands block mappings, and flow mappings that end on their line; callers parse the result again, so a
// layout that this misreads is noticed. Knows no keys.
#pragma once

#include <string>
#include <vector>

namespace rhapsode::cli {

struct YamlEdit {
  std::vector<std::string> path;  // from the root
  std::string value;              // in YAML flow syntax
  std::string other_name;         // another spelling of the last key, or empty
};

// Throws Error(config, "cannot-edit") where the path leads through something else. `file`
// names it.
std::string edit_yaml(const std::string& text, const std::vector<YamlEdit>& edits, const std::string& file);

}  // namespace rhapsode::cli
