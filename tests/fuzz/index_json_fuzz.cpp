// Any bytes as an index: an Error or names that stay inside the directory.
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace rhapsode;
  try {
    const SafetensorsIndex index =
        parse_safetensors_index(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz");
    for (const auto& [name, shard] : index.shard_of)
      if (!is_utf8(name) || shard.empty() || shard.front() == '/' ||
          ("/" + shard + "/").find("/../") != std::string::npos)
        std::abort();
  } catch (const Error& error) {
    if (error.kind != ErrorKind::integrity || error.file.empty() || error.found.empty() ||
        error.expected.empty())
      std::abort();
  }
  return 0;
}
