// A golden fixture opened: the tiny checkpoint, loaded in a dtype, and what transformers computed with it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "arch/registry.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "model/decoder.h"

namespace rhapsode {

struct LoadedModel {
  LoadedModel(const std::string& directory, Dtype dtype, uint32_t threads, uint32_t chunk_tokens,
              std::string_view isa = {}, uint64_t context_tokens = 512, bool exact = true,
              bool row_outliers = false);
  LoadedModel(const std::string& directory, const plan::Formats& formats, uint32_t threads,
              uint32_t chunk_tokens, std::string_view isa = {}, uint64_t context_tokens = 512);
  // Formats that depend on the checkpoint: its tensors are bound when this is called.
  using ChooseFormats = std::function<plan::Formats(const LoadedModel&)>;
  LoadedModel(const std::string& directory, const ChooseFormats& choose, uint32_t threads,
              uint32_t chunk_tokens, std::string_view isa = {}, uint64_t context_tokens = 512);

  arch::Architecture architecture;
  Checkpoint checkpoint;
  arch::ModelTensors tensors;
  ThreadPool pool;
  devices::Device device;
  plan::StepLimits limits;
  plan::Formats formats;
  model::Weights weights;
  model::KvCache cache;
  model::Decoder decoder;

  // Logits of every position of a fresh sequence, [ids][vocab_size].
  std::vector<float> logits(const std::vector<uint32_t>& ids);
  // Greedy continuation without end of sequence.
  std::vector<uint32_t> greedy(const std::vector<uint32_t>& ids, uint32_t tokens);
};

// Names of the fixture directories below tests/fixtures/golden whose config.json names a family that is
// registered.
std::vector<std::string> golden_fixtures();
std::string golden_directory(const std::string& fixture);

// What transformers computed: golden.json, and the float32 tensors of golden.safetensors by name.
struct Golden {
  Json json;
  std::map<std::string, std::vector<float>> tensors;
};
Golden open_golden(const std::string& fixture);

}  // namespace rhapsode
