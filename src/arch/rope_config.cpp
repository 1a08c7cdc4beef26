// Reading rotary parameters: config.json of 4.x (rope_theta, rope_scaling) and of 5.x (rope_parameters).
#include "arch/config_json.h"

namespace rhapsode::arch {
namespace {

constexpr double kHuge = 1e12;
constexpr uint64_t kMaxPositions = uint64_t{1} << 31;

RopeKind read_kind(const ConfigJson& block) {
  const char* key = block.has("rope_type") ? "rope_type" : "type";
  const std::string name = block.text_or(key, "default");
  if (name == "default") return RopeKind::standard;
  if (name == "linear") return RopeKind::linear;
  if (name == "dynamic") return RopeKind::dynamic;
  if (name == "llama3") return RopeKind::llama3;
  if (name == "yarn") return RopeKind::yarn;
  if (name == "longrope" || name == "su") return RopeKind::longrope;
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

void read_scaling(const ConfigJson& config, const ConfigJson& block, RopeTable& table) {
  // Phi-3 keeps original_max_position_embeddings at the top level.
  const char* original = "original_max_position_embeddings";
  const ConfigJson& holder = block.has(original) ? block : config;
  table.original_max_position_embeddings =
      holder.count_or(original, kMaxPositions, table.max_position_embeddings);
  switch (table.kind) {
    case RopeKind::standard:
      return;
    case RopeKind::linear:
    case RopeKind::dynamic:
      table.factor = block.number("factor", 1e-6, kHuge);
      return;
    case RopeKind::llama3:
      table.factor = block.number("factor", 1e-6, kHuge);
      table.low_freq_factor = block.number("low_freq_factor", 1e-6, kHuge);
      table.high_freq_factor = block.number("high_freq_factor", 1e-6, kHuge);
      table.original_max_position_embeddings = block.count(original, kMaxPositions);
      return;
    case RopeKind::yarn:
      table.factor = factor_or_ratio(block, table);
      table.beta_fast = block.number_or("beta_fast", 1e-6, kHuge, 32.0);
      table.beta_slow = block.number_or("beta_slow", 1e-6, kHuge, 1.0);
      table.truncate = block.boolean_or("truncate", true);
      table.attention_factor = maybe_number(block, "attention_factor");
      table.mscale = maybe_number(block, "mscale");
      table.mscale_all_dim = maybe_number(block, "mscale_all_dim");
      return;
    case RopeKind::longrope:
      table.short_factor = block.numbers("short_factor", table.rotary_dims / 2);
      table.long_factor = block.numbers("long_factor", table.rotary_dims / 2);
      table.attention_factor = maybe_number(block, "attention_factor");
      table.factor = factor_or_ratio(block, table);
      return;
  }
}

}  // namespace

RopeTable read_rope(const ConfigJson& config, uint64_t head_dim, double default_theta, double default_partial,
                    const std::string& section) {
  RopeTable table;
  table.max_position_embeddings = config.count_or("max_position_embeddings", kMaxPositions, 2048);
  std::optional<ConfigJson> block = config.object("rope_parameters");
  if (block && !section.empty()) block = block->object(section.c_str());
  if (!block) block = config.object("rope_scaling");
  // Values in the block win; older files keep them at the top level.
  const auto holder = [&](const char* key) -> const ConfigJson& {
    return block && block->has(key) ? *block : config;
  };
  table.theta = holder("rope_theta").number_or("rope_theta", 1e-3, kHuge, default_theta);
  const char* partial_key = "partial_rotary_factor";
  if (!holder(partial_key).has(partial_key) && holder("rotary_pct").has("rotary_pct"))
    partial_key = "rotary_pct";
  const double partial = holder(partial_key).number_or(partial_key, 0.0, 1.0, default_partial);
  table.rotary_dims = static_cast<uint32_t>(static_cast<double>(head_dim) * partial);
  if (table.rotary_dims == 0 || table.rotary_dims % 2 != 0)
    config.fail(config.has("head_dim") ? "head_dim" : partial_key,
                std::to_string(table.rotary_dims) + " rotary dimensions",
                "an even number of them, at least 2");
  if (block) {
    table.kind = read_kind(*block);
    read_scaling(config, *block, table);
  }
  if (table.original_max_position_embeddings == 0)
    table.original_max_position_embeddings = table.max_position_embeddings;
  return table;
}

}  // namespace rhapsode::arch
