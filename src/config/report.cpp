// Owns the order of findings and their translation into the project's Error; refuses to know any rule.
#include "config/report.h"

#include <algorithm>
#include <tuple>

namespace rhapsode::config {

bool before(const Place& a, const Place& b) {
  return std::tie(a.set, a.line, a.column) < std::tie(b.set, b.line, b.column);
}

Finding& Report::add(Severity severity, std::string code, Place place, std::string path,
                     std::string message) {
  if (severity == Severity::error) ++errors_;
  Finding finding;
  finding.code = std::move(code);
  finding.severity = severity;
  finding.path = std::move(path);
  finding.origin = origin(place);
  finding.message = std::move(message);
  // A --set argument has no line: its text takes the place of one.
  if (!finding.origin.set.empty())
    finding.message = "--set " + excerpt(finding.origin.set) + ": " + finding.message;
  rows_.push_back({std::move(finding), place});
  return rows_.back().finding;
}

Origin Report::origin(Place place) const {
  Origin origin;
  if (place.set >= 0) {
    origin.set = sets_.at(static_cast<size_t>(place.set));
    return origin;
  }
  origin.file = file_;
  origin.line = place.line;
  origin.column = place.column;
  return origin;
}

std::vector<Finding> Report::take() {
  std::stable_sort(rows_.begin(), rows_.end(), [](const Row& a, const Row& b) {
    if (before(a.place, b.place)) return true;
    if (before(b.place, a.place)) return false;
    return a.finding.severity < b.finding.severity;
  });
  std::vector<Finding> findings;
  findings.reserve(rows_.size());
  for (Row& row : rows_) findings.push_back(std::move(row.finding));
  rows_.clear();
  errors_ = 0;
  return findings;
}

Error to_error(const Finding& finding) {
  // A --set argument that is no path=value at all is misuse of the command line, not a wrong file.
  const ErrorKind kind = finding.code == "bad-set" ? ErrorKind::usage : ErrorKind::config;
  Error error(kind, finding.code, finding.message);
  error.in(finding.origin.file, finding.origin.line, finding.origin.column).at(finding.path);
  error.saw(finding.found).want(finding.expected).hint(finding.fix);
  return error;
}

}  // namespace rhapsode::config
