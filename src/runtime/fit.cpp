#include "runtime/fit.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "plan/footprint.h"
#include "runtime/divergence.h"
#include "runtime/generate.h"

namespace rhapsode::runtime {
namespace {

using arch::StoredKind;
using config::Quantization;
using plan::Bits;
using plan::index_of;

// Left free of the budget: a process is never twice of the same size.
constexpr uint64_t kSpareBytes = 1 << 20;

// Of the text, for each group: they are many, and their order is what matters. Whole models take all of it.
constexpr uint64_t kGroupTokens = 256;

bool chooses_fp4(const config::ModelEntry& entry) {
  if (entry.quantization && entry.quantization->value == Quantization::fp4) return true;
  const auto& type = entry.quantization_config.bnb_4bit_quant_type;
  return type && type->value == "fp4";
}

std::vector<std::string> skipped_by(const config::ModelEntry& entry) {
  const auto& list = entry.quantization_config.llm_int8_skip_modules;
  return list ? list->value : std::vector<std::string>{};
}

void require_plain_weights(const Assembly& assembly) {
  const arch::ModelTensors& tensors = assembly.tensors;
  const bool ternary =
      !tensors.layers.empty() && tensors.layers.front().o.parts.front().kind != arch::LinearKind::dense;
  if (!ternary && assembly.architecture.spec.stored.kind == StoredKind::none) return;
  throw Error(ErrorKind::unsupported, "already-quantized", "the checkpoint's weights are quantized already")
      .in(assembly.directory)
      .want("a checkpoint in float32, float16 or bfloat16")
      .hint("there is nothing left to choose: `plan` says what it needs");
}

// The assembly's entry, and what else `plan` looks at, while other formats are tried; the first one comes
// back at the end.
class Trial {
 public:
  Trial(Assembly& assembly, std::optional<uint64_t> process_bytes)
      : assembly_(assembly),
        entry_(assembly.config.models.at(assembly.config.active_model)),
        before_(entry_),
        machine_(assembly.machine),
        packed_cache_(assembly.packed_cache) {
    size_ = typical_request_size(assembly);
    process_bytes_ = process_bytes.value_or(process_bytes_of(assembly));
  }
  ~Trial() { restore(); }
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  const config::ModelEntry& before() const { return before_; }
  Quantization four_bit() const { return chooses_fp4(before_) ? Quantization::fp4 : Quantization::nf4; }

  // What `plan` would say of the entry with this recipe.
  plan::Plan plan_of(const plan::Recipe& recipe) {
    restore();
    plan::apply_recipe(recipe, entry_);
    plan::Plan plan = make_plan(assembly_, std::nullopt, size_.sequences, size_.logits_rows, process_bytes_,
                                size_.choice_bytes);
    restore();
    return plan;
  }

  // The plan to measure by: the model alone in this machine's memory, whatever the entry says of devices.
  plan::Plan measuring_plan(const plan::Recipe& recipe, uint64_t context) {
    restore();
    plan::apply_recipe(recipe, entry_);
    entry_.device_map.reset();
    entry_.max_gpu_memory.reset();
    entry_.max_memory.clear();
    entry_.devices.reset();
    entry_.accounting.reset();
    assembly_.machine.reset();
    assembly_.packed_cache.clear();  // formats that are tried are not worth keeping
    return make_plan(assembly_, context, 1,
                     static_cast<uint32_t>(std::min<uint64_t>(context, plan::kChunkTokens)));
  }

  void restore() {
    entry_ = before_;
    assembly_.machine = machine_;
    assembly_.packed_cache = packed_cache_;
  }

  void keep(const plan::Recipe& recipe) {
    restore();
    plan::apply_recipe(recipe, entry_);
    before_ = entry_;
  }

 private:
  Assembly& assembly_;
  config::ModelEntry& entry_;
  config::ModelEntry before_;
  std::optional<config::Machine> machine_;
  std::string packed_cache_;
  RequestSize size_{};
  uint64_t process_bytes_ = 0;
};

// A group's matrices from another load of the same model; what they point to must stay.
void take_group(model::LayerWeights& to, const model::LayerWeights& from, bool attention) {
  if (attention) {
    to.qkv = from.qkv;
    to.o = from.o;
  } else {
    to.up = from.up;
    to.down = from.down;
  }
}

struct Candidate {
  std::vector<Bits> bits;
  plan::Recipe recipe;
  plan::Plan plan;
};

class Fitter {
 public:
  Fitter(Assembly& assembly, const FitRequest& request)
      : assembly_(assembly),
        request_(request),
        trial_(assembly, request.process_bytes),
        groups_(plan::matrix_groups(assembly.tensors)) {}

