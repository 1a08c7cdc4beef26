// Checkpoints that bitsandbytes quantized: after loading, every weight is what the library holds, bit for
// bit, and takes the bytes that the plan says.
#include <gtest/gtest.h>

#include "models/golden_model.h"
#include "models/paths.h"
#include "plan/footprint.h"
#include "support/tensor_hash.h"

namespace rhapsode {
namespace {

Json values() {
  return read_json_file(paths::fixtures() + "/golden/bnb_values.json");
}

std::vector<float> held(const model::Linear::Part& part, uint64_t cols) {
  std::vector<float> out(part.rows * cols);
  for (uint64_t row = 0; row < part.rows; ++row) {
    const uint64_t panel = row / quant::kPanelRows;
    const std::span<const std::byte> bytes{part.panel(panel), part.panel_bytes};
    quant::unpack_row(part.format.format, bytes, static_cast<uint32_t>(row % quant::kPanelRows), cols,
                      out.data() + row * cols);
  }
  return out;
}

TEST(StoredGolden, EveryWeightIsTheLibrarys) {
  const Json loaded = values().at("loaded");
  ASSERT_GE(loaded.size(), 10u);
  for (const auto& [fixture, modules] : loaded.items()) {
    const Dtype dtype = *dtype_from_torch_name(open_golden(fixture).json.at("primary").get<std::string>());
    LoadedModel model(golden_directory(fixture), dtype, 2, 64);
    size_t seen = 0;
    const auto compare = [&, &fixture = fixture, &modules = modules](const arch::LinearSource& source,
                                                                     const model::Linear& linear) {
      for (size_t i = 0; i < source.parts.size(); ++i) {
        if (source.parts[i].stored.kind == arch::StoredKind::none) continue;
        testing::TensorHash hash;
        hash.add(held(linear.parts[i], source.cols));
        ++seen;
        EXPECT_EQ(hash.text(), modules.at(source.parts[i].module))
            << fixture << " " << source.parts[i].module;
      }
    };
    compare(model.tensors.lm_head, model.weights.lm_head);
    for (size_t l = 0; l < model.tensors.layers.size(); ++l) {
      const arch::LayerTensors& source = model.tensors.layers[l];
      const model::LayerWeights& layer = model.weights.layers[l];
      compare(source.qkv, layer.qkv);
      compare(source.o, layer.o);
      compare(source.up, layer.up);
      compare(source.down, layer.down);
    }
    EXPECT_EQ(seen, modules.size()) << fixture;
  }
}

TEST(StoredGolden, ThePlanCountsWhatIsHeld) {
  for (const auto& [fixture, modules] : values().at("loaded").items()) {
    const Dtype dtype = *dtype_from_torch_name(open_golden(fixture).json.at("primary").get<std::string>());
    LoadedModel model(golden_directory(fixture), dtype, 1, 64);
    const plan::Formats formats = plan::Formats::dense(dtype);
    uint64_t planned = plan::embed_bytes(model.architecture.spec, dtype) +
                       plan::head_bytes(formats, model.tensors) + plan::norm_bytes(model.tensors.final_norm);
    for (const arch::LayerTensors& layer : model.tensors.layers) planned += plan::layer_bytes(formats, layer);
    uint64_t allocated = 0;
    for (const devices::Buffer& buffer : model.weights.memory) allocated += buffer.size_bytes();
    // Each buffer inside starts at a multiple of kAlignBytes.
    EXPECT_LE(allocated, planned + 64 * plan::kAlignBytes) << fixture;
    EXPECT_GE(allocated, planned) << fixture;
  }
}

std::vector<float> logits_of(const std::string& fixture, std::string_view isa, uint32_t threads) {
  LoadedModel model(golden_directory(fixture), Dtype::bf16, threads, 64, isa, 512, false);
  std::vector<uint32_t> ids;
  for (uint32_t i = 0; i < 33; ++i) ids.push_back(3 + i * 11 % 120);
  return model.logits(ids);
}

// Fixed point, by the file's own map of nested scales.
TEST(StoredGolden, KernelSetsAgreeOnTheFilesOwnMap) {
  const bool tiles = kernels::select_kernels().matrix != nullptr;  // whose order of summation is another
  const std::vector<float> reference =
      logits_of("llama-bnb-nf4-bf16", tiles ? "reference-amx" : "reference", 1);
  EXPECT_EQ(logits_of("llama-bnb-nf4-bf16", {}, 2), reference);
}

}  // namespace
}  // namespace rhapsode
