#include "models/wanted_tensors.h"

#include <algorithm>

#include "arch/linear_kind.h"

namespace rhapsode::testing {

std::map<std::string, WantedTensor> wanted_tensors(const arch::Architecture& architecture) {
  arch::ModelTensors names =
      architecture.family->tensors(architecture.spec, [](const std::string&) { return false; });
  arch::apply_linear_kind(
      architecture.spec, [](const std::string&) { return 0; }, names);
  std::map<std::string, WantedTensor> wanted;
  const auto ask = [&](const std::string& name, uint64_t rows, uint64_t cols, bool packed = false) {
    if (!name.empty()) wanted[name] = {std::max(wanted[name].rows, rows), cols, packed};
  };
  const auto linear = [&](const arch::LinearSource& source) {
    for (const arch::LinearPart& part : source.parts) {
      for (const arch::RowRun& run : part.weight)
        ask(run.tensor, run.first_row + run.row_count, source.cols, part.is_packed());
      ask(part.weight_scale, 1, 0);
      for (const arch::RowRun& run : part.bias) ask(run.tensor, run.first_row + run.row_count, 0);
    }
  };
  const auto norm = [&](const arch::NormSource& source) {
    ask(source.weight, source.length, 0);
    ask(source.bias, source.length, 0);
  };
  ask(names.embed_tensor, architecture.spec.vocab_size, architecture.spec.hidden_size);
  linear(names.lm_head);
  norm(names.final_norm);
  for (const arch::LayerTensors& layer : names.layers) {
    for (const auto* source :
         {&layer.input_norm, &layer.q_norm, &layer.k_norm, &layer.attn_sub_norm, &layer.post_attention_norm,
          &layer.pre_ffn_norm, &layer.ffn_sub_norm, &layer.post_ffn_norm})
      norm(*source);
    for (const auto* source : {&layer.qkv, &layer.o, &layer.up, &layer.down}) linear(*source);
  }
  return wanted;
}

}  // namespace rhapsode::testing
