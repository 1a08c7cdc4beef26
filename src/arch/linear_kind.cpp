// See linear_kind.h.
#include "arch/linear_kind.h"

namespace rhapsode::arch {
namespace {

// Only the head may stay unconverted: layers that mix kinds are not built.
void check_exceptions(const ConfigJson& quantization) {
  const char* key = "modules_to_not_convert";
  if (!quantization.has(key)) return;
  bool head = false;
  for (const std::string& name : quantization.texts(key)) {
    if (name != "lm_head" && name != "lm_head.weight" && name != "model.embed_tokens")
      quantization.unsupported(key, "\"" + name + "\"", "null, or a list of lm_head");
    head = head || name.starts_with("lm_head");
  }
  if (!head) quantization.unsupported(key, "a list without lm_head", "null, or a list of lm_head");
}

void check_shape(const ConfigJson& config, const Spec& spec) {
  for (const uint64_t rows : {spec.q_rows(), spec.kv_rows(), spec.hidden_size, spec.intermediate_size})
    if (rows % kPackedRows != 0)
      config.unsupported("quantization_config", "bitnet on a projection of " + std::to_string(rows) + " rows",
                         "a multiple of 4: a byte holds four rows");
}

std::optional<ConfigJson> bitnet_quantization(const ConfigJson& config) {
  std::optional<ConfigJson> quantization = config.object("quantization_config");
  if (quantization && quantization->text_or("quant_method", "") != "bitnet") quantization.reset();
  return quantization;
}

}  // namespace

LinearKind read_linear_kind(const ConfigJson& config, const Spec& spec) {
  const std::optional<ConfigJson> quantization = bitnet_quantization(config);
  if (!quantization) return LinearKind::dense;
  check_shape(config, spec);
  check_exceptions(*quantization);
  const std::string mode = quantization->text_or("quantization_mode", "offline");
  if (mode != "offline" && mode != "online")
    quantization->unsupported("quantization_mode", "\"" + mode + "\"", "offline, online");
  const std::string linear = quantization->text_or("linear_class", "bitlinear");
  if (linear == "bitlinear") return LinearKind::ternary_over;
  if (linear != "autobitlinear")
    quantization->unsupported("linear_class", "\"" + linear + "\"", "bitlinear, autobitlinear");
  return mode == "online" ? LinearKind::ternary_online : LinearKind::ternary_times;
}

std::optional<float> read_linear_norm_eps(const ConfigJson& config) {
  const std::optional<ConfigJson> quantization = bitnet_quantization(config);
  if (!quantization || !quantization->boolean_or("use_rms_norm", false)) return std::nullopt;
  return static_cast<float>(quantization->number_or("rms_norm_eps", 0.0, 1.0, 1e-6));
}

void apply_linear_kind(const Spec& spec, const StoredRows& stored_rows, ModelTensors& names) {
  if (spec.linear == LinearKind::dense) return;
  for (LayerTensors& layer : names.layers) {
    for (LinearSource* source : {&layer.qkv, &layer.o, &layer.up, &layer.down}) {
      for (LinearPart& part : source->parts) {
        part.kind = spec.linear;
        if (spec.linear_norm_eps) part.own_norm = {part.module + ".rms_norm.weight", "", source->cols};
        if (part.is_packed()) part.weight_scale = part.module + ".weight_scale";
        // autobitlinear takes either form, told apart by the rows.
        if (part.kind == LinearKind::ternary_times && stored_rows(part.weight.front().tensor) == part.rows)
          part.kind = LinearKind::ternary_stored;
      }
    }
  }
}

}  // namespace rhapsode::arch