  Fit run() {
    plan_uniforms();
    size_groups();
    if (uniform(Bits::plain).fits) {
      uniform(Bits::plain).divergence = 0.0;
      return finish({all(Bits::plain), recipe(all(Bits::plain)), plan_of(Bits::plain)}, 0.0);
    }
    require_smallest();
    total_tokens_ = (3 + spaces().size()) * request_.ids.size() + 2 * groups_.size() * group_tokens();
    const Divergence divergence = measure_groups();
    return choose(divergence);
  }

 private:
  std::vector<Bits> all(Bits bits) const { return std::vector<Bits>(groups_.size(), bits); }
  FitUniform& uniform(Bits bits) { return uniforms_[index_of(bits)]; }
  plan::Plan plan_of(Bits bits) { return trial_.plan_of(recipe(all(bits))); }
  uint64_t group_tokens() const { return std::min<uint64_t>(kGroupTokens, request_.ids.size()); }
  uint64_t context() const { return std::min<uint64_t>(request_.window, request_.ids.size()); }

  // A skip list replaces the automatic one in transformers, so the head is named again.
  plan::Recipe recipe(const std::vector<Bits>& bits) const {
    plan::Recipe made = plan::recipe_of(groups_, bits, trial_.four_bit(), skipped_by(trial_.before()));
    const std::string& head = assembly_.tensors.lm_head.parts.front().module;
    if (made.quantization != Quantization::none && !made.skip.empty() &&
        std::find(made.skip.begin(), made.skip.end(), head) == made.skip.end())
      made.skip.push_back(head);
    return made;
  }

  bool within(const plan::Plan& plan) const {
    return plan.fits && plan::total_bytes(plan) + kSpareBytes <= request_.budget_bytes;
  }

  void plan_uniforms() {
    for (const Bits bits : plan::kAllBits) {
      plans_.push_back(plan_of(bits));
      const plan::Plan& plan = plans_.back();
      FitUniform& row = uniforms_.emplace_back();
      row.bits = bits;
      row.total_bytes = plan::total_bytes(plan);
      row.weights_bytes = weights_of(plan);
      row.fits = within(plan);
    }
  }

  void size_groups() {
    for (const plan::MatrixGroup& group : groups_) {
      FitGroup& row = rows_.emplace_back();
      row.name = group.name;
      for (const Bits bits : plan::kAllBits)
        for (const arch::LinearSource* source : plan::sources_of(group, assembly_.tensors))
          row.bytes[index_of(bits)] += plan::linear_bytes(plans_[index_of(bits)].formats, *source);
      row.loss[index_of(Bits::plain)] = 0.0;
    }
  }

  static uint64_t weights_of(const plan::Plan& plan) {
    uint64_t bytes = 0;
    for (const plan::Unit& unit : plan.units) bytes += unit.held_bytes();
    return bytes;
  }

  // Before anything is measured, any loss that falls with the bits does.
  std::vector<std::vector<plan::GroupOption>> options(const std::vector<Bits>& allowed, bool measured) const {
    std::vector<std::vector<plan::GroupOption>> out;
    for (const FitGroup& row : rows_) {
      auto& of_group = out.emplace_back();
      for (const Bits bits : allowed) {
        const size_t i = index_of(bits);
        of_group.push_back({bits, row.bytes[i], measured ? *row.loss[i] : 2.0 - static_cast<double>(i)});
      }
    }
    return out;
  }

  static uint64_t smallest_bytes(const std::vector<std::vector<plan::GroupOption>>& options) {
    uint64_t bytes = 0;
    for (const auto& of_group : options)
      bytes += std::min_element(of_group.begin(), of_group.end(), [](const auto& a, const auto& b) {
                 return a.bytes < b.bytes;
               })->bytes;
    return bytes;
  }

  // What the plan counts beside the groups.
  uint64_t other_bytes() const {
    uint64_t bytes = uniforms_[index_of(Bits::four)].total_bytes;
    for (const FitGroup& row : rows_) bytes -= row.bytes[index_of(Bits::four)];
    return bytes;
  }

  // 4 bits first: where a format has to be common to all, it is the one that reaches furthest down.
  std::vector<std::vector<Bits>> spaces() const {
    if (!request_.portable) return {{Bits::four, Bits::eight, Bits::plain}};
    return {{Bits::four, Bits::plain}, {Bits::eight, Bits::plain}};
  }

