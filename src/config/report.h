// Collects what there is to say about one YAML file, and turns places of the node tree into origins. Knows
// nothing of keys or of YAML syntax.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "config/config.h"

namespace rhapsode::config {

// 1-based line and column in the file, or (set >= 0) somewhere in that --set argument.
struct Place {
  uint64_t line = 0;
  uint64_t column = 0;
  int32_t set = -1;
};

// In reading order: the file from top to bottom, then the --set arguments.
bool before(const Place& a, const Place& b);

class Report {
 public:
  Report(std::string file, std::vector<std::string> sets) : file_(std::move(file)), sets_(std::move(sets)) {}

  // The reference is good until take(); fill found, expected, why and fix through it.
  Finding& add(Severity severity, std::string code, Place place, std::string path, std::string message);
  Finding& error(std::string code, Place place, std::string path, std::string message) {
    return add(Severity::error, std::move(code), place, std::move(path), std::move(message));
  }
  bool has_errors() const { return errors_ > 0; }
  uint64_t errors() const { return errors_; }
  Origin origin(Place place) const;
  const std::string& file() const { return file_; }
  // All findings in file order.
  std::vector<Finding> take();

 private:
  struct Row {
    Finding finding;
    Place place;
  };
  std::string file_;
  std::vector<std::string> sets_;
  std::deque<Row> rows_;
  uint64_t errors_ = 0;
};

// The Error that a finding of severity error is thrown as.
Error to_error(const Finding& finding);

}  // namespace rhapsode::config
