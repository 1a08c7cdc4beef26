#include "cli/seed.h"

#include <random>

namespace rhapsode::cli {

void draw_seed(const config::ModelEntry& entry, generation::Params& params) {
  if (entry.generation.seed || !params.do_sample) return;
  params.seed = std::random_device()() & 0xffffffffU;
}

}  // namespace rhapsode::cli