  void require_smallest() {
    const auto choices = options(spaces().front(), false);
    const plan::Recipe smallest = recipe(*plan::choose_bits(choices, smallest_bytes(choices)));
    const plan::Plan plan = trial_.plan_of(smallest);
    if (within(plan)) return;
    plan::require_fit(plan);
    const uint64_t total = plan::total_bytes(plan), wanted = total + kSpareBytes;
    uint64_t kv = 0;
    for (const plan::DevicePlan& device : plan.devices) kv += device.kv_bytes;
    throw Error(ErrorKind::does_not_fit, "does-not-fit",
                fmt::format("no recipe fits: {} bytes short", wanted - request_.budget_bytes))
        .at("--fit")
        .saw(
            fmt::format("at least {} bytes: weights {}, KV cache {} for {} tokens, workspace and process {}; "
                        "{} more are left free",
                        total, weights_of(plan), kv, plan.limits.context_tokens,
                        total - weights_of(plan) - kv, kSpareBytes))
        .want(fmt::format("at most {} bytes", request_.budget_bytes))
        .hint(fmt::format("--fit {} works; a smaller max_context or kv_cache_dtype: "
                          "int8 leave more to the weights",
                          wanted + kSpareBytes));
  }

  Session load(const plan::Recipe& recipe) {
    const plan::Plan plan = trial_.measuring_plan(recipe, context());
    return Session(assembly_, plan, 1, [&](uint64_t, uint64_t) { report(0); });
  }

  void report(uint64_t tokens) {
    done_tokens_ += tokens;
    if (request_.progress) request_.progress(done_tokens_, total_tokens_);
  }

  // The unquantized model and one in 8 bits lie in memory side by side.
  void require_room() {
    const uint64_t bytes = plan::total_bytes(trial_.measuring_plan(recipe(all(Bits::plain)), context())) +
                           plan::total_bytes(trial_.measuring_plan(recipe(all(Bits::eight)), context())) +
                           Divergence::bytes(request_.ids.size(), assembly_.architecture.spec.vocab_size);
    trial_.restore();
    if (bytes <= assembly_.inventory.available_bytes) return;
    throw Error(ErrorKind::does_not_fit, "does-not-fit",
                "measuring needs the unquantized model and a quantized one in memory")
        .at("--fit")
        .saw(fmt::format("{} bytes needed", bytes))
        .want(fmt::format("at most {} bytes", assembly_.inventory.available_bytes))
        .hint("choose on a larger machine: the recipe holds everywhere");
  }

  Divergence measure_groups() {
    require_room();
    Session plain = load(recipe(all(Bits::plain)));
    const std::vector<model::LayerWeights> kept = plain.weights().layers;
    Divergence divergence(plain, request_.ids, context(), [&](uint64_t tokens) { report(tokens); });
    for (const Bits bits : {Bits::four, Bits::eight}) {
      Session quantized = load(recipe(all(bits)));
      std::vector<model::LayerWeights>& layers = plain.weights().layers;
      for (const plan::MatrixGroup& group : groups_)
        take_group(layers[group.layer], quantized.weights().layers[group.layer], group.attention);
      uniform(bits).divergence = divergence.of(plain, divergence.tokens());
      layers = kept;
      for (size_t g = 0; g < groups_.size(); ++g) {
        const size_t layer = groups_[g].layer;
        take_group(layers[layer], quantized.weights().layers[layer], groups_[g].attention);
        rows_[g].loss[index_of(bits)] = divergence.of(plain, group_tokens());
        layers[layer] = kept[layer];
      }
    }
    return divergence;
  }

  // The best of a space whose bytes the planner confirms.
  std::optional<Candidate> search(const std::vector<Bits>& space) {
    const auto choices = options(space, true);
    const uint64_t beside = other_bytes() + kSpareBytes;
    uint64_t left = request_.budget_bytes - std::min(request_.budget_bytes, beside);
    for (;;) {
      const std::optional<std::vector<Bits>> bits = plan::choose_bits(choices, left);
      if (!bits) return std::nullopt;
      Candidate candidate{*bits, recipe(*bits), {}};
      candidate.plan = trial_.plan_of(candidate.recipe);
      if (within(candidate.plan)) return candidate;
      const uint64_t total = plan::total_bytes(candidate.plan) + kSpareBytes;
      const uint64_t over =
          std::max({total - std::min(total, request_.budget_bytes), candidate.plan.bytes_short, uint64_t{1}});
      left -= std::min(left, over);
    }
  }

