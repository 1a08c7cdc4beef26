#include "models/made_checkpoint.h"

#include <cmath>
#include <cstring>
#include <fstream>

#include "models/wanted_tensors.h"

namespace rhapsode::testing {
namespace {

// Roughly normal, of variance one: a sum of four uniform numbers.
float draw(uint64_t& state) {
  float sum = 0.0f;
  for (int i = 0; i < 4; ++i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    sum += static_cast<float>(state >> 40) / static_cast<float>(1 << 24) - 0.5f;
  }
  return sum * std::sqrt(3.0f);
}

}  // namespace

void make_checkpoint(const std::string& directory, const std::string& config_json, uint64_t seed) {
  const std::string config = directory + "/config.json";
  std::ofstream(config) << config_json;
  std::vector<TensorToWrite> tensors;
  std::vector<uint64_t> cols;
  for (const auto& [name, size] : wanted_tensors(arch::parse_architecture(config_json, config))) {
    tensors.push_back(
        {name, Dtype::bf16, size.cols == 0 ? std::vector{size.rows} : std::vector{size.rows, size.cols}});
    cols.push_back(size.cols);
  }
  write_safetensors(
      directory + "/model.safetensors", tensors, {}, [&](size_t index, std::span<std::byte> out) {
        for (size_t i = 0; i < out.size(); i += 2) {
          const float noise = draw(seed);
          const float value = cols[index] == 0 ? 1.0f + 0.3f * noise
                                               : noise * 1.6f / std::sqrt(static_cast<float>(cols[index]));
          const uint16_t bits = float_to_bf16(value);
          std::memcpy(out.data() + i, &bits, 2);
        }
      });
}

}  // namespace rhapsode::testing
