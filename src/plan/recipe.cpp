#include "plan/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace rhapsode::plan {
namespace {

using config::Quantization;

std::string parent_of(const std::string& module) {
  const size_t dot = module.rfind('.');
  return dot == std::string::npos ? "" : module.substr(0, dot);
}

// The module that holds all matrices of the group, or the matrices one by one where that module is the block
// itself and holds others too.
MatrixGroup group_of(const arch::ModelTensors& tensors, size_t layer, bool attention) {
  const std::string& block = tensors.layers[layer].module;
  MatrixGroup group{block + (attention ? " attention" : " feed-forward"), layer, attention, {}};
  std::vector<std::string> modules;
  for (const arch::LinearSource* source : sources_of(group, tensors))
    for (const arch::LinearPart& part : source->parts)
      if (std::find(modules.begin(), modules.end(), part.module) == modules.end())
        modules.push_back(part.module);
  const std::string parent = parent_of(modules.front());
  const bool shared = std::all_of(modules.begin(), modules.end(),
                                  [&](const std::string& module) { return parent_of(module) == parent; });
  if (!shared || parent == block || parent.empty()) {
    group.entries = std::move(modules);
    return group;
  }
  group.name = parent;
  group.entries = {parent};
  return group;
}

struct Step {
  size_t group = 0, option = 0;
  uint64_t bytes = 0;
  double gain = 0;
  bool better_than(const Step& other) const {
    return gain * static_cast<double>(other.bytes) > other.gain * static_cast<double>(bytes);
  }
};

// The smallest option, of equals the one that loses least.
size_t smallest(const std::vector<GroupOption>& options) {
  size_t best = 0;
  for (size_t i = 1; i < options.size(); ++i)
    if (std::pair(options[i].bytes, options[i].loss) < std::pair(options[best].bytes, options[best].loss))
      best = i;
  return best;
}

// A name with its first number between dots taken out: {before, number, after}; number empty where there is
// none.
struct Numbered {
  std::string before, number, after;
};

Numbered split_at_number(const std::string& name) {
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string piece = name.substr(begin, end - begin);
    if (!piece.empty() && piece.find_first_not_of("0123456789") == std::string::npos)
      return {name.substr(0, begin), piece, name.substr(end)};
    begin = end + 1;
  }
  return {name, "", ""};
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\.^$*+?{}[]|()").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

std::array<const arch::LinearSource*, 2> sources_of(const MatrixGroup& group,
                                                    const arch::ModelTensors& tensors) {
  const arch::LayerTensors& layer = tensors.layers[group.layer];
  if (group.attention) return {&layer.qkv, &layer.o};
  return {&layer.up, &layer.down};
}

std::vector<MatrixGroup> matrix_groups(const arch::ModelTensors& tensors) {
  std::vector<MatrixGroup> groups;
  for (size_t layer = 0; layer < tensors.layers.size(); ++layer)
    for (const bool attention : {true, false}) groups.push_back(group_of(tensors, layer, attention));
  return groups;
}

std::optional<std::vector<Bits>> choose_bits(const std::vector<std::vector<GroupOption>>& groups,
                                             uint64_t budget_bytes) {
  std::vector<size_t> chosen;
  uint64_t left = budget_bytes;
  for (const std::vector<GroupOption>& options : groups) {
    chosen.push_back(smallest(options));
    const uint64_t bytes = options[chosen.back()].bytes;
    if (bytes > left) return std::nullopt;
    left -= bytes;
  }
  for (;;) {
    std::optional<Step> best;
    for (size_t g = 0; g < groups.size(); ++g) {
      const GroupOption& now = groups[g][chosen[g]];
      for (size_t o = 0; o < groups[g].size(); ++o) {
        const GroupOption& other = groups[g][o];
        if (other.bytes < now.bytes || other.bytes - now.bytes > left || other.loss >= now.loss) continue;
        const Step step{g, o, other.bytes - now.bytes, now.loss - other.loss};
        if (!best || step.better_than(*best)) best = step;
      }
    }
    if (!best) break;
    chosen[best->group] = best->option;
    left -= best->bytes;
  }
  std::vector<Bits> bits;
  for (size_t g = 0; g < groups.size(); ++g) bits.push_back(groups[g][chosen[g]].bits);
  return bits;
}

Recipe recipe_of(const std::vector<MatrixGroup>& groups, const std::vector<Bits>& bits, Quantization four_bit,
                 const std::vector<std::string>& skipped_before) {
  const auto uses = [&](Bits wanted) { return std::find(bits.begin(), bits.end(), wanted) != bits.end(); };
  Recipe recipe;
  recipe.skip = skipped_before;
  if (uses(Bits::four))
    recipe.quantization = four_bit;
  else if (uses(Bits::eight))
    recipe.quantization = Quantization::int8;
  std::vector<std::string> plain, eight;
  for (size_t g = 0; g < groups.size(); ++g) {
    std::vector<std::string>* list = nullptr;
    if (bits[g] == Bits::plain && recipe.quantization != Quantization::none) list = &plain;
    if (bits[g] == Bits::eight && recipe.quantization == four_bit) list = &eight;
    if (list != nullptr) list->insert(list->end(), groups[g].entries.begin(), groups[g].entries.end());
  }
  for (std::string& entry : merged_entries(plain)) recipe.skip.push_back(std::move(entry));
  recipe.eight_bit = merged_entries(eight);
  return recipe;
}

void apply_recipe(const Recipe& recipe, config::ModelEntry& entry) {
  entry.quantization = config::Value<Quantization>{recipe.quantization, {}};
  const auto set = [](auto& slot, const std::vector<std::string>& list) {
    slot.reset();
    if (!list.empty()) slot = config::Value<std::vector<std::string>>{list, {}};
  };
  set(entry.quantization_config.llm_int8_skip_modules, recipe.skip);
  set(entry.quantization_config.load_in_8bit_modules, recipe.eight_bit);
}

std::vector<std::string> merged_entries(const std::vector<std::string>& names) {
  std::vector<std::pair<Numbered, std::vector<std::string>>> kinds;
  for (const std::string& name : names) {
    Numbered parts = split_at_number(name);
    const auto same = std::find_if(kinds.begin(), kinds.end(), [&](const auto& kind) {
      return !parts.number.empty() && kind.first.before == parts.before && kind.first.after == parts.after &&
             !kind.first.number.empty();
    });
    if (same != kinds.end())
      same->second.push_back(parts.number);
    else
      kinds.push_back({parts, {parts.number}});
  }
  std::vector<std::string> entries;
  for (const auto& [parts, numbers] : kinds) {
    if (parts.number.empty())
      entries.push_back(escaped(parts.before));
    else if (numbers.size() == 1)
      entries.push_back(escaped(parts.before + parts.number + parts.after));
    else
      entries.push_back(
          fmt::format("{}({}){}", escaped(parts.before), fmt::join(numbers, "|"), escaped(parts.after)));
  }
  return entries;
}

}  // namespace rhapsode::plan
