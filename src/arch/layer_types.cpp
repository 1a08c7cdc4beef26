#include "arch/layer_types.h"

#include <fmt/format.h>

#include <algorithm>

namespace rhapsode::arch {

std::vector<bool> sliding_layers(const ConfigJson& config, std::vector<bool> fallback, uint64_t layers) {
  if (!config.has("layer_types")) return fallback;
  const std::vector<std::string> types = config.texts("layer_types");
  if (types.size() != layers)
    config.fail("layer_types", fmt::format("{} entries", types.size()),
                fmt::format("{} entries, one a layer", layers));
  std::vector<bool> sliding;
  for (const std::string& type : types) {
    if (type != "sliding_attention" && type != "full_attention")
      config.unsupported("layer_types", "\"" + type + "\"", "full_attention, sliding_attention");
    sliding.push_back(type == "sliding_attention");
  }
  return sliding;
}

uint32_t read_window(const ConfigJson& config, uint32_t fallback) {
  if (!config.present("sliding_window")) return fallback;
  if (!config.has("sliding_window")) return 0;
  return static_cast<uint32_t>(config.count("sliding_window", uint64_t{1} << 31));
}

void apply_windows(const ConfigJson& config, std::vector<bool> fallback, uint32_t window, Spec& spec) {
  const std::vector<bool> sliding = sliding_layers(config, std::move(fallback), spec.num_hidden_layers);
  if (window == 0 && std::find(sliding.begin(), sliding.end(), true) != sliding.end())
    config.fail("sliding_window", "none", "a number of tokens: there are layers of sliding_attention");
  for (size_t i = 0; i < spec.layers.size(); ++i) spec.layers[i].window = sliding[i] ? window : 0;
}

}  // namespace rhapsode::arch