  Fit choose(const Divergence& divergence) {
    std::optional<Candidate> best;
    double least = 0;
    const auto consider = [&](Candidate candidate, double measured) {
      if (best && measured >= least) return;
      best = std::move(candidate);
      least = measured;
    };
    for (const Bits bits : {Bits::four, Bits::eight})
      if (uniform(bits).fits)
        consider({all(bits), recipe(all(bits)), plans_[index_of(bits)]}, *uniform(bits).divergence);
    for (const std::vector<Bits>& space : spaces()) {
      std::optional<Candidate> candidate = search(space);
      if (!candidate) continue;
      Session session = load(candidate->recipe);
      const double measured = divergence.of(session, divergence.tokens());
      consider(std::move(*candidate), measured);
    }
    trial_.restore();
    if (!best)  // what fitted before the measuring does not any more
      throw Error(ErrorKind::does_not_fit, "does-not-fit", "no recipe fits any more")
          .at("--fit")
          .hint("the machine's memory has changed meanwhile: try again");
    return finish(std::move(*best), least);
  }

  Fit finish(Candidate chosen, double divergence) {
    Fit out;
    out.total_bytes = plan::total_bytes(chosen.plan);
    out.weights_bytes = weights_of(chosen.plan);
    out.divergence = divergence;
    for (size_t g = 0; g < groups_.size(); ++g) rows_[g].bits = chosen.bits[g];
    out.groups = rows_;
    out.uniforms = uniforms_;
    trial_.keep(chosen.recipe);
    out.recipe = std::move(chosen.recipe);
    out.plan = std::move(chosen.plan);
    out.formats = module_formats(assembly_);
    return out;
  }

  Assembly& assembly_;
  const FitRequest& request_;
  Trial trial_;
  std::vector<plan::MatrixGroup> groups_;
  std::vector<FitGroup> rows_;
  std::vector<plan::Plan> plans_;  // of the uniforms
  std::vector<FitUniform> uniforms_;
  uint64_t done_tokens_ = 0, total_tokens_ = 0;
};

std::string list_text(const std::vector<std::string>& entries) {
  std::string text;
  for (const std::string& entry : entries) {
    std::string quoted;
    for (const char c : entry) quoted += c == '\'' ? "''" : std::string(1, c);
    text += fmt::format("{}'{}'", text.empty() ? "" : ", ", quoted);
  }
  return "[" + text + "]";
}

}  // namespace

std::map<std::string, std::string> module_formats(const Assembly& assembly) {
  const plan::Formats formats = make_plan(assembly, 1).formats;
  std::map<std::string, std::string> out;
  const auto add = [&](const arch::LinearSource& source) {
    for (const arch::LinearPart& part : source.parts) {
      const plan::WeightFormat format = formats.of(part, source.cols);
      out[part.module] =
          quant::is_dense(format.format) ? torch_name(format.compute) : quant::format_name(format.format);
    }
  };
  for (const arch::LayerTensors& layer : assembly.tensors.layers)
    for (const arch::LinearSource* source : {&layer.qkv, &layer.o, &layer.up, &layer.down}) add(*source);
  add(assembly.tensors.lm_head);
  return out;
}

Fit fit(Assembly& assembly, const FitRequest& request) {
  require_plain_weights(assembly);
  return Fitter(assembly, request).run();
}

std::vector<std::pair<std::string, std::string>> recipe_keys(const plan::Recipe& recipe,
                                                             const config::ModelEntry& before) {
  const bool eight = recipe.quantization == Quantization::int8;
  const bool four = recipe.quantization != Quantization::none && !eight;
  std::vector<std::pair<std::string, std::string>> keys;
  keys.emplace_back("quantization", eight ? "\"8bit\"" : four ? "\"4bit\"" : "null");
  const auto follow = [&](const auto& written, const char* key, bool value) {
    if (written) keys.emplace_back(key, value ? "true" : "false");
  };
  const config::QuantizationConfig& more = before.quantization_config;
  follow(before.load_in_8bit, "load_in_8bit", eight);
  follow(before.load_in_4bit, "load_in_4bit", four);
  follow(more.load_in_8bit, "quantization_config.load_in_8bit", eight);
  follow(more.load_in_4bit, "quantization_config.load_in_4bit", four);
  const auto list = [&](const auto& written, const char* key, const std::vector<std::string>& entries) {
    if (!entries.empty() || (written && !written->value.empty()))
      keys.emplace_back(std::string("quantization_config.") + key, list_text(entries));
  };
  list(more.llm_int8_skip_modules, "llm_int8_skip_modules", recipe.skip);
  list(more.load_in_8bit_modules, "load_in_8bit_modules", recipe.eight_bit);
  return keys;
}

}  // namespace rhapsode::runtime
