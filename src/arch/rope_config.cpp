// Reading rotary parameters: config.json of 4.x (rope_theta, rope_scaling) and of 5.x (rope_parameters).
#include <fmt/format.h>

#include "arch/config_json.h"

namespace rhapsode::arch {
namespace {

constexpr double kHuge = 1e12;
constexpr uint64_t kMaxPositions = uint64_t{1} << 31;
constexpr const char* kPartial = "partial_rotary_factor";

RopeKind read_kind(const ConfigJson& block, const RopeStyle& style) {
  const char* key = block.has("rope_type") ? "rope_type" : "type";
  const std::string name = block.text_or(key, "default");
  if (name == "default") return RopeKind::standard;
  if (style.longrope_alone) {
    if (name == "longrope" || name == "su" || name == "yarn") return RopeKind::longrope;
    block.unsupported(key, "\"" + name + "\"", "default, longrope");
  }
  if (name == "linear") return RopeKind::linear;
  if (name == "dynamic") return RopeKind::dynamic;
  if (name == "llama3") return RopeKind::llama3;
  if (name == "yarn") return RopeKind::yarn;
  if (name == "longrope") return RopeKind::longrope;
  block.unsupported(key, "\"" + name + "\"", "default, linear, dynamic, llama3, yarn, longrope");
}

std::optional<double> maybe_number(const ConfigJson& block, const char* key) {
  if (!block.has(key)) return std::nullopt;
  return block.number(key, -kHuge, kHuge);
}

double factor_or_ratio(const ConfigJson& block, const RopeTable& table) {
  if (block.has("factor")) return block.number("factor", 1e-6, kHuge);
  return static_cast<double>(table.max_position_embeddings) /
         static_cast<double>(table.original_max_position_embeddings);
}

// transformers takes 0 for "not given".
double beta(const ConfigJson& block, const char* key, double fallback) {
  const double value = block.number_or(key, 0.0, kHuge, fallback);
  return value == 0.0 ? fallback : value;
}

// Of the tables that know an original length the top level's wins, where Phi-3 keeps it.
uint64_t original_length(const ConfigJson& config, const ConfigJson& block, const RopeStyle& style,
                         uint64_t fallback) {
  const char* key = "original_max_position_embeddings";
  if (config.has(key)) return config.count(key, kMaxPositions);
  if (style.longrope_alone) return *style.longrope_alone;
  return block.count_or(key, kMaxPositions, fallback);
}

void read_scaling(const ConfigJson& config, const ConfigJson& block, const RopeStyle& style,
                  RopeTable& table) {
  switch (table.kind) {
    case RopeKind::standard:
      return;
    case RopeKind::linear:
    case RopeKind::dynamic:
      table.factor = block.number("factor", 1e-6, kHuge);
      return;
    case RopeKind::llama3:
    case RopeKind::yarn:
    case RopeKind::longrope:
      table.original_max_position_embeddings =
          original_length(config, block, style, table.max_position_embeddings);
  }
  if (table.kind == RopeKind::llama3) {
    table.factor = block.number("factor", 1e-6, kHuge);
    table.low_freq_factor = block.number("low_freq_factor", 1e-6, kHuge);
    table.high_freq_factor = block.number("high_freq_factor", 1e-6, kHuge);
    return;
  }
  table.factor = factor_or_ratio(block, table);
  table.attention_factor = maybe_number(block, "attention_factor");
  if (table.kind == RopeKind::yarn) {
    table.beta_fast = beta(block, "beta_fast", 32.0);
    table.beta_slow = beta(block, "beta_slow", 1.0);
    table.truncate = block.boolean_or("truncate", true);
    table.mscale = maybe_number(block, "mscale");
    table.mscale_all_dim = maybe_number(block, "mscale_all_dim");
    return;
  }
  table.short_factor = block.numbers("short_factor", table.rotary_dims / 2);
  table.long_factor = block.numbers("long_factor", table.rotary_dims / 2);
  table.recomputes = style.longrope_alone.has_value();
}

// Families that rotate whole heads overlook a share as long as nothing is scaled; with scaling transformers
// makes tables that do not fit the heads.
uint32_t rotary_dims(const ConfigJson& config, const ConfigJson* block, uint64_t head_dim,
                     const RopeStyle& style, RopeKind kind) {
  const bool in_block = block != nullptr && block->has(kPartial);
  const ConfigJson& holder = in_block ? *block : config;
  const char* key = in_block ? kPartial : style.partial_key;
  const double partial = holder.number_or(key, 0.0, 1.0, style.partial.value_or(1.0));
  const auto dims = static_cast<uint32_t>(static_cast<double>(head_dim) * partial);
  if (style.partial) {
    if (dims == 0 || dims % 2 != 0)
      holder.fail(holder.has(key) ? key : "head_dim", fmt::format("{} rotary dimensions", dims),
                  "an even number of them, at least 2");
    return dims;
  }
  if (kind != RopeKind::standard && dims != head_dim)
    holder.unsupported(key, fmt::format("{}", partial), "1.0 where the rotation is scaled");
  if (head_dim % 2 != 0)
    config.fail("head_dim", fmt::format("{} rotary dimensions", head_dim), "an even number of them");
  return static_cast<uint32_t>(head_dim);
}

}  // namespace

RopeTable read_rope_block(const ConfigJson& config, const std::optional<ConfigJson>& block, uint64_t head_dim,
                          const RopeStyle& style) {
  RopeTable table;
  table.max_position_embeddings = config.count_or("max_position_embeddings", kMaxPositions, 2048);
  table.original_max_position_embeddings = table.max_position_embeddings;
  table.theta = block && block->has("rope_theta")
                    ? block->number("rope_theta", 1e-3, kHuge)
                    : config.number_or(style.theta_key, 1e-3, kHuge, style.theta);
  if (block) table.kind = read_kind(*block, style);
  table.rotary_dims = rotary_dims(config, block ? &*block : nullptr, head_dim, style, table.kind);
  if (block) read_scaling(config, *block, style, table);
  return table;
}

RopeTable read_rope(const ConfigJson& config, uint64_t head_dim, const RopeStyle& style) {
  std::optional<ConfigJson> block = config.object("rope_scaling");
  if (!block || block->is_empty()) block = config.object("rope_parameters");
  return read_rope_block(config, block, head_dim, style);
}

}  // namespace rhapsode::arch
