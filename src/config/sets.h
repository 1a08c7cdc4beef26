// --set path=value: replaces values in the node tree before anything is validated, so that what the command
// line says goes through the same rules as the file.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "config/yaml.h"

namespace rhapsode::config {

struct AppliedSets {
  NodePtr root;
  std::vector<std::pair<std::string, std::string>> pairs;  // path and value, as given
  std::map<std::string, NodePtr> replaced;  // by the table's name: what the active entry had said
};

// Paths: segments between dots, or between slashes where the path has one (a leading slash starts at the
// root; ~1 is a slash and ~0 a tilde within a segment). Relative ones go into the entry `model`, or into
// active_model where it is empty; sets from the root are applied first, so that they may choose the active
// model.
AppliedSets apply_sets(NodePtr root, const std::vector<std::string>& sets, const std::string& model,
                       Report& report);

}  // namespace rhapsode::config
