// SmolLM3: Llama with layers that do not rotate; no_rope_layers holds 1 where a layer does. Windows are for
// those that do not.
#include "arch/families/families.h"
#include "arch/layer_types.h"

namespace rhapsode::arch {

Spec smollm3_spec(const ConfigJson& config) {
  Spec spec = llama_like_spec(config, {.theta = 2e6});
  spec.tie_word_embeddings = config.boolean_or("tie_word_embeddings", true);
  if (config.has("no_rope_layers")) {
    const std::vector<uint64_t> rotates = config.counts("no_rope_layers", spec.num_hidden_layers);
    for (size_t i = 0; i < rotates.size(); ++i) spec.layers[i].rope_table = rotates[i] != 0 ? 0 : -1;
  } else {
    const uint64_t interval = config.count_or("no_rope_layer_interval", 1 << 16, 4);
    for (size_t i = 0; i < spec.layers.size(); ++i)
      spec.layers[i].rope_table = (i + 1) % interval != 0 ? 0 : -1;
  }
  const uint32_t window = read_window(config, 0);
  const bool windows = window > 0 && config.boolean_or("use_sliding_window", false);
  std::vector<bool> sliding(spec.num_hidden_layers);
  for (size_t i = 0; i < sliding.size(); ++i) sliding[i] = windows && spec.layers[i].rope_table < 0;
  apply_windows(config, sliding, window, spec);
  return spec;
}

}  // namespace rhapsode::arch
