// What a BitNet quantization_config may ask for.
#include <gtest/gtest.h>

#include "arch/registry.h"
#include "base/json.h"
#include "models/golden_model.h"
#include "support/scratch.h"

namespace rhapsode::arch {
namespace {

using testing::error_of;
using testing::Scratch;

// The config of a packed model with one key of its quantization_config changed.
std::optional<Error> error_with(const char* key, const Json& value) {
  Json config = read_json_file(golden_directory("bitnet-packed") + "/config.json");
  config["quantization_config"][key] = value;
  const Scratch scratch;
  scratch.put("config.json", config.dump());
  return error_of([&] { read_architecture(scratch.path().string()); });
}

TEST(LinearKindOf, NormsInsideTheLinearsHaveAnEpsilonOfTheirOwn) {
  const Json config = read_json_file(golden_directory("bitnet-norms") + "/config.json");
  const auto eps_with = [&](const char* key, const Json& value) {
    Json changed = config;
    changed["quantization_config"][key] = value;
    return parse_architecture(changed.dump(), "config.json").spec.linear_norm_eps;
  };
  EXPECT_EQ(eps_with("rms_norm_eps", 3e-3), 3e-3f);
  EXPECT_EQ(eps_with("rms_norm_eps", nullptr), 1e-6f);
  EXPECT_EQ(eps_with("use_rms_norm", false), std::nullopt);
  EXPECT_EQ(error_with("use_rms_norm", "yes").value().path, "/quantization_config/use_rms_norm");
}

TEST(LinearKindOf, UnknownWordsAreRefused) {
  EXPECT_EQ(error_with("linear_class", "lutlinear").value().path, "/quantization_config/linear_class");
  EXPECT_EQ(error_with("quantization_mode", "later").value().path, "/quantization_config/quantization_mode");
  EXPECT_EQ(error_with("modules_to_not_convert", {"lm_head", "q_proj"}).value().path,
            "/quantization_config/modules_to_not_convert");
}

}  // namespace
}  // namespace rhapsode::arch
