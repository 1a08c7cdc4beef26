#include "models/paths.h"

namespace rhapsode::paths {

std::string source() {
  return RHAPSODE_SOURCE;
}
std::string fixtures() {
  return source() + "/tests/fixtures";
}
std::string binary() {
  return RHAPSODE_BINARY;
}
std::string kill_shim() {
  return RHAPSODE_KILL_SHIM;
}

}  // namespace rhapsode::paths
