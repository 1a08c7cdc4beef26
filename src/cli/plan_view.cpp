#include "cli/plan_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "cli/emit_config.h"

namespace rhapsode::cli {
namespace {

using plan::DevicePlan;
using plan::Plan;

struct NumberedModule {
  std::string prefix;  // with the dot
  uint64_t number;
};

std::optional<NumberedModule> numbered(const std::string& module) {
  const size_t dot = module.rfind('.');
  if (dot == std::string::npos || dot + 1 == module.size()) return std::nullopt;
  uint64_t number = 0;
  const char* end = module.data() + module.size();
  const auto [stop, code] = std::from_chars(module.data() + dot + 1, end, number);
  if (code != std::errc() || stop != end) return std::nullopt;
  return NumberedModule{module.substr(0, dot + 1), number};
}

struct Segment {
  const char* name;
  const char* glyph;
  uint64_t bytes;
};

std::array<Segment, 5> segments_of(const DevicePlan& device) {
  return {{{"weights", "█", device.weights_bytes},
           {"quantization", "▆", device.quant_metadata_bytes},
           {"KV cache", "▓", device.kv_bytes},
           {"workspace", "▒", device.workspace_bytes},
           {"process", "░", device.process_bytes}}};
}

std::string paint(const Style& style, size_t segment, const std::string& text) {
  switch (segment) {
    case 0:
      return style.blue(text);
    case 1:
      return style.magenta(text);
    case 2:
      return style.green(text);
    case 3:
      return style.yellow(text);
    default:
      return style.cyan(text);
  }
}

// Each part has at least one cell; the whole bar is the limit, or what is needed where that is more.
std::string bar(const DevicePlan& device, const Style& style, uint32_t width) {
  const double scale = static_cast<double>(width) /
                       static_cast<double>(std::max<uint64_t>({device.limit_bytes, device.total_bytes(), 1}));
  const auto segments = segments_of(device);
  std::string out;
  uint32_t used = 0;
  for (size_t s = 0; s < segments.size(); ++s) {
    if (segments[s].bytes == 0 || used >= width) continue;
    const auto share = static_cast<uint32_t>(static_cast<double>(segments[s].bytes) * scale + 0.5);
    const uint32_t cells = std::min(std::max<uint32_t>(share, 1), width - used);
    std::string glyphs;
    for (uint32_t i = 0; i < cells; ++i) glyphs += segments[s].glyph;
    out += paint(style, s, glyphs);
    used += cells;
  }
  std::string rest;
  for (; used < width; ++used) rest += "·";
  return out + style.dim(rest);
}

std::string device_text(const DevicePlan& device, const Style& style, uint32_t columns) {
  const uint64_t total = device.total_bytes();
  const uint32_t width = std::clamp<uint32_t>(columns > 30 ? columns - 30 : 20, 20, 60);
  const bool limited = device.limit_bytes < plan::kNoLimit;
  std::string out =
      fmt::format("{} {}  {}{}\n", style.bold(fmt::format("{:<6}", device.name)), bar(device, style, width),
                  short_bytes(total), limited ? " of " + short_bytes(device.limit_bytes) : "");
  const auto segments = segments_of(device);
  for (size_t s = 0; s < segments.size(); ++s)
    if (segments[s].bytes > 0)
      out += fmt::format("  {} {:<13} {}\n", paint(style, s, segments[s].glyph), segments[s].name,
                         bytes_text(segments[s].bytes));
  if (!limited) return out;
  if (total <= device.limit_bytes)
    out += fmt::format("  {} {:<13} {}\n", style.dim("·"), "free", bytes_text(device.limit_bytes - total));
  else
    out += style.red(fmt::format("  ! {:<13} {}", "too much", bytes_text(total - device.limit_bytes))) + "\n";
  return out;
}

std::string change_text(const plan::Change& change, const Style& style) {
  std::string sets;
  for (const std::string& set : change.set) sets += (sets.empty() ? "--set '" : " --set '") + set + "'";
  return fmt::format("  {} {}: {}  ({}{})\n", change.fits ? style.green("✓") : style.red("✗"), change.what,
                     style.bold(sets), bytes_text(change.total_bytes), change.fits ? "" : ", still too much");
}

std::string verdict_text(const Plan& plan, const Style& style) {
  if (plan.fits) return style.green("fits") + "\n";
  std::string out = style.red("does not fit") + fmt::format(": {} short\n", bytes_text(plan.bytes_short));
  for (const auto& [device, bytes] : plan.workable_limits)
    out += fmt::format("  it would fit with {} on {}\n", limit_text(bytes), device);
  if (plan.changes.empty()) return out + "no smaller setting is known: choose a smaller model\n";
  out += "what would change that:\n";
  for (const plan::Change& change : plan.changes) out += change_text(change, style);
  if (!can_be_made_to_fit(plan))
    out +=
        "none of these is enough: raise max_memory or max_gpu_memory where they are the limit, or choose a "
        "smaller model\n";
  return out;
}

OrderedJson device_json(const DevicePlan& device) {
  OrderedJson out;
  out["name"] = device.name;
  out["kind"] = device.kind;
  out["limit_bytes"] = device.limit_bytes;
  out["weights_bytes"] = device.weights_bytes;
  out["quant_metadata_bytes"] = device.quant_metadata_bytes;
  out["kv_bytes"] = device.kv_bytes;
  out["workspace_bytes"] = device.workspace_bytes;
  out["staging_bytes"] = device.staging_bytes;
  out["process_bytes"] = device.process_bytes;
  out["total_bytes"] = device.total_bytes();
  return out;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> compressed_map(
    const std::vector<std::pair<std::string, std::string>>& device_map) {
  std::vector<std::pair<std::string, std::string>> out;
  for (size_t i = 0; i < device_map.size();) {
    const auto& [module, device] = device_map[i];
    const std::optional<NumberedModule> first = numbered(module);
    size_t end = i + 1;
    while (first && end < device_map.size() && device_map[end].second == device) {
      const std::optional<NumberedModule> next = numbered(device_map[end].first);
      if (!next || next->prefix != first->prefix || next->number != first->number + (end - i)) break;
      ++end;
    }
    out.emplace_back(end == i + 1 ? module : fmt::format("{}-{}", module, first->number + (end - i) - 1),
                     device);
    i = end;
  }
  return out;
}

OrderedJson plan_json(const Plan& plan) {
  OrderedJson out;
  out["fits"] = plan.fits;
  out["devices"] = OrderedJson::array();
  for (const DevicePlan& device : plan.devices) out["devices"].push_back(device_json(device));
  out["device_map"] = OrderedJson::object();
  for (const auto& [module, device] : plan.device_map) out["device_map"][module] = device;
  out["max_context"] = plan.max_context;
  out["bytes_short"] = plan.bytes_short;
  out["workable_limits"] = OrderedJson::object();
  for (const auto& [device, bytes] : plan.workable_limits) out["workable_limits"][device] = bytes;
  out["downgrades"] = OrderedJson::array();
  for (const plan::Downgrade& down : plan.downgrades)
    out["downgrades"].push_back(
        {{"what", down.what}, {"from", down.from}, {"to", down.to}, {"why", down.why}});
  out["changes"] = OrderedJson::array();
  for (const plan::Change& change : plan.changes)
    out["changes"].push_back({{"what", change.what},
                              {"set", change.set},
                              {"total_bytes", change.total_bytes},
                              {"fits", change.fits}});
  out["dtype"] = torch_name(plan.dtype);
  out["dtype_source"] = plan.dtype_source;
  out["context_tokens"] = plan.limits.context_tokens;
  out["context_source"] = plan.context_source;
  out["lm_head_screening_bytes"] = plan.head_screen_bytes;
  out["placement"] = plan.strategy;
  out["virtual_devices"] = plan.is_virtual;
  out["threads"] = plan.limits.threads;
  out["isa"] = plan.isa;
  out["attention"] = plan.attention;
  return out;
}

std::string plan_text(const Plan& plan, const Style& style, uint32_t columns) {
  std::string out =
      fmt::format("{} (from {}), {} tokens of context ({}), {} threads, {} kernels, {} attention\n\n",
                  torch_name(plan.dtype), plan.dtype_source, plan.limits.context_tokens, plan.context_source,
                  plan.limits.threads, plan.isa, plan.attention);
  for (const DevicePlan& device : plan.devices) out += device_text(device, style, columns) + "\n";
  for (const auto& [modules, device] : compressed_map(plan.device_map))
    out += fmt::format("  {} -> {}\n", modules, device);
  out += fmt::format("\nlargest context that fits: {} tokens\n", plan.max_context);
  if (plan.head_screen_bytes > 0)
    out += fmt::format("LM head screened by an int8 copy: {} of the workspace\n",
                       bytes_text(plan.head_screen_bytes));
  for (const plan::Downgrade& down : plan.downgrades)
    out +=
        fmt::format("{} {}: {} -> {} ({})\n", style.yellow("note:"), down.what, down.from, down.to, down.why);
  return out + verdict_text(plan, style);
}

}  // namespace rhapsode::cli
