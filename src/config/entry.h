// One model entry: from its mapping to a ModelEntry, with the places that rules about several keys need.
#pragma once

#include <map>
#include <string>

#include "config/report.h"
#include "config/yaml.h"

namespace rhapsode::config {

struct ReadEntry {
  ModelEntry entry;
  std::string path;  // generator.models.NAME
  Place mapping;
  // By the table's name; those of quantization_config with that prefix.
  std::map<std::string, Place, std::less<>> keys, values;

  bool given(std::string_view key) const { return keys.contains(key); }
};

ReadEntry read_entry(const Node& name, const Node& mapping, Report& report);
// Reads one key into the entry; used where a value that a --set replaced must be understood too.
void read_key(std::string_view key, const Node& value, ReadEntry& into, Report& report);

// What several keys say together (rules.cpp): contradictions as errors, dead knobs and differences from the
// guide as notes.
void apply_rules(const ReadEntry& read, Report& report);

// The finding for a key that does not exist at this place.
void report_unknown_key(const Node& key, const std::string& path, const std::vector<std::string>& known,
                        const std::string& hint, Report& report);

}  // namespace rhapsode::config
