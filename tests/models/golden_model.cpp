#include "models/golden_model.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/input_file.h"
#include "models/paths.h"
#include "plan/footprint.h"

namespace rhapsode {
namespace {

plan::StepLimits limits_for(uint64_t context_tokens, uint32_t chunk_tokens, uint32_t threads,
                            const kernels::Kernels& kernels) {
  plan::StepLimits limits;
  limits.context_tokens = context_tokens;
  limits.chunk_tokens = chunk_tokens;
  limits.logits_rows = chunk_tokens;
  limits.threads = threads;
  limits.tiles = plan::tile_shape(kernels);
  return limits;
}

// `exact`: the numerics of transformers.
plan::Formats formats_for(const LoadedModel& model, Dtype dtype, bool exact, bool row_outliers) {
  plan::Formats formats = plan::Formats::choose({}, dtype, model.tensors, model.architecture.spec.stored);
  formats.exact = exact;
  formats.int8_row_outliers = row_outliers;
  return formats;
}

}  // namespace

LoadedModel::LoadedModel(const std::string& directory, Dtype dtype, uint32_t threads, uint32_t chunk_tokens,
                         std::string_view isa, uint64_t context_tokens, bool exact, bool row_outliers)
    : LoadedModel(
          directory, [=](const LoadedModel& model) { return formats_for(model, dtype, exact, row_outliers); },
          threads, chunk_tokens, isa, context_tokens) {}

LoadedModel::LoadedModel(const std::string& directory, const plan::Formats& formats, uint32_t threads,
                         uint32_t chunk_tokens, std::string_view isa, uint64_t context_tokens)
    : LoadedModel(
          directory, [&](const LoadedModel&) { return formats; }, threads, chunk_tokens, isa,
          context_tokens) {}

LoadedModel::LoadedModel(const std::string& directory, const ChooseFormats& choose, uint32_t threads,
                         uint32_t chunk_tokens, std::string_view isa, uint64_t context_tokens)
    : architecture(arch::read_architecture(directory)),
      checkpoint(Checkpoint::open(directory)),
      tensors(arch::bind_tensors(architecture, checkpoint)),
      pool(threads),
      device("cpu", uint64_t{1} << 32, kernels::select_kernels(isa)),
      limits(limits_for(context_tokens, chunk_tokens, threads, device.kernels())),
      formats(choose(*this)),
      weights(model::load_weights(architecture.spec, tensors, checkpoint, formats,
                                  model::all_on(device, tensors.layers.size()), pool, {})),
      cache(architecture.spec, formats.kv_dtype, 8 * plan::kv_blocks(context_tokens), device),
      decoder(architecture.spec, weights, device, pool, cache, limits) {}

std::vector<float> LoadedModel::logits(const std::vector<uint32_t>& ids) {
  model::Sequence sequence;
  std::vector<float> out;
  for (size_t done = 0; done < ids.size();) {
    const size_t count = std::min<size_t>(limits.chunk_tokens, ids.size() - done);
    const model::Span span{&sequence, std::span(ids).subspan(done, count), static_cast<uint32_t>(count),
                           ids.size()};
    decoder.forward({&span, 1});
    for (uint32_t row = 0; row < count; ++row) {
      const auto values = decoder.logits(row);
      out.insert(out.end(), values.begin(), values.end());
    }
    done += count;
  }
  cache.release(sequence);
  return out;
}

std::vector<uint32_t> LoadedModel::greedy(const std::vector<uint32_t>& ids, uint32_t tokens) {
  model::Sequence sequence;
  decoder.prefill(sequence, ids);
  std::vector<uint32_t> out, all = ids;
  while (true) {
    const auto row = decoder.logits(0);
    out.push_back(static_cast<uint32_t>(std::max_element(row.begin(), row.end()) - row.begin()));
    all.push_back(out.back());
    if (out.size() == tokens) break;
    if (decoder.crosses_rope_switch(sequence, 1)) {
      cache.release(sequence);
      decoder.prefill(sequence, all);
      continue;
    }
    const model::Span span{&sequence, {&out.back(), 1}, 1};
    decoder.forward({&span, 1});
  }
  cache.release(sequence);
  return out;
}

std::string golden_directory(const std::string& fixture) {
  return paths::fixtures() + "/golden/" + fixture;
}

std::vector<std::string> golden_fixtures() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(paths::fixtures() + "/golden")) {
    const std::string config = entry.path().string() + "/config.json";
    if (!std::filesystem::exists(config)) continue;
    const std::string model_type = read_json_file(config).at("model_type").get<std::string>();
    for (const arch::Family& family : arch::families())
      if (family.model_type == model_type) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

Golden open_golden(const std::string& fixture) {
  Golden golden;
  golden.json = read_json_file(golden_directory(fixture) + "/golden.json");
  const std::string file = golden_directory(fixture) + "/golden.safetensors";
  const std::string bytes = read_file(file);
  for (const TensorInfo& tensor :
       parse_safetensors_header(std::as_bytes(std::span(bytes)), bytes.size(), file)) {
    std::vector<float>& values = golden.tensors[tensor.name];
    values.resize(tensor.length_bytes / sizeof(float));
    std::memcpy(values.data(), bytes.data() + tensor.offset_bytes, tensor.length_bytes);
  }
  return golden;
}

}  // namespace rhapsode
