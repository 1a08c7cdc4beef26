// From a node to the type that a key wants. Owns the messages for values that do not fit; refuses to know
// which keys exist or how they relate.
#pragma once

#include <string>

#include "config/report.h"
#include "config/scalar.h"
#include "config/table.h"
#include "config/yaml.h"

namespace rhapsode::config {

// One value on its way in. Every read returns false after reporting exactly one error (lists: one for each
// bad item).
class ValueReader {
 public:
  ValueReader(Report& report, const Key& key, std::string path)
      : report_(report), key_(key), path_(std::move(path)) {}

  bool read(const Node& node, bool& out) const;
  bool read(const Node& node, int64_t& out) const;
  bool read(const Node& node, double& out) const;
  bool read(const Node& node, std::string& out) const;
  bool read(const Node& node, uint64_t& bytes) const;
  bool read(const Node& node, Dtype& out) const;
  bool read(const Node& node, Quantization& out) const;
  bool read(const Node& node, EarlyStopping& out) const;
  bool read(const Node& node, DeviceMap& out) const;
  bool read(const Node& node, MaxMemory& out) const;
  bool read(const Node& node, Ids& out) const;
  bool read(const Node& node, Texts& out) const;
  bool read(const Node& node, IdLists& out) const;
  bool read(const Node& node, SequenceBias& out) const;
  bool read(const Node& node, LengthDecay& out) const;

 private:
  bool wrong_type(const Node& node, const std::string& expected, const std::string& fix) const;
  bool fail(const char* code, const Node& node, std::string message, std::string expected,
            std::string fix) const;
  bool unknown_word(const Node& node, const std::string& fix) const;
  bool number(const Node& node, double& out) const;
  bool whole(const Node& node, int64_t& out, const Range& range) const;
  bool text(const Node& node, std::string& out) const;
  bool device(const Node& node, DeviceName& out) const;
  template <typename T>
  bool list(const Node& node, std::vector<T>& out, const char* items) const;

  Report& report_;
  const Key& key_;
  std::string path_;
};

}  // namespace rhapsode::config
