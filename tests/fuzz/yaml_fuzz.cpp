// Arbitrary bytes as a configuration file: findings with places, or a Config; never anything else. The two
// entry points must agree on whether the file is good.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "config/config.h"

namespace config = rhapsode::config;

// Input up to the first NUL is the file; what follows, split at NULs, are --set arguments.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const auto next = [&rest] {
    const size_t end = std::min(rest.find('\0'), rest.size());
    const std::string_view part = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return part;
  };
  const std::string_view text = next();
  config::LoadRequest request{"fuzz.yaml", "", {}};
  while (!rest.empty() && request.sets.size() < 4) request.sets.emplace_back(next());
  bool good = true;
  for (const config::Finding& f : config::check_text(text, request)) {
    if (f.severity == config::Severity::error) good = false;
    if (f.origin.file.empty()) continue;  // of a --set argument
    if (f.origin.line == 0 || f.origin.column == 0) std::abort();
  }
  try {
    const config::Config loaded = config::load_text(text, request);
    if (!good) std::abort();
    config::explain_generation(loaded, {});
  } catch (const rhapsode::Error& e) {
    if (good || e.code.empty()) std::abort();
  }
  return 0;
}
